"""`make demo`: upscale the bundled clip with the installed vidsr, and show one picture before and after."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from vidsr.color import to_rgb
from vidsr.frames import Frame, SourceInfo
from vidsr.report import Report
from vidsr.source.decode import decode
from vidsr.source.probe import probe

SCALE = 4
CROP = (640, 540)  # width, height of what is shown of each, at the result's size


def main(source: Path, folder: Path) -> None:
    result = folder / f"{source.stem}.{SCALE}x{source.suffix}"
    picture = folder / "before-after.png"
    start = time.monotonic()
    vidsr = Path(sys.executable).with_name("vidsr")
    command = [str(vidsr), str(source), "--scale", str(SCALE), "-o", str(result), "--overwrite"]
    print(" ".join(["vidsr", *command[1:]]), flush=True)
    if subprocess.run(command).returncode:
        raise SystemExit("the demo failed; please report what is written above")
    cv2.imwrite(str(picture), before_after(source, result))
    print(f"\nupscaled in {time.monotonic() - start:.0f} s\nresult:       {result}\nbefore/after: {picture}")


def before_after(source: Path, result: Path) -> np.ndarray:
    """[H, W, 3] BGR: the same detail of the middle frame, bicubic on the left, the result on the right."""
    small, large = (_middle_frame(probe(path)) for path in (source, result))
    width, height = large.shape[1], large.shape[0]
    before = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = _busiest(small, (CROP[0] // SCALE, CROP[1] // SCALE))
    panels = []
    for image, label in ((before, "bicubic"), (large, "vidsr")):
        panel = image[y * SCALE : y * SCALE + CROP[1], x * SCALE : x * SCALE + CROP[0]].copy()
        for color, thickness in (((0, 0, 0), 5), ((255, 255, 255), 2)):
            cv2.putText(panel, label, (16, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.1, color, thickness, cv2.LINE_AA)
        panels.append(panel)
    return np.hstack(panels)


def _middle_frame(info: SourceInfo) -> np.ndarray:
    frames = list(decode(info.path, info.video, None, None, None, Report()))[::4]
    frame: Frame = frames[len(frames) // 2]
    planes = [torch.from_numpy(plane.copy())[None] for plane in frame.planes]
    rgb = to_rgb(planes, info.video.format, info.video.color)[0].clamp(0, 1)
    return np.ascontiguousarray((rgb.permute(1, 2, 0) * 255).round().byte().numpy()[:, :, ::-1])


def _busiest(image: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Left top corner of the `size` window with the most edges."""
    edges = cv2.boxFilter(np.abs(cv2.Laplacian(image[:, :, 1], cv2.CV_32F)), -1, size, anchor=(0, 0))
    valid = edges[: max(1, image.shape[0] - size[1]), : max(1, image.shape[1] - size[0])]
    y, x = np.unravel_index(int(valid.argmax()), valid.shape)
    return int(x), int(y)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
