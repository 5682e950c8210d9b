"""libass itself, where Debian's libass9 or its like is installed: what a player draws of a script."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import av
import numpy as np
import pytest

LEAST = 0x01700000  # its version that heeds LayoutRes


class _Image(ctypes.Structure):
    pass


_Image._fields_ = [
    ("w", ctypes.c_int), ("h", ctypes.c_int), ("stride", ctypes.c_int), ("bitmap", ctypes.POINTER(ctypes.c_ubyte)),
    ("color", ctypes.c_uint32), ("dst_x", ctypes.c_int), ("dst_y", ctypes.c_int), ("next", ctypes.POINTER(_Image)),
]  # fmt: skip


def library() -> ctypes.CDLL:
    """Skips the test where it is missing or too old."""
    name = ctypes.util.find_library("ass")
    if name is None:
        pytest.skip("libass is not installed (Debian: libass9)")
    found = ctypes.CDLL(name)
    if found.ass_library_version() < LEAST:
        pytest.skip("libass is older than 0.17, which heeds LayoutRes first")
    for function in ("ass_library_init", "ass_renderer_init", "ass_new_track"):
        getattr(found, function).restype = ctypes.c_void_p
    found.ass_render_frame.restype = ctypes.POINTER(_Image)
    return found


def drawn(header: bytes, events: list[bytes], storage: tuple[int, int], screen: tuple[int, int]) -> np.ndarray:
    """[rows, columns] float64, 0 to 1: how much of each pixel of `screen` the script covers at its first second, over a
    video stored as `storage` pixels, both (width, height)."""
    ass = library()
    made = ctypes.c_void_p(ass.ass_library_init())
    ass.ass_set_message_cb(made, _SILENT, None)
    renderer = ctypes.c_void_p(ass.ass_renderer_init(made))
    ass.ass_set_frame_size(renderer, *screen)
    ass.ass_set_storage_size(renderer, *storage)
    ass.ass_set_fonts(renderer, None, b"sans-serif", 1, None, 1)
    track = ctypes.c_void_p(ass.ass_new_track(made))
    ass.ass_process_codec_private(track, header, len(header))
    for event in events:
        ass.ass_process_chunk(track, event, len(event), ctypes.c_longlong(0), ctypes.c_longlong(5000))
    cover = np.zeros((screen[1], screen[0]))
    image = ass.ass_render_frame(renderer, track, ctypes.c_longlong(1000), None)
    while image:
        part = image.contents
        if part.w and part.h:
            size = part.stride * (part.h - 1) + part.w
            data = np.ctypeslib.as_array(part.bitmap, (size,))
            rows = np.lib.stride_tricks.as_strided(data, (part.h, part.w), (part.stride, 1))
            area = cover[part.dst_y : part.dst_y + part.h, part.dst_x : part.dst_x + part.w]
            np.maximum(area, rows / 255 * (1 - (part.color & 255) / 255), out=area)
        image = part.next
    ass.ass_free_track(track)
    ass.ass_renderer_done(renderer)
    ass.ass_library_done(made)
    if not cover.any():
        pytest.skip("libass draws nothing here: there is no font")
    return cover


_SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)(lambda *_: None)


def script(path: Path) -> tuple[bytes, list[bytes]]:
    """(header, events) of a file's first subtitle track."""
    with av.open(str(path)) as file:
        stream = file.streams.subtitles[0]
        return bytes(stream.codec_context.extradata), [bytes(p) for p in file.demux(stream) if p.size]
