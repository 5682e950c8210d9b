"""vidsr: an anime episode, larger and sharper, with nothing else touched.

    import vidsr

    print(vidsr.probe("episode.mkv").video)
    result = vidsr.upscale("episode.mkv", scale=2, codec="x265")
    assert result.proof.passed

`plan` says what will run before it does; `Upscaler` enlarges arrays, and the frames of a video one by one. Importing
this package imports nothing else until a name is used, and changes nothing of the process it is in.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vidsr.api import (
        ModelInfo,
        Plan,
        Result,
        capabilities,
        installed_models,
        plan,
        probe,
        stream,
        upscale,
        upscale_picture,
        verify,
    )
    from vidsr.choose.options import Options
    from vidsr.errors import (
        BackendError,
        Cancelled,
        EncoderStalled,
        ModelError,
        OutputError,
        ResumeError,
        SourceError,
        UsageError,
        VerifyError,
        VidsrError,
    )
    from vidsr.frames import SourceInfo
    from vidsr.proof.verify import Check, Proof
    from vidsr.report import Report
    from vidsr.run.job import Job, Progress
    from vidsr.upscaler import Picture, Upscaler

__all__ = [
    "BackendError", "Cancelled", "Check", "EncoderStalled", "Job", "ModelError", "ModelInfo", "Options", "OutputError",
    "Picture", "Plan", "Progress", "Proof", "Report", "Result", "ResumeError", "SourceError", "SourceInfo", "Upscaler",
    "UsageError", "VerifyError", "VidsrError", "capabilities", "installed_models", "plan", "probe", "stream", "upscale",
    "upscale_picture", "verify",
]  # fmt: skip

_HOMES = {
    **dict.fromkeys(("Check", "Proof"), "vidsr.proof.verify"), **dict.fromkeys(("Job", "Progress"), "vidsr.run.job"),
    **dict.fromkeys(("Picture", "Upscaler"), "vidsr.upscaler"),
    "Options": "vidsr.choose.options", "Report": "vidsr.report", "SourceInfo": "vidsr.frames",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vidsr' has no attribute {name!r}")
    from vidsr import errors

    home = "vidsr.errors" if hasattr(errors, name) else _HOMES.get(name, "vidsr.api")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
