"""Weights for vidsr, with what is known about them written inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from train.evaluate import Metrics
from vidsr.checkpoint import save_generator


def export(
    generator: nn.Module,
    path: Path,
    options: Mapping[str, Any],
    steps: int,
    minutes: float,
    metrics: Mapping[str, Metrics],
    bicubic: Mapping[str, Metrics],
) -> None:
    """Write `generator` and its history. metrics, bicubic: by degradation, see train.evaluate.

    options: of the run; its `metadata` (name, data, licence, attribution) goes in as it is.
    """
    measured = {name: {"generator": metrics[name], "bicubic": bicubic[name]} for name in metrics}
    metadata = {
        "steps": str(steps),
        "minutes": f"{minutes:.1f}",
        "degrade": str(options["degrade"]),
        "loss": str(options["loss"]),
        "metrics": json.dumps(measured),
        **options["metadata"],
    }
    save_generator(generator, path, metadata)
