"""PSNR and SSIM of generators against bicubic, on pictures kept out of training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from train.data.pack import Pack
from train.degrade.recipe import SCALE
from train.judge.sources import (
    BICUBIC,
    ORIGINAL,
    SOURCES,
    Method,
    Pair,
    as_pixels,
    as_tensor,
    enlarge,
    evenly,
    load_methods,
    parse_videos,
    picture_pairs,
    shrink,
    sources_of,
    video_pairs,
)  # fmt: skip
from train.judge.strips import line_detail, richest, strip, write_png
from train.judge.validation import STRIP, centre, psnr_and_ssim
from train.options import DEGRADATIONS, Weights, pack_option, weight_option

CENTRE = 128  # side of the crops that the paper measures
_FRAME_STRIP = 240  # side of the crops in strips of video frames


@dataclass(frozen=True)
class Record:
    """One measurement. region: "centre" (CENTRE x CENTRE pixels) or "whole". psnr: dB, at most PERFECT."""

    picture: str
    source: str
    region: str
    method: str
    psnr: float
    ssim: float


def judge(pair: Pair, methods: list[Method], device: torch.device | str) -> tuple[list[Record], dict[str, np.ndarray]]:
    """Records of each method on `pair`, and the pictures [sH, sW, 3] uint8 they made.

    The centre is measured as in the paper, enlarged by itself: scaled down from its own pixels when clean, cut from the
    degraded lowres otherwise. Centres of one colour are left out: any method is perfect there, or nearly.
    """
    lowres, highres, scale = as_tensor(pair.lowres, device), as_tensor(pair.highres, device), pair.scale
    parts = {"whole": (lowres, highres)}
    if pair.source in SOURCES:
        rows, columns = centre(pair.highres, CENTRE)
        crop = pair.highres[rows, columns]
        small = shrink(crop, scale)
        if pair.source != "none":
            rows, columns = (slice(part.start // scale, part.stop // scale) for part in (rows, columns))
            small = pair.lowres[rows, columns]
        if (crop != crop[0, 0]).any():
            parts["centre"] = (as_tensor(small, device), as_tensor(crop, device))
    records, pictures = [], {}
    for method in methods:
        for region, (low, high) in parts.items():
            result = enlarge(method.generator, low, scale)
            if region == "whole":
                pictures[method.name] = as_pixels(result)
            figures = psnr_and_ssim(result, high)[:, 0].tolist()
            records.append(Record(pair.name, pair.source, region, method.name, *(round(v, 5) for v in figures)))
    return records, pictures


def summary(records: list[Record]) -> dict[str, Any]:
    """{source: {region: {method: means of psnr and ssim, gains over bicubic, number of pictures}}}."""
    found: dict[str, Any] = {}
    for one in records:
        methods = found.setdefault(one.source, {}).setdefault(one.region, {})
        methods.setdefault(one.method, []).append((one.psnr, one.ssim))
    for regions in found.values():
        for methods in regions.values():
            base = np.mean(methods[BICUBIC], axis=0)
            for name, values in methods.items():
                mean = np.mean(values, axis=0)
                gain = mean - base
                methods[name] = {
                    "psnr": round(float(mean[0]), 3), "psnr_gain": round(float(gain[0]), 3),
                    "ssim": round(float(mean[1]), 4), "ssim_gain": round(float(gain[1]), 4), "pictures": len(values),
                }  # fmt: skip
    return found


def table(found: dict[str, Any]) -> str:
    """`summary`'s figures as Markdown, a table for each source."""
    lines = []
    words = {"centre": f"{CENTRE} px centres", "whole": "whole"}
    for source, regions in found.items():
        shown = [region for region in words if region in regions]
        title = f"{SOURCES[source].capitalize()} sources" if source in SOURCES else source
        counts = (f"{next(iter(regions[region].values()))['pictures']} {words[region]}" for region in shown)
        lines += [f"**{title}** ({', '.join(counts)})", ""]
        lines.append("| | " + " | ".join(f"PSNR dB, {words[region]} | gain | SSIM | gain" for region in shown) + " |")
        lines.append("|---|" + "---:|" * 4 * len(shown))
        for name in regions["whole"]:
            cells = [_cells(regions[region][name]) for region in shown]
            lines.append(f"| {name.replace('|', '/')} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cells(means: dict[str, float]) -> str:
    gains = f"{means['psnr_gain']:+.2f}", f"{means['ssim_gain']:+.4f}"
    return f"{means['psnr']:.2f} | {gains[0]} | {means['ssim']:.4f} | {gains[1]}"


def measure_all(
    pack: Pack, split: str, weights: Weights, degrade: str, videos: list[tuple[Path, Path]], methods: list[Method],
    device: str, folder: Path, strips: int, scale: int = SCALE,
) -> list[Record]:  # fmt: skip
    """Records of all pictures of `split` and every few frames of `videos`; `strips` of them as PNG into `folder`.

    ValueError when there is nothing to measure or a video is not what it should be; OSError of the disk.
    """
    pictures = pack.pictures(split, weights)
    if not pictures:
        raise ValueError(f"{pack.folder}: no {split} picture is left; give one of them a --weight above 0")
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("[0-9][0-9]-*.png"), *folder.glob("video-*.png")]:
        old.unlink()  # of an earlier call, which may have been of other weights
    numbers = {pictures[index].path: number for number, index in enumerate(evenly(len(pictures), strips), 1)}
    records: list[Record] = []
    total = len(pictures) * len(sources_of(degrade))
    for pair in _shown(picture_pairs(pictures, degrade, scale=scale), f"{split} pictures", total):
        found, results = judge(pair, methods, device)
        records += found
        if pair.name in numbers:
            name = "-".join(Path(pair.name).with_suffix("").parts[-2:])
            path = folder / f"{numbers[pair.name]:02}-{name}-{SOURCES[pair.source]}.png"
            _write_strip(path, pair, results, STRIP)
    for lowres, highres in videos:
        most = -1.0
        for pair in _shown(video_pairs(lowres, highres, scale), lowres.name):
            found, results = judge(pair, methods, device)
            records += found
            if (detail := line_detail(pair.highres, _FRAME_STRIP)) > most:
                most = detail
                _write_strip(folder / f"video-{lowres.stem}.png", pair, results, _FRAME_STRIP)
    return records


def _write_strip(path: Path, pair: Pair, results: dict[str, np.ndarray], size: int) -> None:
    where = richest(pair.highres, size)
    columns = [*results.items(), (ORIGINAL, pair.highres)]
    write_png(path, strip([(name, picture[where]) for name, picture in columns]))


def _shown(pairs: Iterator[Pair], what: str, total: int | None = None) -> Iterator[Pair]:
    """`pairs`, with a bar on a terminal."""
    console = Console(stderr=True)
    bar = track(pairs, what, total, console=console, transient=True, disable=not console.is_terminal)
    yield from bar


@click.command()
@click.argument("weights_files", nargs=-1, metavar="[WEIGHTS]...")
@pack_option
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@weight_option
@click.option("--out", default="runs/evaluation", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--degrade", type=click.Choice(DEGRADATIONS), default="video", show_default=True,
              help="video measures clean, compressed and worn sources.")  # fmt: skip
@click.option("--scale", type=click.Choice([2, 4]), default=SCALE, show_default=True,
              help="2: of half the size. Weights that enlarge by 4 are then reduced by area.")
@click.option("--strips", default=10, show_default=True, type=click.IntRange(0), help="Pictures to make strips of.")
@click.option("--video", "videos", multiple=True, callback=parse_videos, metavar="LOWRES=HIGHRES",
              help="A video and its original, 4 times the size: every 12th frame is measured; repeat it.")  # fmt: skip
def evaluate(
    weights_files: tuple[str, ...], pack: str, split: str, weights: Weights, out: Path, degrade: str, scale: int,
    strips: int, videos: list[tuple[Path, Path]],
) -> None:  # fmt: skip
    """PSNR and SSIM of WEIGHTS and of bicubic, as a table, as JSON, and strips to look at.

    WEIGHTS are .safetensors files or installed models, each also as NAME=WEIGHTS. Without any: all of
    runs/*/generator.safetensors and all installed models.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    methods, failed = load_methods(weights_files, device, scale)
    for line in failed.values():
        click.echo(f"not measured: {line}", err=True)
    if not methods:
        raise click.ClickException("none of the weights can be used: see above")
    methods = [Method(BICUBIC), *(method for method in methods if method.name != BICUBIC)]
    opened = Pack.open(pack)
    records = measure_all(opened, split, weights, degrade, videos, methods, device, out / "strips", strips, scale)
    found = summary(records)
    described = {
        "pack": {"folder": pack, "digest": opened.digest}, "split": split, "weights": weights, "scale": scale,
        "device": device, "torch": torch.__version__, "failed": failed,
        "methods": {m.name: {"path": m.path, "sha256": m.sha256} for m in methods},
        "summary": found, "pictures": [asdict(record) for record in records],
    }  # fmt: skip
    (out / "table.md").write_text(table(found), "utf-8")
    (out / "metrics.json").write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", "utf-8")
    click.echo(table(found))
    click.echo(f"wrote {out}/table.md, {out}/metrics.json and, to look at, {out}/strips")
    if failed:
        raise SystemExit(1)
