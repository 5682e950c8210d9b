"""What was measured of quality, kept between runs: a row for each upscaler on each subject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.metrics import METRICS
from benchmarks.quality.subjects import Subject
from benchmarks.quality.upscalers import Upscaler
from vidsr.errors import SourceError

METHOD = 1  # raise it when the same files would give other figures
KEPT = ("scale", "subject", "name", "group", "subject_digest")  # of the baseline's rows, and the metrics
Row = dict[str, Any]
Key = tuple[int, str, str]


class Store:
    """Rows and pictures as JSON. path: of an earlier run's, which is taken up unless `fresh`. head: what is said of a run.

    SourceError when there is a file that is none of ours.
    """

    def __init__(self, path: Path, head: dict[str, Any], fresh: bool = False) -> None:
        self.path, self.head = path, head
        earlier = {} if fresh or not path.exists() else _read(path)
        if earlier.get("method") != METHOD:
            earlier = {}
        self.rows: dict[Key, Row] = {_key(row): row for row in earlier.get("rows", [])}
        self.pictures: dict[str, Any] = dict(earlier.get("pictures", {}))
        self.sheet: list[str] = list(earlier.get("sheet", []))
        self.baseline: dict[str, Any] = dict(earlier.get("baseline", {}))
        self._order: list[str] = []
        self._subjects: list[str] = []

    def forget_changed(self, upscalers: Sequence[Upscaler], subjects: Sequence[Subject]) -> None:
        """Drop the rows of other weights than there are, and on other pictures than `subjects` have now.

        upscalers: all whose rows are kept, in the order in which they are shown; so are subjects.
        """
        known = {upscaler.name: upscaler for upscaler in upscalers}
        now = {(subject.scale, subject.name): subject.digest for subject in subjects}
        for key, row in list(self.rows.items()):
            upscaler = known.get(row["name"])
            fits = upscaler and row["scale"] in upscaler.scales and row["upscaler_digest"] == upscaler.digest
            if not fits or now.get(key[:2], row["subject_digest"]) != row["subject_digest"]:
                del self.rows[key]
        earlier = sorted({subject for _, subject, _ in self.rows} - {subject.name for subject in subjects})
        self._subjects = [*dict.fromkeys(subject.name for subject in subjects), *earlier]
        self._order = list(known)

    def compare(self, name: str, rows: Sequence[Row]) -> None:
        """Take `rows`, of the file `name`, for the baseline; none: it stays the one there was."""
        if rows:
            means = [{metric: {"mean": row[metric]["mean"]} for metric in METRICS if "mean" in row.get(metric, {})} for row in rows]
            self.baseline = {"file": name, "rows": [{key: row[key] for key in KEPT} | found for row, found in zip(rows, means)]}

    def missing(self, subject: Subject, upscaler: Upscaler, scored: bool) -> bool:
        """Whether that must be measured, also when an earlier version did not know all metrics. scored: SSIMULACRA2 can be
        had, so that a row without it is no longer whole."""
        row = self.rows.get((subject.scale, subject.name, upscaler.name))
        return row is None or not set(METRICS) <= set(row) or (scored and "mean" not in row["ssimulacra2"])

    def add(self, row: Row) -> None:
        self.rows[_key(row)] = row

    def of(self, subject: Subject) -> list[Row]:
        return [row for row in self.in_order() if (row["scale"], row["subject"]) == (subject.scale, subject.name)]

    def in_order(self) -> list[Row]:
        """All rows: by scale, subject and upscaler."""
        def place(row: Row) -> tuple[int, int, int]:
            return -row["scale"], self._subjects.index(row["subject"]), self._order.index(row["name"])

        return sorted(self.rows.values(), key=place)

    def data(self) -> dict[str, Any]:
        """What is written."""
        return {"method": METHOD, **self.head, "pictures": self.pictures, "sheet": self.sheet, "baseline": self.baseline, "rows": self.in_order()}


def _key(row: Row) -> Key:
    return row["scale"], row["subject"], row["name"]


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run's file. SourceError when it is none of ours."""
    return list(_read(path)["rows"])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        for row in found["rows"]:
            _key(row), row["upscaler_digest"], row["subject_digest"], row["ssimulacra2"]
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path}: not what this benchmark wrote; delete it, or use --fresh") from error
