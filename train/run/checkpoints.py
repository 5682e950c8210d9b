"""The checkpoints of a run: written whole or not at all, the newest that can be read is the one to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from train.options import Options
from vidsr.files import publish


class Checkpoints:
    """The files step-N.pt in `folder`, of which the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*.pt"), reverse=True)

    def save(self, state: Mapping[str, Any], step: int) -> Path:
        """Write `state`, then delete what is older than the newest `keep`. OSError leaves all that was there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08}.pt"
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("wb") as file:
                torch.save(dict(state), file)
            publish(partial, path)
        except (OSError, RuntimeError) as error:  # torch's zip writer makes a RuntimeError of a full disk
            partial.unlink(missing_ok=True)
            reason = error if isinstance(error, OSError) else str(error).splitlines()[0]
            raise OSError(f"{path}: could not be written ({reason})") from error
        for old in self.paths()[self.keep :]:
            old.unlink()
        return path

    def load(self) -> tuple[dict[str, Any], Path, list[str]]:
        """The newest state that can be read, its file, and a line for each newer file that could not be.

        ValueError when there is none. Reads tensors and plain numbers only, never pickled code.
        """
        damaged: list[str] = []
        for path in self.paths():
            try:
                return torch.load(path, weights_only=True, map_location="cpu"), path, damaged
            except Exception as error:  # whatever a damaged file makes torch raise
                damaged.append(f"{path}: cannot be read ({str(error).splitlines()[0]})")
        raise ValueError("; ".join(damaged) or f"{self.folder}: no checkpoint there")


def read_options(run: Path) -> Options:
    """The options a run was started with. ValueError when the folder holds no run."""
    import json

    path = run / "options.json"
    try:
        return Options.from_json(json.loads(path.read_text()))
    except OSError:
        raise ValueError(f"{run}: no run there (it has no options.json)") from None
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
