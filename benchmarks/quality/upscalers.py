"""Who enlarges what quality is measured on: bicubic, models of vidsr, other upscalers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.common.material import SCALE, Material, as_encoded, as_picture
from benchmarks.peers.contenders import FrameByFrame, Ours, PeerRun, check_picture, save_pictures
from benchmarks.peers.folder import ENGINE, PEERS, environment, install
from benchmarks.quality.subjects import enlarged
from vidsr.backends.base import Precision
from vidsr.errors import UsageError, VidsrError
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import find_model, installed_models, load_generator, weights_sha256

BICUBIC = "bicubic"
PRECISION: Precision = "fp32"  # the same pictures on every CPU


@dataclass(frozen=True)
class Upscaler:
    """scales: at which it takes part. digest: of its weights or packages. native: the scale its weights are for; 0 for any.

    open: what enlarges a material, closed after that. Unusable or a VidsrError where it cannot.
    """

    name: str
    title: str
    scales: tuple[int, ...]
    digest: str
    open: Callable[[Material, Path], FrameByFrame]
    native: int = SCALE


class _Bicubic(FrameByFrame):
    """PIL's bicubic interpolation of R'G'B', and then as a video would have it."""

    def __init__(self, material: Material) -> None:
        super().__init__(BICUBIC, "floor", material, {})

    def enlarge(self, i: int) -> float:
        batch, scale = self.material.batches[i], self.material.scale
        lowres = as_picture(batch.frames[0].planes, batch.format, batch.color)
        highres = enlarged(lowres, (batch.height * scale, batch.width * scale))
        self.result = as_encoded(highres, batch.format, batch.color)
        return 0.0

    def picture(self) -> np.ndarray:
        return self.result


def bicubic() -> Upscaler:
    return Upscaler(BICUBIC, BICUBIC, (4, 2), "", lambda material, work: _Bicubic(material), 0)


def our_models(names: Sequence[str]) -> tuple[list[Upscaler], list[str]]:
    """The installed models, and those of `names` (or files) that are none, and a line for each that is left out.

    Weights that enlarge by 4 take part at 4x, and Compact's, which are for episodes, also at 2x, reduced by area; weights
    that enlarge by 2 at 2x. UsageError for names that are unknown or used twice.
    """
    named = [find_model(name) for name in names]
    installed = installed_models()
    shipped = {info.path.resolve() for info in installed}
    found: dict[str, Upscaler] = {}
    lines = []
    for info in [*installed, *(info for info in named if info.path.resolve() not in shipped)]:
        if info.name in (BICUBIC, *PEERS, *found):
            raise UsageError(f"--models: two upscalers are called {info.name!r}: rename {info.path}")
        try:
            generator = load_generator(info.path)
        except VidsrError as error:
            lines.append(str(error))
            continue
        native = generator.scale
        scales = {4: (4, 2) if isinstance(generator, Compact) else (4,), 2: (2,)}.get(native)
        if scales is None:
            lines.append(f"{info.path}: enlarges by {native}; those that do by 4 or by 2 are measured")
            continue
        digest = weights_sha256(info.path)
        found[info.name] = Upscaler(info.name, info.name, scales, digest, _opener(info.path), native)
    return [found[name] for name in sorted(found)], lines


def _opener(path: Path) -> Callable[[Material, Path], FrameByFrame]:
    return lambda material, work: Ours(str(path), material, PRECISION)


def peer(name: str, folder: Path, threads: int) -> Upscaler:
    """An upscaler of others, installed into `folder` when it is first opened."""
    packages = (*ENGINE, PEERS[name].requirement)
    ready: list[Path] = []

    def open(material: Material, work: Path) -> FrameByFrame:
        if not ready:
            python = environment(folder)
            install(python, packages)
            _try(name, material, threads, python, work)
            ready.append(python)
        return _peer_run(name, material, threads, ready[0], work)

    return Upscaler(name, f"{PEERS[name].title} ({PEERS[name].note})", (4,), " ".join(packages), open)


def _peer_run(name: str, material: Material, threads: int, python: Path, work: Path) -> PeerRun:
    pictures = save_pictures(material, work / f"{name}-frames.npy")
    return PeerRun(name, material, threads, python, pictures, work, "default")


def _try(name: str, material: Material, threads: int, python: Path, work: Path) -> None:
    """Unusable when the peer's first picture is none of the frame."""
    floor = _Bicubic(material)
    floor.enlarge(0)
    run = _peer_run(name, material, threads, python, work)
    check_picture(run, floor.picture())
    run.close()


