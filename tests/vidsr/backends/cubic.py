"""A backend of few lines: each plane enlarged by OpenCV's bicubic interpolation, for test_registry.py."""

import cv2

from vidsr.backends.base import BackendKind, Immediate
from vidsr.frames import Frame, FrameBatch


class Cubic(Immediate):
    context, description = 4, "bicubic"

    def __init__(self, spec, notify):
        self.spec, self.scale = spec, spec.scale

    def __call__(self, batch):
        shapes = batch.format.plane_shapes(batch.width * self.scale, batch.height * self.scale)
        frames = tuple(
            Frame(
                tuple(cv2.resize(p, s[::-1], interpolation=cv2.INTER_CUBIC) for p, s in zip(frame.planes, shapes)),
                frame.pts, frame.duration,
            )
            for frame in batch.frames
        )  # fmt: skip
        return FrameBatch(frames, self.spec.result_format, self.spec.result_color)

    def settle(self, width, height, patches=True):
        return {"backend": "cubic"}

    def close(self): ...


KIND = BackendKind("cubic", lambda: None, Cubic, batch_size=3, needs_model=False, chosen_unasked=False)
