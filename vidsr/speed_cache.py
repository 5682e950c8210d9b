"""Measured speeds on disk, one small file a user. Whatever is wrong with it, a run only measures again."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vidsr.files import write_whole
from vidsr.speed import Speed

_FORMAT = 1
_DAY = 86400.0
KEPT = 30 * _DAY  # drivers and cooling change
DOUBTED = _DAY / 24  # of what was measured while something else had cores
_LARGEST = 1 << 20  # bytes of the file that are read


class SpeedCache:
    """Speeds by machine and by what was measured.

    path: $VIDSR_CACHE/speeds.json by default, else in the user's cache folder of vidsr. VIDSR_REMEASURE, set to
    anything, has nothing found that another process measured.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = _default_path() if path is None else path
        self._own: set[tuple[str, str]] = set()

    def get(self, machine: str, what: str, seconds: float = 0.0) -> Speed | None:
        """The speed of `what` there, if it can still be believed.

        seconds: how long a measurement may take now; one that was given less than half of that is not enough.
        """
        if os.environ.get("VIDSR_REMEASURE") and (machine, what) not in self._own:
            return None
        entry = self._read().get(machine, {}).get(what)
        if entry is None:
            return None
        speed, quiet = entry
        age = time.time() - speed.when
        # A clock that was set back makes entries from the future: not believed either.
        good = -60 <= age <= (KEPT if quiet else DOUBTED) and speed.given >= seconds / 2
        return speed if good else None

    def put(self, machine: str, what: str, speed: Speed, quiet: bool) -> bool:
        """Keep a speed; False when it cannot be. quiet: whether it was measured with the cores to itself."""
        everything = self._read()
        everything.setdefault(machine, {})[what] = speed, quiet
        self._own.add((machine, what))
        kept = {
            place: {key: asdict(speed) | {"quiet": quiet} for key, (speed, quiet) in found.items()
                    if time.time() - speed.when <= KEPT}
            for place, found in everything.items()
        }  # fmt: skip
        data = {"format": _FORMAT, "machines": {place: found for place, found in kept.items() if found}}
        try:
            if str(self.path).startswith("~"):  # as nobody's home is written
                return False
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(data, indent=1).encode(), b"\n", mode=0o600)
            return True
        except OSError:
            return False

    def entries(self, machine: str) -> dict[str, Speed]:
        """All that was measured on `machine`."""
        return {what: speed for what, (speed, _) in sorted(self._read().get(machine, {}).items())}

    def _read(self) -> dict[str, dict[str, tuple[Speed, bool]]]:
        """{machine: {what: (speed, whether it was quiet)}}; what is damaged is left out."""
        try:
            with open(self.path, "rb") as file:
                raw = json.loads(file.read(_LARGEST))
            machines = raw["machines"] if raw["format"] == _FORMAT else {}
            found: dict[str, dict[str, tuple[Speed, bool]]] = {}
            for machine, entries in machines.items():
                found[machine] = {key: entry for key, value in entries.items() if (entry := _entry(value))}
            return found
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}


def _entry(value: Any) -> tuple[Speed, bool] | None:
    try:
        wall, cpu, given, when = (float(value[name]) for name in ("wall", "cpu", "given", "when"))
        context = None if value["context"] is None else int(value["context"])
        speed = Speed(wall, cpu, given, when, context)
        good = all(math.isfinite(number) for number in (speed.wall, speed.cpu, speed.given, speed.when))
        return (speed, bool(value["quiet"])) if good and speed.wall > 0 and speed.cpu > 0 else None
    except (TypeError, KeyError, ValueError, OverflowError):
        return None


def _default_path() -> Path:
    named = os.environ.get("VIDSR_CACHE")
    if named:
        return Path(os.path.expanduser(named)) / "speeds.json"
    import platformdirs

    return Path(platformdirs.user_cache_dir("vidsr", False)) / "speeds.json"
