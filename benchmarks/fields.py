"""Film that was telecined, edited and had credits laid over it: does it come out as it went in, and how fast is it known?"""

from __future__ import annotations

import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np

from benchmarks.common.machine import write_result
from vidsr.choose.fields import look
from vidsr.report import Report
from vidsr.source.probe import probe
from vidsr.source.weaving import INTERPOLATED, pictures

SIZE = (720, 480)
RATE = Fraction(30000, 1001)
SCENES = (
    "scenes/petals_talk_threes_1080.mkv", "scenes/pan_painted_safelanding_1080.mkv", "scenes/night_hold_grain_720.mkv",
    "animated/prologue_kid_mid_twos_highres1080.mkv", "scenes/fast_impact_speedlines_720.mkv",
    "scenes/hand_drawn_bird_krita_twos_720.mkv", "animated/saha_head_talk_twos_highres1080.mkv",
)  # fmt: skip
CREDITS, CREDITS_OVER = 300, 1  # fields, and which scene they scroll over
NOISE = 1.0  # levels
SAME, NEARBY, VISIBLE = 1.05, 3, 4.0
ENCODINGS: dict[str, tuple[str, dict[str, str], bool]] = {
    "FFV1": ("ffv1", {}, False),
    "MPEG-2, 6 Mbit/s": ("mpeg2video", {"b": "6000000", "flags": "+ildct+ilme"}, False),
    "MPEG-2, 2.5 Mbit/s": ("mpeg2video", {"b": "2500000", "flags": "+ildct+ilme"}, False),
    "MPEG-2, 6 Mbit/s, bottom fields first": ("mpeg2video", {"b": "6000000", "flags": "+ildct+ilme"}, True),
    "H.264 as if progressive, CRF 23": ("libx264", {"crf": "23", "preset": "veryfast"}, False),
}

Planes = tuple[np.ndarray, ...]


@click.command()
@click.option("--clips", type=click.Path(exists=True, path_type=Path), required=True, help="Folder with scenes/ and animated/.")
@click.option("--save/--no-save", default=True)
def fields(clips: Path, save: bool) -> None:
    """Make a DVD's kind of video of drawn scenes, and count how much of the film comes back."""
    film, scenes = _film(clips)
    shown, truth = _hybrid(film, scenes)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, options, bottom_first) in ENCODINGS.items():
            path = Path(folder) / "hybrid.mkv"
            _write(path, shown, codec, options, bottom_first)
            rows.append({"encoding": name, **_judge(path, film, truth)})
            click.echo(rows[-1])
    if save:
        table = "# Telecine undone\n\n"
        table += f"{len(scenes)} drawn scenes at 24000/1001, noise of {NOISE:g} level, telecined 3:2 with the cadence broken at each edit, "
        table += f"{CREDITS} fields of credits scrolling as video; {len(shown) // 2} pictures of {SIZE[0]}x{SIZE[1]}. Right: of all pictures "
        table += "made of film, those nearest to the film's own picture of that moment, and lossless ones equal to the bit; the rest is of "
        table += "film pictures that an edit left a single field of. Combed: made of two pictures of the film. Speed: of one core, decoding included.\n\n"
        table += "| encoding | pictures | right | equal | combed | deinterlaced of film | video kept as such | frames a second |\n|---|---|---|---|---|---|---|---|\n"
        for r in rows:
            table += f"| {r['encoding']} | {r['pictures']} | {r['right']:.1%} | {r['equal']:.1%} | {r['combed']} | {r['interpolated']} | {r['video']:.0%} | {r['fps']:.0f} |\n"
        write_result("fields", {"rows": rows}, table)


def _film(clips: Path) -> tuple[list[Planes], list[range]]:
    """All pictures, and which of them each scene has."""
    noise = np.random.default_rng(1)
    film: list[Planes] = []
    scenes: list[range] = []
    for name in SCENES:
        first = len(film)
        with av.open(str(clips / name)) as file:
            for frame in file.decode(video=0):
                small = frame.reformat(*SIZE, format="yuv420p", interpolation="AREA")
                planes = []
                for plane in small.planes:
                    samples: Any = np.frombuffer(memoryview(plane), np.uint8)
                    rows = samples.reshape(-1, plane.line_size)[: plane.height, : plane.width]
                    planes.append(np.clip(rows + noise.normal(0, NOISE, rows.shape), 0, 255).round().astype(np.uint8))
                film.append(tuple(planes))
        scenes.append(range(first, len(film)))
    return film, scenes


def _hybrid(film: list[Planes], scenes: list[range]) -> tuple[list[Planes], list[int]]:
    """The fields in their order, as pictures to take them from; of which picture of the film each is, -1: video."""
    chance, shown, truth = np.random.default_rng(3), [], []

    def add(pictures: range, first: int = 0, last: int = 0) -> None:
        phase = int(chance.integers(2))
        numbers = [number for at, number in enumerate(pictures) for _ in range(2 + (at + phase) % 2)]
        for number in numbers[first : len(numbers) - last]:
            shown.append(film[number])
            truth.append(number)

    for scene in scenes:
        add(scene, int(chance.integers(0, 6)), int(chance.integers(1, 6)))
    over = scenes[CREDITS_OVER]
    for field in range(CREDITS):
        shown.append(_credits(film[over[field * 2 // 5 % len(over)]], field))
        truth.append(-1)
    add(scenes[3])
    even = len(shown) // 2 * 2
    return shown[:even], truth[:even]


def _credits(planes: Planes, field: int) -> Planes:
    luma = planes[0].copy()
    for line in range(12):
        row = SIZE[1] + 60 * line - 2 * field
        if -20 < row < SIZE[1] + 20:
            cv2.putText(luma, f"STAFF NAME {line} Key Animation", (180, row), cv2.FONT_HERSHEY_SIMPLEX, 1, 235, 2, cv2.LINE_AA)
    return (luma, *planes[1:])


def _write(path: Path, shown: list[Planes], codec: str, options: dict[str, str], bottom_first: bool) -> None:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *SIZE, "yuv420p", 15
        if "b" in options:
            stream.bit_rate = int(options["b"])
        for number, pair in enumerate(zip(shown[::2], shown[1::2])):
            top, bottom = reversed(pair) if bottom_first else pair
            frame = av.VideoFrame(*SIZE, "yuv420p")
            for target, upper, lower in zip(frame.planes, top, bottom):
                rows = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)[: len(upper)]
                rows[0::2, : upper.shape[1]], rows[1::2, : upper.shape[1]] = upper[0::2], lower[1::2]
            frame.pts, frame.time_base = number, 1 / RATE
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _judge(path: Path, film: list[Planes], truth: list[int]) -> dict[str, Any]:
    info = probe(path)
    begin = time.process_time()
    weaving, said = look(info)
    seconds = time.process_time() - begin
    if weaving is None:
        raise SystemExit(f"{path}: found nothing to undo")
    right = equal = made = interpolated = video = combed = 0
    frames = list(pictures(path, info.video, None, None, None, Report(), weaving=weaving))
    for number, frame in enumerate(frames):
        place, other = int(weaving.top[number]), int(weaving.bottom[number])
        wanted = {truth[2 * each + half] for each in {place, other} for half in (0, 1)}
        # Even times are up to half a field off those of the fields.
        field = int(float(weaving.pts[number] - weaving.pts[0]) / _field(info) + 0.75)
        by_time = truth[min(len(truth) - 1, field)]
        if -1 in wanted:
            video += int(weaving.how[number]) == INTERPOLATED
            continue
        made += 1
        interpolated += int(weaving.how[number]) == INTERPOLATED
        near = range(max(0, min(wanted) - NEARBY), min(len(film), max(wanted) + NEARBY + 1))
        errors = {each: _error(frame.planes[0], film[each][0]) for each in near}
        best = min(errors.values())
        right += errors.get(by_time, np.inf) <= SAME * best + 0.5
        combed += int(weaving.how[number]) != INTERPOLATED and _combed(frame.planes[0], [film[each][0] for each in near])
        equal += any(np.array_equal(frame.planes[0], film[each][0]) for each in near)
    return {
        "pictures": len(frames), "right": right / made, "equal": equal / made, "combed": combed,
        "interpolated": interpolated, "video": video / max(1, truth.count(-1) // 2), "fps": len(truth) / 2 / seconds, "said": said,
    }  # fmt: skip


def _combed(luma: np.ndarray, near: list[np.ndarray]) -> bool:
    """Whether its two fields are of two of these pictures, which differ there more than compression makes them."""
    errors = [np.array([_error(luma[half::2], each[half::2]) for each in near]) for half in (0, 1)]
    return bool(errors[1][errors[0].argmin()] > 2 * errors[1].min() + VISIBLE)


def _field(info: Any) -> float:
    return float(1 / (2 * RATE * info.video.time_base))


def _error(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a.astype(np.float32) - b) ** 2).mean())
