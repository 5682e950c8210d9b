"""Words on pictures, and pictures as PNG. Pictures are [H, W, 3] uint8 R'G'B'."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

_FONT, _INK = cv2.FONT_HERSHEY_SIMPLEX, (40, 40, 40)


def label(words: str, width: int, height: int, size: float = 0.6) -> np.ndarray:
    """`words` on white, of that width and height, in letters of `size` times OpenCV's, or so small that they fit."""
    area = np.full((height, width, 3), 255, np.uint8)
    words = words.encode("ascii", "replace").decode()  # OpenCV's fonts have no other letters
    size *= min(1.0, (width - 8) / max(1, cv2.getTextSize(words, _FONT, size, 1)[0][0]))
    cv2.putText(area, words, (4, height - height // 3), _FONT, size, _INK, 1, cv2.LINE_AA)
    return area


def write_png(path: Path, picture: np.ndarray) -> None:
    """OSError when it cannot be written: cv2.imwrite does not say so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
