"""Planes through FFmpeg's filters: a picture made smaller or larger by swscale, every sample where it belongs.

Planes go in and come out as they are: no colour is computed here, and of RGB and gray each plane is a picture of its
own, since swscale would compute in YUV. All of its arithmetic is in whole numbers and its sums are exact, so the same
planes give the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import av
import numpy as np

from vidsr.frames import PixelFormat

Kernel = Literal["area", "bicubic", "lanczos"]
_ARGUMENTS = {"bicubic": ":param0=0:param1=0.5"}  # which makes it Catmull-Rom; swscale's own is a little softer
# Where chroma lies between luma samples, in 1/256 of one, (horizontally, vertically); the middle of two is 128.
_PLACES = {"left": (0, 128), "center": (128, 128), "topleft": (0, 0)}


class Filter:
    """A chain of FFmpeg's filters for pictures of one format and size, which may change their size and how much of
    chroma there is, but neither depth nor colours.

    width, height: of what comes in, luma samples. chain: in FFmpeg's words. result: the format that comes out; None:
    the same. One thread at a time.
    """

    def __init__(
        self, format: PixelFormat, width: int, height: int, chain: Sequence[tuple[str, str]],
        result: PixelFormat | None = None,
    ) -> None:  # fmt: skip
        result = result or format
        if (result.family, result.bits) != (format.family, format.bits):
            raise ValueError(f"result: got {result.name} of {format.name}, expected the same colours and depth")
        self._chain = tuple(chain)
        self._alone = format.family != "yuv"
        self._format = PixelFormat("gray", format.bits) if self._alone else format
        self._result = self._format if self._alone else result
        self._graph = self._opened(width, height)
        self._size, self._count = (width, height), 0

    def __call__(self, planes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Planes of the format -> new ones, or views of the filter's own memory that nobody else writes into."""
        if self._alone:
            return tuple(self._pushed((plane,))[0] for plane in planes)
        return self._pushed(planes)

    def _pushed(self, planes: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        picture = av.VideoFrame(*self._size, self._format.name)
        for target, plane in zip(picture.planes, planes, strict=True):
            _samples(target, self._format)[:] = plane
        picture.pts, self._count = self._count, self._count + 1
        self._graph.vpush(picture)
        made: Any = self._graph.vpull()
        return tuple(_samples(plane, self._result) for plane in made.planes)

    def _opened(self, width: int, height: int) -> av.filter.Graph:
        graph = av.filter.Graph()
        last = graph.add("buffer", f"video_size={width}x{height}:pix_fmt={self._format.name}:time_base=1/25")
        # One thread: with more, swscale at times gives gray where a slice of the picture should be.
        chain = [(name, f"{words}:threads=1") for name, words in self._chain]
        for name, arguments in (*chain, ("format", f"pix_fmts={self._result.name}"), ("buffersink", "")):
            following = graph.add(name, arguments) if arguments else graph.add(name)
            last.link_to(following)
            last = following
        graph.configure()
        return graph


def scaling(
    width: int, height: int, format: PixelFormat, location: str, kernel: Kernel, result: PixelFormat | None = None
) -> tuple[str, str]:
    """For `Filter`: to `width` x `height` in one step, both ways by one filter made wide enough for what is reduced.

    format, result: as there. location: of chroma, before and after, see ColorSpec. kernel: "area": the mean of what a
    sample covers; "bicubic": Catmull-Rom; "lanczos": three lobes.
    """
    words = f"w={width}:h={height}:flags={kernel}+accurate_rnd+bitexact{_ARGUMENTS.get(kernel, '')}"
    for which, shifts in (("in", format.chroma_shift), ("out", (result or format).chroma_shift)):
        for shift, direction, place in zip(shifts, "hv", _PLACES[location]):
            words += f":{which}_{direction}_chr_pos={place}" if shift else ""
    return "scale", words


def _samples(plane: Any, format: PixelFormat) -> np.ndarray:
    """[rows, columns] of a plane, as a view."""
    stride = plane.line_size // format.dtype.itemsize
    samples: np.ndarray = np.frombuffer(plane, format.dtype)
    return samples[: plane.height * stride].reshape(plane.height, stride)[:, : plane.width]
