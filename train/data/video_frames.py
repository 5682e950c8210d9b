"""Sharp, distinct frames of an episode, as RGB."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from train.data.pictures import TOO_SMALL, UNREADABLE, Found, Unusable, bits_apart, look_at
from vidsr.frames import Frame, StreamInfo

_CANDIDATES = 6  # frames looked at for each one taken
_ALIKE_BITS = 24  # of 256: a still shot in which a mouth moves


def frames_of(
    found: Found, every: float, min_side: int, say: Callable[[str], None], progress: Callable[[float], None]
) -> Iterator[tuple[float, np.ndarray]]:
    """(seconds from the first frame, [H, W, 3] uint8 RGB) of about one frame in each `every` seconds of a video.

    It is the sharpest of a few; none where it shows the same as the one taken before. Pixels are as coded: neither
    their shape nor a rotation the container asks for is applied. progress: told the share done, 0..1.
    Unusable when the video cannot be read or a side is below `min_side`.
    """
    from vidsr.errors import VidsrError
    from vidsr.source.probe import probe

    try:
        info = probe(found.file)
        video = info.video
        if min(video.width, video.height) < min_side:
            raise Unusable(TOO_SMALL, f"video, {video.width}x{video.height}")
        if video.interlaced:
            say(f"{found.path}: interlaced; its combs would be learnt as lines: deinterlace it first")
        last = None
        for seconds, frame in _sharpest(found, video, every, info.duration or 0, progress):
            pixels = rgb_of(frame, video)
            bits = look_at(pixels).bits
            if last is None or bits_apart(bits, last[None]).item() > _ALIKE_BITS:
                last = bits
                yield seconds, pixels
    except VidsrError as error:
        raise Unusable(UNREADABLE, str(error).removeprefix(f"{found.file}: ")) from None


def _sharpest(
    found: Found, video: StreamInfo, every: float, duration: float, progress: Callable[[float], None]
) -> Iterator[tuple[float, Frame]]:
    """The sharpest of _CANDIDATES frames of each window of `every` seconds."""
    from vidsr.report import Report
    from vidsr.source.decode import decode

    best: tuple[float, float, Frame | None] = (-1.0, 0.0, None)  # sharpness, seconds
    first, slot = None, -1
    for frame in decode(found.file, video, None, None, None, Report()):
        first = frame.pts if first is None else first
        seconds = float((frame.pts - first) * video.time_base)
        now = int(seconds / every * _CANDIDATES)
        if now <= slot:
            continue
        if now // _CANDIDATES > slot // _CANDIDATES and best[2] is not None:
            yield best[1], best[2]
            best = (-1.0, 0.0, None)
        slot = now
        sharpness = float(cv2.Laplacian(frame.planes[0], cv2.CV_32F).var())
        if sharpness > best[0]:
            best = (sharpness, seconds, frame)
        progress(min(1.0, seconds / duration) if duration else 0.0)
    if best[2] is not None:
        yield best[1], best[2]


def rgb_of(frame: Frame, video: StreamInfo) -> np.ndarray:
    """Planes as the decoder gave them -> [H, W, 3] uint8."""
    import torch

    from vidsr.color import to_rgb

    planes = [torch.from_numpy(plane.copy())[None] for plane in frame.planes]
    rgb = to_rgb(planes, video.format, video.color)[0]
    return (rgb.clamp_(0, 1) * 255).round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
