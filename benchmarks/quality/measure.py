"""Enlarging, measuring and cropping what is missing, subject after subject."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import click
import numpy as np

from benchmarks.common.machine import describe
from benchmarks.common.material import SCALE, Material
from benchmarks.common.metrics import psnr, ssim
from benchmarks.common.strip import richest, write_strip
from benchmarks.peers.folder import Unusable
from benchmarks.peers.quality import summary
from benchmarks.peers.scorer import open_scorer, scores
from benchmarks.quality.report import label
from benchmarks.quality.sheet import ORIGINAL, Crops, Row, meeting
from benchmarks.quality.store import Store
from benchmarks.quality.subjects import STILLS, WORN_GROUPS, Subject
from benchmarks.quality.ugliness import dirt, raggedness
from benchmarks.quality.upscalers import BICUBIC, Upscaler
from vidsr.errors import VidsrError

SHOWN = (BICUBIC, "animevideov3", "tiny", "tiny-2x", "fast", "fast-2x", "balanced", "balanced-2x", "best", "srwgan-gp-video")
SHOWN_STILLS = 3  # in the picture of the stills


@dataclass(frozen=True)
class Place:
    """Where a crop is: in which material, in which of its pictures, rows and columns."""

    material: int
    picture: int
    rows: slice
    columns: slice

    def of(self, picture: np.ndarray) -> np.ndarray:
        return picture[self.rows, self.columns].copy()


class Measurer:
    """Fills `store`. upscalers: all that may be shown. work: for files in between. folder: of the peers' environment."""

    def __init__(self, store: Store, upscalers: Sequence[Upscaler], work: Path, folder: Path, threads: int) -> None:
        self.store, self.work, self.folder, self.threads = store, work, folder, threads
        self.upscalers = {upscaler.name: upscaler for upscaler in upscalers}
        self.failed: set[str] = set()
        self.scorer: Path | None = None
        self.crops = Crops(store.path.with_name("quality-crops"))

    def run(self, subjects: Sequence[Subject], chosen: Sequence[Upscaler], written: Callable[[], None]) -> None:
        """Measure what is missing of `chosen` on `subjects`, and draw what has changed. written: called after each row."""
        self._open_scorer(subjects, chosen)
        todo = {id(subject): self._todo(subject, chosen) for subject in subjects}
        total, done = sum(map(len, todo.values())), 0
        drawn = drawn_subjects(subjects)
        for subject in subjects:
            name = drawn.get((subject.scale, subject.name))
            if not todo[id(subject)] and (name is None or self._is_drawn(name, subject)):
                continue
            try:
                materials = subject.load()
            except VidsrError as error:
                self._leave_out(str(error))
                done += len(todo[id(subject)])
                continue
            kept = sheeted(subject)
            places = [_meeting(materials)] if kept else _places(materials)
            if kept:
                self.crops.put(places[0].of(materials[0].originals[places[0].picture]), *_original_key(subject))
            crops: dict[str, list[np.ndarray]] = {}
            for upscaler in todo[id(subject)]:
                done += 1
                start = time.perf_counter()
                row = self._measured(upscaler, subject, materials, places, crops)
                if row:
                    if kept:
                        self.crops.put(crops[upscaler.name][0], *_crop_key(row))
                    self.store.add(row)
                    written()
                    click.echo(f"{done} of {total}: {subject.name} to {subject.scale}x, {upscaler.name}: {row['psnr']['mean']:.2f} dB ({time.perf_counter() - start:.0f} s)", err=True)
            if name and not self._is_drawn(name, subject):
                self._draw(name, subject, materials, places, crops)

    def _open_scorer(self, subjects: Sequence[Subject], chosen: Sequence[Upscaler]) -> None:
        if not any(self._todo(subject, chosen, scored=True) for subject in subjects):
            return
        try:
            self.scorer = open_scorer(self.folder)
        except Unusable as error:
            self._leave_out(f"SSIMULACRA2: {error}")

    def _todo(self, subject: Subject, chosen: Sequence[Upscaler], scored: bool | None = None) -> list[Upscaler]:
        able = self.scorer is not None if scored is None else scored
        return [u for u in chosen if subject.scale in u.scales and self.store.missing(subject, u, able)]

    def _leave_out(self, line: str) -> None:
        if line not in self.store.head["left out"]:
            click.echo(f"left out: {line}", err=True)
            self.store.head["left out"].append(line)

    def sheet_rows(self, subjects: Sequence[Subject], names: Sequence[str]) -> list[Row]:
        """The crops of `names`, as far as they were measured, on the worn clips of `subjects`; what is not kept is made."""
        found = []
        for subject in filter(sheeted, subjects):
            rows = {row["name"]: _crop_key(row) for row in self.store.of(subject) if row["name"] in names}
            keys = rows | {ORIGINAL: _original_key(subject)}
            crops = {name: self.crops.get(*key) for name, key in keys.items()}
            try:
                materials = subject.load() if any(c is None for c in crops.values()) else []
            except VidsrError as error:
                self._leave_out(str(error))
                continue
            for name in [name for name, crop in crops.items() if crop is None]:
                place = _meeting(materials)
                try:
                    made = place.of(materials[0].originals[place.picture]) if name == ORIGINAL else self._crops(self.upscalers[name], materials, [place])[0]
                    self.crops.put(made, *keys[name])
                    crops[name] = made
                except (Unusable, VidsrError) as error:
                    self._leave_out(f"{name} in the sheet: {error}")
            found.append(Row(subject.name.replace("_", " "), {name: crop for name, crop in crops.items() if crop is not None}))
        return found

    # --- measuring -------------------------------------------------------------------------------------------------------

    def _measured(
        self, upscaler: Upscaler, subject: Subject, materials: Sequence[Material], places: Sequence[Place],
        crops: dict[str, list[np.ndarray]],
    ) -> dict[str, Any] | None:  # fmt: skip
        """The row of `upscaler` on `subject`, None where it cannot be had. crops: takes what is shown of its pictures."""
        if upscaler.name in self.failed:
            return None
        try:
            pictures = [self._pictures(upscaler, material) for material in materials]
        except (Unusable, VidsrError) as error:
            self._fail(upscaler, error)
            return None
        crops[upscaler.name] = [place.of(pictures[place.material][place.picture]) for place in places]
        pairs = [(original, picture) for material, made in zip(materials, pictures) for original, picture in zip(material.originals, made)]
        labels = [i if subject.name != STILLS else m.source.name for m in materials for i in m.indices]
        return {
            "scale": subject.scale, "subject": subject.name, "group": subject.group, "name": upscaler.name,
            "title": upscaler.title, "native": upscaler.native,
            "upscaler_digest": upscaler.digest, "subject_digest": subject.digest, "measured_on": describe(),
            "pictures": labels,
            "psnr": summary([psnr(a, b) for a, b in pairs]), "ssim": summary([ssim(a, b) for a, b in pairs]),
            "ssimulacra2": self._scores(pairs), "dirt": _known([dirt(a, b) for a, b in pairs], "nothing is flat"),
            "raggedness": _known([raggedness(a, b) for a, b in pairs], "there are no strong edges"),
        }  # fmt: skip

    def _fail(self, upscaler: Upscaler, error: Exception) -> None:
        self.failed.add(upscaler.name)
        self._leave_out(f"{upscaler.title}: {error}")

    def _pictures(self, upscaler: Upscaler, material: Material) -> list[np.ndarray]:
        """One for each of the material's batches."""
        with closing(upscaler.open(material, self.work)) as enlarger:
            made = []
            for i in range(len(material.batches)):
                enlarger.enlarge(i)
                made.append(enlarger.picture())
            return made

    def _scores(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        if self.scorer is None:
            return {"left out": "SSIMULACRA2 cannot be computed here"}
        try:
            return summary(scores(lambda i: pairs[i], len(pairs), self.scorer, self.threads, self.work))
        except Unusable as error:
            return {"left out": str(error)}

    # --- pictures --------------------------------------------------------------------------------------------------------

    def _shown(self, subject: Subject) -> list[dict[str, Any]]:
        """The rows whose crops are in the picture of `subject`."""
        rows = {row["name"]: row for row in self.store.of(subject)}
        return [rows[name] for name in SHOWN if name in rows]

    def _is_drawn(self, name: str, subject: Subject) -> bool:
        path = self.store.path.with_name(name)
        return path.exists() and self.store.pictures.get(name) == self._signature(subject)

    def _signature(self, subject: Subject) -> list[list[str]]:
        return [[row["name"], row["upscaler_digest"], row["subject_digest"]] for row in self._shown(subject)]

    def _draw(
        self, name: str, subject: Subject, materials: Sequence[Material], places: Sequence[Place],
        crops: dict[str, list[np.ndarray]],
    ) -> None:  # fmt: skip
        """The crops of all that are shown, side by side; those measured in an earlier run are made again."""
        rows = self._shown(subject)
        for row in rows:
            if row["name"] not in crops:
                try:
                    crops[row["name"]] = self._crops(self.upscalers[row["name"]], materials, places)
                except (Unusable, VidsrError) as error:
                    self._leave_out(f"{row['title']} in {name}: {error}")
        shown = [row for row in rows if row["name"] in crops]
        if not shown:
            return
        cells = []
        for k, place in enumerate(places):
            at = sum(len(material.batches) for material in materials[: place.material]) + place.picture
            cells += [(f"{label(row)}, {row['psnr']['each'][at]:.1f} dB", crops[row["name"]][k]) for row in shown]
            cells.append(("original", place.of(materials[place.material].originals[place.picture])))
        if len(places) == 1:
            write_strip(self.store.path.with_name(name), cells)
        else:
            write_strip(self.store.path.with_name(name), cells, columns=len(shown) + 1)
        self.store.pictures[name] = self._signature(subject)

    def _crops(self, upscaler: Upscaler, materials: Sequence[Material], places: Sequence[Place]) -> list[np.ndarray]:
        found = []
        for place in places:
            with closing(upscaler.open(materials[place.material], self.work)) as enlarger:
                enlarger.enlarge(place.picture)
                found.append(place.of(enlarger.picture()))
        return found


def sheeted(subject: Subject) -> bool:
    """Whether it has a row in the sheet of worn clips."""
    return subject.scale == SCALE and subject.group in WORN_GROUPS


def _crop_key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["name"], row["upscaler_digest"], row["subject"], row["subject_digest"]


def _original_key(subject: Subject) -> tuple[str, ...]:
    return ORIGINAL, "", subject.name, subject.digest


def _meeting(materials: Sequence[Material]) -> Place:
    """Where lines and flats meet, in the middle picture of a clip."""
    middle = len(materials[0].originals) // 2
    return Place(0, middle, *meeting(materials[0].originals[middle]))


def _known(values: Sequence[float | None], why: str) -> dict[str, Any]:
    """What is kept of a figure that some pictures do not have."""
    found = [value for value in values if value is not None]
    return {"mean": mean(found), "each": list(values)} if found else {"left out": why}


def drawn_subjects(subjects: Sequence[Subject]) -> dict[tuple[int, str], str]:
    """(scale, name) -> the file of the picture: one for the stills and each clip at 4x, and one, of the last, at 2x. Worn
    clips have a sheet of their own."""
    subjects = [subject for subject in subjects if subject.group not in WORN_GROUPS]
    found = {(subject.scale, subject.name): f"quality-{subject.name}.png" for subject in subjects if subject.scale == 4}
    last = [subject for subject in subjects if subject.scale == 2][-1:]
    return found | {(subject.scale, subject.name): "quality-2x.png" for subject in last}


def _places(materials: Sequence[Material]) -> list[Place]:
    """Where most lines are: in one picture of a clip, or in some of the stills."""
    wanted = min(SHOWN_STILLS, len(materials))
    chosen = [(2 * i + 1) * len(materials) // (2 * wanted) for i in range(wanted)]
    return [Place(k, *richest(materials[k].originals)) for k in chosen]
