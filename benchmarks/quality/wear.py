"""Worn clips of still pictures, by FFmpeg's own filters and encoders: a second yardstick beside worn clips."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import PictureType

from benchmarks.common.material import SCALE
from benchmarks.common.pictures import encode
from benchmarks.quality.subjects import folder_stills, pack_stills
from vidsr.errors import SourceError, UsageError
from vidsr.files import as_file
from vidsr.pictures.read import look, pictures

RATE = Fraction(24000, 1001)
LARGEST = (1920, 1080)  # of an original, columns and rows
SMALLEST = 256  # of its sides: below that nothing is left of a worn source
STEP = 3  # highres pixels that the view moves a frame, across; a third of it down: mostly no whole source pixels


@dataclass(frozen=True)
class Encoder:
    name: str
    options: dict[str, str]


@dataclass(frozen=True)
class Wear:
    """What happens to the original: filters to source size, perhaps an encoder and more filters, the encoder of the clip."""

    filters: str  # {w}, {h}: the source's size
    passes: tuple[tuple[Encoder, str], ...]  # an encoder, and the filters of what is decoded from it
    last: Encoder


def _x264(preset: str, crf: int) -> Encoder:
    return Encoder("libx264", {"preset": preset, "crf": str(crf)})


KINDS = {
    # A broadcast: soft across, MPEG-2 at too few bits, captured, denoised, compressed again.
    "broadcast": Wear(
        "scale={w}:{h}:flags=lanczos,gblur=sigma=1.0:sigmaV=0.5",
        ((Encoder("mpeg2video", {"flags": "+qscale", "global_quality": str(7 * 118), "g": "15", "bf": "2"}), "nlmeans=s=1.5:p=5:r=9"),),
        _x264("veryfast", 24),
    ),
    # A tape: few columns, sharpened until it rings, colours that slip, noise.
    "tape": Wear(
        "scale=trunc({w}*0.7/2)*2:{h}:flags=area,scale={w}:{h}:flags=bilinear,unsharp=5:5:1.1:5:5:0,chromashift=cbh=1:crh=-1,noise=c0s=6:c0f=t:c1s=4:c1f=t:c2s=4:c2f=t:all_seed=7",
        (),
        _x264("medium", 25),
    ),
    # An early digital copy: DivX of a DVD, enlarged a little and reduced, then H.265.
    "copy": Wear(
        "scale={w}:{h}:flags=bicubic",
        ((Encoder("mpeg4", {"flags": "+qscale", "global_quality": str(6 * 118), "g": "200", "bf": "1"}), "scale={w}*5/4:{h}*5/4:flags=bicubic,gblur=sigma=0.6,scale={w}:{h}:flags=bilinear"),),
        Encoder("libx265", {"preset": "fast", "crf": "24", "x265-params": "log-level=none:pools=none:frame-threads=1"}),
    ),
}  # fmt: skip


@click.command()
@click.option("--stills", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A folder of pictures.")
@click.option("--pack", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Or a training pack, of which the test pictures are taken.")
@click.option("--without", multiple=True, help="Names or folders of the pack's pictures to leave out, as a pattern; repeat it.")
@click.option("--frames", type=click.IntRange(4), default=24, show_default=True, help="Of each clip.")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def wear(stills: Path | None, pack: Path | None, without: tuple[str, ...], frames: int, out: Path) -> None:
    """Write clips that move over still pictures, and what a broadcast, a tape and a digital copy leave of them, into OUT.

    `python -m benchmarks quality --clips OUT` measures on them, as "worn stills". The trainer wears pictures in other
    ways.
    """
    if bool(stills) == bool(pack):
        raise UsageError("give one of --stills and --pack")
    paths = folder_stills(stills) if stills else pack_stills(pack or Path(), without)
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for number, path in enumerate(paths):
        try:
            views = _views_of(path, frames)
        except SourceError as error:
            click.echo(f"left out: {error}", err=True)
            continue
        name = f"still-{number:02d}"
        save(out / f"{name}_highres.mkv", views)
        for kind, worn in KINDS.items():
            try:
                save_worn(out / f"{name}_worn_{kind}.mkv", views, worn)
            except (FFmpegError, ValueError, LookupError) as error:
                click.echo(f"left out: {name}_worn_{kind}: {error}", err=True)
        written += 1
    click.echo(f"{out}: {written} pictures, worn in {len(KINDS)} ways")


def _views_of(path: Path, frames: int) -> list[np.ndarray]:
    """SourceError for what is no picture, or one that cannot be used here."""
    picture = next(pictures(look(path)))
    if picture.dtype != np.uint8 or picture.shape[2] < 3:
        raise SourceError(f"{path}: not an 8 bit picture in colour")
    views = moving_views(picture[:, :, :3], frames)
    if views is None:
        raise SourceError(f"{path}: smaller than {SMALLEST}x{SMALLEST} pixels and the way the view goes")
    return views


def moving_views(picture: np.ndarray, frames: int) -> list[np.ndarray] | None:
    """The parts of a picture, [H, W, 3] uint8, that a camera sees which holds for a third of the time and then moves.

    Their sides are multiples of 8, at most LARGEST; None where they would be shorter than SMALLEST.
    """
    moves = [max(0, i - frames // 3) for i in range(frames)]
    way = STEP * moves[-1], STEP * moves[-1] // 3
    sides = [min(largest, side - far) // 8 * 8 for largest, side, far in zip(LARGEST, picture.shape[1::-1], way, strict=True)]
    if min(sides) < SMALLEST:
        return None
    width, height = sides
    corners = [(STEP * move, STEP * move // 3) for move in moves]
    return [picture[y : y + height, x : x + width] for x, y in corners]


def save(path: Path, views: Sequence[np.ndarray]) -> None:
    """[H, W, 3] uint8 R'G'B' each -> a lossless video."""
    frames = [av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24").reformat(format="yuv444p") for view in views]
    _encode(path, frames, Encoder("ffv1", {"level": "3"}))


def save_worn(path: Path, views: Sequence[np.ndarray], worn: Wear) -> None:
    """What `worn` leaves of the views, a SCALEth of their size."""
    height, width = (side // SCALE for side in views[0].shape[:2])
    frames = [av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24") for view in views]
    now = list(_filtered(frames, worn.filters.format(w=width, h=height) + ",format=yuv420p"))
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept.mkv"
        for encoder, filters in worn.passes:
            _encode(kept, now, encoder)
            with av.open(as_file(kept)) as container:
                decoded = list(container.decode(video=0))
            now = list(_filtered(decoded, filters.format(w=width, h=height) + ",format=yuv420p"))
    _encode(path, now, worn.last)


def _filtered(frames: Sequence[av.VideoFrame], filters: str) -> Iterator[av.VideoFrame]:
    graph = Graph()
    first = frames[0]
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=1 / RATE)
    last = source
    for part in filters.split(","):
        name, _, arguments = part.partition("=")
        step = graph.add(name, arguments) if arguments else graph.add(name)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    for i, frame in enumerate(frames):
        frame.pts, frame.time_base = i, 1 / RATE
        graph.vpush(frame)
        yield graph.vpull()


def _encode(path: Path, frames: Sequence[av.VideoFrame], encoder: Encoder) -> None:
    for i, frame in enumerate(frames):
        frame.pts, frame.time_base, frame.pict_type = i, 1 / RATE, PictureType.NONE
    # Tagged as what swscale makes of R'G'B' when nothing else is said: BT.601, limited.
    encode(path, frames, encoder.options, encoder.name, rate=RATE, threads=1)
