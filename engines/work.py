"""What engines are wanted: for the sizes of files, or for those that sources of a name usually have."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vidsr.backends.base import BackendSpec
from vidsr.choose.model import family_member
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.choose.size import choose_scale
from vidsr.errors import UsageError
from vidsr.frames import PixelFormat
from vidsr.report import Report
from vidsr.source.colorspec import resolve_color, result_color

# As coded, before pixels are stretched: DVDs in both systems, and what people make of them.
PROFILES = {
    "270p": ((480, 270),),
    "360p": ((640, 360), (480, 360)),
    "480p": ((720, 480), (640, 480), (704, 480), (848, 480), (854, 480)),
    "576p": ((720, 576), (768, 576), (1024, 576)),
    "720p": ((1280, 720), (960, 720)),
    "1080p": ((1920, 1080), (1440, 1080)),
}


@dataclass(frozen=True)
class Wanted:
    """One engine: what it is for, and the size of its sources."""

    spec: BackendSpec
    width: int
    height: int

    def __str__(self) -> str:
        spec = self.spec
        return (
            f"{Path(spec.model).stem} {spec.scale}x {self.width}x{self.height} {spec.source_format.name} "
            f"{spec.result_color.matrix}"
        )


def wanted(
    files: Sequence[Path], profiles: str, models: Sequence[str], scale: int, pixel_format: str | None = None
) -> list[Wanted]:
    """Every engine for `files`, and for `profiles`, names of PROFILES and WIDTHxHEIGHT, separated by commas.

    scale: 0 for that of each model.

    Files tell their own format and colour. Sizes of a profile get those of 8 bit 4:2:0 without tags: BT.601 up to 576
    lines, else BT.709, limited range. pixel_format: of the results, as `vidsr --pixel-format`.
    UsageError for a profile or model that is none, or when nothing is asked for; SourceError for an unreadable file.
    """
    found: list[Wanted] = []
    for model in models:
        chosen = choose_scale(Options(scale=scale or None, model=model))
        path = str(family_member(model, chosen).path)
        for file in files:
            found.append(_for_file(file, model, chosen, pixel_format))
        for width, height in _sizes(profiles.split(",") if profiles else ()):
            source = PixelFormat.from_name("yuv420p")
            color = resolve_color(width, height, 2, 2, 2, 0, source.name, "h264")
            result = PixelFormat.from_name(pixel_format) if pixel_format else source
            spec = BackendSpec("tensorrt", path, chosen, source, color, result, result_color(color, result))
            found.append(Wanted(spec, width, height))
    if not found:
        raise UsageError("nothing to do: name files with --for, or sizes with --profile")
    return list(dict.fromkeys(found))


def _for_file(file: Path, model: str, scale: int, pixel_format: str | None) -> Wanted:
    with tempfile.TemporaryDirectory() as folder:  # where no result is in the way
        options = Options(
            scale=scale, model=model, backend="cpu", pixel_format=pixel_format, output=Path(folder) / "none.mkv",
            drop=frozenset({"unsupported"}),
        )  # fmt: skip
        job = prepare(file, options, Report(lambda line: None))
    video = job.info.video
    return Wanted(replace(job.backend, name="tensorrt", instead=()), video.width, video.height)


def _sizes(names: Iterable[str]) -> list[tuple[int, int]]:
    sizes: list[tuple[int, int]] = []
    for name in names:
        match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", name.strip())
        if match:
            sizes.append((int(match[1]), int(match[2])))
        elif name.strip() in PROFILES:
            sizes += PROFILES[name.strip()]
        else:
            raise UsageError(f"--profile {name.strip()}: use WIDTHxHEIGHT or one of {', '.join(PROFILES)}")
    return sizes


def parse_targets(text: str) -> tuple[str, ...]:
    """ "SM86,8.9,sm_120" -> ("8.6", "8.9", "12.0"), sorted. UsageError for anything else."""
    targets = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", word, re.IGNORECASE)
        if not match:
            raise UsageError(f"--target {word}: write compute capabilities as SM86 or 8.6, separated by commas")
        targets.add((int(match[1]), int(match[2])))
    return tuple(f"{major}.{minor}" for major, minor in sorted(targets))
