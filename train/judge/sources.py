"""What is judged outside of training: methods that enlarge, and pairs of pictures to judge them on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.data.pack import Picture, sha256_of
from train.degrade.filters import resize
from train.degrade.recipe import SCALE, apply, draw_good, draw_worn, upscale_bicubic
from vidsr.backends.tiles import in_tiles
from vidsr.errors import ModelError, VidsrError
from vidsr.models.checkpoint import find_model, installed_models, load_generator

SEED = 2004  # of the degradations pictures are judged with: the same ones for ever
SOURCES = {"none": "clean", "video": "compressed", "worn": "worn"}
DRAWS = {"video": draw_good, "worn": draw_worn}  # what each of them went through, but the clean ones
BICUBIC, ORIGINAL = "Bicubic", "Original"
EVERY = 12  # frames of a video between two that are looked at
_TILE = 384  # source pixels: larger pictures are enlarged in pieces, or SRResNet would need gigabytes


@dataclass(frozen=True)
class Method:
    """generator: float32, in eval mode; None interpolates. path, sha256: of its weights, "" without any."""

    name: str
    generator: nn.Module | None = None
    path: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Pair:
    """A picture and what it is to be made of. lowres: [H, W, 3], highres: [sH, sW, 3], both uint8 RGB.

    source: one of SOURCES or the name of a video that both are from.
    """

    name: str
    source: str
    lowres: np.ndarray
    highres: np.ndarray

    @property
    def scale(self) -> int:
        return self.highres.shape[1] // self.lowres.shape[1]


def as_tensor(pixels: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """[H, W, 3] uint8 -> [1, 3, H, W] float, 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None].float() / 255


def as_pixels(picture: Tensor) -> np.ndarray:
    """[1, 3, H, W] float, 0..1 -> [H, W, 3] uint8."""
    return (picture[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().contiguous().numpy()


@torch.no_grad()
def enlarge(generator: nn.Module | None, lowres: Tensor, scale: int = SCALE) -> Tensor:
    """[N, 3, H, W] float, 0..1 -> [N, 3, scale*H, scale*W] float in 0..1, rounded to 8 bits as a frame would be.

    generator: in eval mode, on the device of `lowres`; None enlarges by bicubic interpolation. What enlarges more is
    reduced by area, as vidsr does it.
    """
    if generator is None:
        result = upscale_bicubic(lowres, scale)
    else:
        # TensorFloat-32, which cuDNN uses unless told not to, has 10 bits.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            result = in_tiles(generator, lowres, _TILE).float().clamp(0, 1)  # type: ignore[arg-type]
        times = result.shape[3] // (scale * lowres.shape[3])
        if times > 1:
            result = F.avg_pool2d(result, times)
    return (result * 255).round() / 255


def load_methods(
    given: Iterable[str], device: torch.device | str, scale: int = SCALE
) -> tuple[list[Method], dict[str, str]]:
    """The methods that `given` names, and {name: one line why} of those whose weights do not load.

    given: installed models' names or paths of .safetensors files, each also as NAME=PATH; "Bicubic". None: all of
    runs/*/generator.safetensors and all installed models that fit. scale: they must enlarge by it or a multiple of it.
    UsageError when two have one name.
    """
    named = [_named(text) for text in given] or _everything(scale)
    methods: list[Method] = []
    failed: dict[str, str] = {}
    for name, what in named:
        if name in failed or name in [method.name for method in methods] or name == ORIGINAL:
            raise click.UsageError(f"two methods are called {name!r}: give one another name, OTHER={what}")
        try:
            methods.append(Method(BICUBIC) if what == BICUBIC else _load(name, what, device, scale))
        except VidsrError as error:
            failed[name] = str(error)
    return methods, failed


def _named(text: str) -> tuple[str, str]:
    """(name, path or installed model): weights of a run are called by its folder."""
    name, equals, what = text.partition("=")
    if equals and name and "/" not in name:
        return name, what
    path = Path(text)
    return (path.resolve().parent.name if path.name == "generator.safetensors" else path.stem), text


def _everything(scale: int) -> list[tuple[str, str]]:
    found = dict(_named(str(path)) for path in sorted(Path("runs").glob("*/generator.safetensors")))
    fitting = [model for model in installed_models() if int(model.metadata.get("scale", SCALE)) % scale == 0]
    for model in fitting:
        found[f"{model.name} (installed)" if model.name in found else model.name] = str(model.path)
    return list(found.items())


def _load(name: str, what: str, device: torch.device | str, scale: int) -> Method:
    path = find_model(what).path
    generator = load_generator(path).folded().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        probe = generator(torch.full((1, 3, 16, 16), 0.5, device=device))
    if probe.shape[2] % (16 * scale):
        raise ModelError(f"{path}: enlarges {probe.shape[2] // 16} times, expected {scale}")
    if not probe.isfinite().all():
        raise ModelError(f"{path}: its pictures are not numbers (NaN); the training had diverged, use an earlier file")
    return Method(name, generator, str(path), sha256_of(path))


def picture_pairs(
    pictures: list[Picture], degradation: str, chosen: Iterable[int] | None = None, scale: int = SCALE
) -> Iterator[Pair]:
    """Pairs of whole pictures: each clean, then, if degradation is "video", as a good source and as a worn one.

    The index of a picture in `pictures` decides what it went through. chosen: indices; None for all.
    """
    for index in range(len(pictures)) if chosen is None else chosen:
        pixels, path = pictures[index].pixels, pictures[index].path
        yield Pair(path, "none", shrink(pixels, scale), pixels)
        for source in sources_of(degradation)[1:]:
            yield Pair(path, source, worn(pixels, 0, source, index, scale)[1], pixels)


def sources_of(degradation: str) -> tuple[str, ...]:
    """The SOURCES that generators are judged on which were trained with this degradation."""
    return tuple(SOURCES) if degradation == "video" else ("none",)


def worn(window: np.ndarray, margin: int, source: str, index: int, scale: int = SCALE) -> tuple[np.ndarray, np.ndarray]:
    """(crop, lowres) of a window, see recipe.apply, as a `source` of DRAWS; the index decides all of it."""
    rng = np.random.default_rng([SEED, index])
    return apply(DRAWS[source](rng), window, margin, rng, scale)


def shrink(pixels: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """[sH, sW, 3] uint8 -> [H, W, 3] uint8 by antialiased bicubic: the clean source of the paper."""
    return resize(pixels, (pixels.shape[0] // scale, pixels.shape[1] // scale), "bicubic")


def evenly(total: int, wanted: int) -> list[int]:
    """`wanted` indices below `total`, all of them when there are fewer, spread evenly."""
    wanted = min(total, wanted)
    return [(2 * i + 1) * total // (2 * wanted) for i in range(wanted)]


def parse_videos(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Of LOWRES=HIGHRES each. A click callback."""
    videos: list[tuple[Path, Path]] = []
    for text in given:
        lowres, _, highres = text.partition("=")
        for path in (lowres, highres):
            if not Path(path).is_file():
                raise click.BadParameter(f"got {text!r}, expected LOWRES=HIGHRES, two video files; no file {path!r}")
        if Path(lowres).name in [earlier.name for earlier, _ in videos]:
            raise click.BadParameter(f"got two videos called {Path(lowres).name!r}: rename one")
        videos.append((Path(lowres), Path(highres)))
    return videos


def video_pairs(lowres: Path, highres: Path, scale: int = SCALE) -> Iterator[Pair]:
    """Every EVERYth frame of a video and of its original, SCALE times the size, as RGB.

    scale: of the pairs; the original is reduced by area to that. ValueError when they are not the same video.
    """
    from train.data.video_frames import rgb_of
    from vidsr.report import Report
    from vidsr.source.decode import decode
    from vidsr.source.probe import probe

    small, large = probe(lowres).video, probe(highres).video
    if (large.width, large.height) != (SCALE * small.width, SCALE * small.height):
        raise ValueError(
            f"{highres}: {large.width}x{large.height}, expected {SCALE * small.width}x{SCALE * small.height}, "
            f"{SCALE} times {lowres}"
        )
    report, starts = Report(), None
    both = (decode(path, info, None, None, None, report) for path, info in ((lowres, small), (highres, large)))
    for number, (low, high) in enumerate(zip_longest(*both)):
        if low is None or high is None:
            raise ValueError(f"{lowres if low is None else highres}: ends after {number} frames, its partner does not")
        starts = starts or (low.pts, high.pts)
        at = float((low.pts - starts[0]) * small.time_base), float((high.pts - starts[1]) * large.time_base)
        if abs(at[0] - at[1]) > 0.5 / float(small.rate):
            raise ValueError(f"{lowres}: frame {number} is shown at {at[0]:.3f} s, in {highres} at {at[1]:.3f} s")
        if number % EVERY == 0:
            original = rgb_of(high, large)
            if scale != SCALE:
                original = resize(original, (scale * small.height, scale * small.width), "area")
            yield Pair(f"{lowres.name} frame {number}", lowres.name, rgb_of(low, small), original)
