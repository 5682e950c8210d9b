"""One field of a picture, with the rows of the other interpolated: libavfilter's bwdif."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph

from vidsr.frames import Frame, StreamInfo
from vidsr.source.decode import plane_view


class Bwdif:
    """Deinterlaces the pictures of `video`. What comes of one depends on it and its two neighbours alone."""

    def __init__(self, video: StreamInfo) -> None:
        self._video = video
        self._graph: Any = None
        self._mode = ""
        self._first = self._given = -1  # the first and the last picture that the graph has had
        self._made: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}

    def __call__(
        self, place: int, frames: Mapping[int, Frame], kept: int, bottom_first: bool, end: int
    ) -> tuple[np.ndarray, ...]:  # fmt: skip
        """The planes of picture `place` of `frames` with its field `kept` (0 top, 1 bottom).

        end: how many pictures there are; those beside the first and the last one, and those that are missing, are taken
        to be like it.
        """
        key = place, int(kept != bottom_first)
        mode = f"mode=send_field:parity={'bff' if bottom_first else 'tff'}:deint=all"
        if mode != self._mode or key not in self._made:
            goes_on = mode == self._mode and self._given in (place - 1, place) and self._first < place
            if not goes_on:
                self._begin(mode, max(0, place - 1))
            for each in range(self._given + 1, min(place + 2, end)):
                self._give(each, frames.get(each) or frames[place])
            if place + 1 >= end:
                self._finish()
        planes = self._made[key]
        for old in [key for key in self._made if key[0] < place]:
            del self._made[old]
        return planes

    def _begin(self, mode: str, place: int) -> None:
        video = self._video
        self._graph, self._mode, self._given, self._first = Graph(), mode, place - 1, place
        self._made.clear()
        source = self._graph.add(
            "buffer", video_size=f"{video.width}x{video.height}", pix_fmt=video.format.name, time_base="1/1",
            pixel_aspect="1/1", frame_rate="1/1",
        )  # fmt: skip
        filter, sink = self._graph.add("bwdif", mode), self._graph.add("buffersink")
        self._graph.link_nodes(source, filter, sink).configure()

    def _give(self, place: int, frame: Frame) -> None:
        picture = av.VideoFrame(self._video.width, self._video.height, self._video.format.name)
        for target, plane in zip(picture.planes, frame.planes):
            plane_view(target, plane.dtype, *plane.shape)[:] = plane
        picture.pts, picture.time_base = place, Fraction(1)
        self._graph.vpush(picture)
        self._given = place
        self._pull()

    def _finish(self) -> None:
        self._graph.vpush(None)
        self._pull()
        self._given = -2  # nothing goes on from there

    def _pull(self) -> None:
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                picture = self._graph.vpull()
                shapes = self._video.format.plane_shapes(picture.width, picture.height)
                planes = tuple(
                    plane_view(plane, self._video.format.dtype, *shape) for plane, shape in zip(picture.planes, shapes)
                )
                self._made[divmod(picture.pts, 2)] = planes
