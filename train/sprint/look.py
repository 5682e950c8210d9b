"""What a sprint leaves behind: a log, and weights that are always the newest."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from train.generators.branches import merged
from train.judge.validation import Figures
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import save_generator


class Log:
    """log.jsonl in the folder: a line for each event, there as soon as it is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / "log.jsonl").open("a", encoding="utf-8")

    def write(self, **values: Any) -> None:
        self._file.write(json.dumps(values) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def export(average: Compact, path: Path, figures: Figures, bicubic: Figures, metadata: dict[str, str]) -> bool:
    """Write the averaged weights, their branches added up, to `path`, whole or not at all.

    False, and nothing is written, where the weights give no finite pictures. OSError for a full disk.
    """
    if not all(math.isfinite(value) for found in figures.values() for value in found.values()):
        return False
    measured = {name: {"generator": figures[name], "bicubic": bicubic[name]} for name in figures}
    save_generator(merged(average), path, {**metadata, "metrics": json.dumps(measured)})
    return True
