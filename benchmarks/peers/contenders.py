"""Those that are compared: each enlarges frame after frame of the same material and tells how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from av.video.reformatter import Interpolation

from benchmarks.common.material import Material, as_encoded, as_picture
from benchmarks.common.metrics import psnr
from benchmarks.common.pictures import as_video_frame, samples
from benchmarks.peers.folder import ENGINE, PEERS, Runner, Unusable, environment, install
from benchmarks.speed.around import at_once
from benchmarks.speed.measure import plain_spec
from vidsr.frames import Frame, FrameBatch

if TYPE_CHECKING:
    from vidsr.backends.base import Precision
    from vidsr.run.job import Job
    from vidsr.run.segments import Segment

ALIKE = 20.0  # dB from bicubic, below which a picture is broken


class Contender(Protocol):
    """name: as in the ratios. kind: "model", "peer", "floor" or "episode". facts: what a result keeps of it.

    frames_each: how many frames one time of `turn` is for.
    """

    name: str
    kind: str
    facts: dict[str, Any]
    frames_each: int

    def turn(self, keep: Callable[[int, np.ndarray], None] | None) -> list[float]:
        """Enlarge all frames; the seconds that they took. keep: takes each picture, [4H, 4W, 3] uint8 R'G'B', untimed.
        Unusable when it can no longer."""
        ...

    def close(self) -> None: ...


class FrameByFrame:
    frames_each = 1

    def __init__(self, name: str, kind: str, material: Material, facts: dict[str, Any]) -> None:
        self.name, self.kind, self.material, self.facts = name, kind, material, facts

    def turn(self, keep: Callable[[int, np.ndarray], None] | None) -> list[float]:
        times = []
        for i in range(len(self.material.batches)):
            times.append(self.enlarge(i))
            if keep:
                keep(i, self.picture())
        return times

    def enlarge(self, i: int) -> float:
        raise NotImplementedError

    def picture(self) -> np.ndarray:
        """The last one, as a video would have it."""
        raise NotImplementedError

    def close(self) -> None:
        pass


class Ours(FrameByFrame):
    """A model by vidsr's own backend on the CPU: from planes to planes. precision: as in a BackendSpec."""

    def __init__(self, model: str, material: Material, precision: Precision | None = None) -> None:
        from vidsr.backends import open_backend

        self.backend = open_backend(replace(plain_spec("cpu", model, material.scale, material.source), precision=precision))
        super().__init__(Path(model).stem, "model", material, {"title": f"vidsr, {self.backend.description}"})
        self.result: FrameBatch | None = None

    def enlarge(self, i: int) -> float:
        start = time.perf_counter()
        self.result = self.backend(self.material.batches[i])
        return time.perf_counter() - start

    def picture(self) -> np.ndarray:
        assert self.result is not None
        return as_picture(self.result.frames[0].planes, self.result.format, self.result.color)

    def close(self) -> None:
        self.backend.close()


class Bicubic(FrameByFrame):
    """swscale's, from planes to planes: the floor."""

    def __init__(self, material: Material, threads: int) -> None:
        super().__init__("bicubic", "floor", material, {"title": "bicubic, swscale"})
        self.threads = threads
        self.sources = [as_video_frame(batch.frames[0].planes, batch.format) for batch in material.batches]
        self.enlarge(0)

    def enlarge(self, i: int) -> float:
        frame = self.sources[i]
        start = time.perf_counter()
        scale = self.material.scale
        self.result = frame.reformat(frame.width * scale, frame.height * scale, interpolation=Interpolation.BICUBIC, threads=self.threads)
        return time.perf_counter() - start

    def picture(self) -> np.ndarray:
        first = self.material.batches[0]
        shapes = first.format.plane_shapes(self.result.width, self.result.height)
        planes = [samples(plane, first.format.dtype)[:, :width] for plane, (_, width) in zip(self.result.planes, shapes)]
        return as_picture(planes, first.format, first.color)


class PeerRun(FrameByFrame):
    """A peer through ncnn, in a process and an environment of its own: from R'G'B' of 8 bits to the same, 4 times as large.

    pictures: what `save_pictures` made of `material`. folder: for what it makes. precision: "default" (ncnn's), or
    "fastest" of that and bf16, which is tried first.
    """

    def __init__(
        self, name: str, material: Material, threads: int, python: Path, pictures: Path, folder: Path, precision: str = "fastest"
    ) -> None:  # fmt: skip
        peer = PEERS[name]
        super().__init__(name, "peer", material, {"title": f"{peer.title} ({peer.note})", "package": peer.requirement})
        self.path = folder / f"{name}.npy"
        self.runner = Runner(python, name, str(pictures), str(self.path), str(threads), precision)
        self.facts |= self.runner.first

    def enlarge(self, i: int) -> float:
        return float(self.runner.ask(frame=i)["seconds"])

    def picture(self) -> np.ndarray:
        first = self.material.batches[0]
        return as_encoded(np.load(self.path), first.format, first.color)

    def close(self) -> None:
        self.runner.close()


class EndToEnd:
    """A model from decoding to the encoded segment file, as `vidsr` runs it with x264, with or without reuse."""

    kind = "episode"

    def __init__(self, model: str, material: Material, reuse: str, frames: int, folder: Path) -> None:
        from vidsr.backends import open_backend
        from vidsr.choose.prepare import Options, prepare
        from vidsr.report import Report

        source = material.source
        assert source.path is not None
        self.name, self.frames_each, self.folder = f"{Path(model).stem}_reuse_{reuse}", frames, folder
        options = Options(scale=material.scale, output=folder / "result.mkv", overwrite=True, model=model, backend="cpu",
                          codec="x264", reuse=None if reuse == "auto" else reuse)  # type: ignore[arg-type]  # fmt: skip
        self.job: Job = prepare(source.path, options, Report())
        self.end = source.end(frames)
        self.backend = open_backend(self.job.backend)
        self.backend(material.batches[0])  # warms up
        self.facts: dict[str, Any] = {"title": f"vidsr, {Path(model).stem}, decode to encode, reuse {reuse}",
                                      "encoder": f"{self.job.encoder.encoder} {dict(self.job.encoder.options)}"}  # fmt: skip

    def turn(self, keep: Callable[[int, np.ndarray], None] | None) -> list[float]:
        from vidsr.report import Report
        from vidsr.reuse.reuse import ReuseCounts
        from vidsr.run.segments import Segment
        from vidsr.run.stages import segment_stages

        saved = ReuseCounts()
        segment: Segment = Segment(0, None, self.end, None, self.frames_each)

        def stages(index: int) -> Iterator[Frame]:
            return segment_stages(self.job, segment, self.folder / "segment.mkv", self.backend, Report(), None, saved)

        seconds = at_once(stages, 1, 1)
        self.facts["computed"] = saved.computed_pixels / saved.all_pixels if saved.all_pixels else 1.0  # share of the pixels
        return [seconds]

    def close(self) -> None:
        self.backend.close()


def open_peers(
    names: list[str], material: Material, threads: int, folder: Path, work: Path, bicubic: Bicubic
) -> tuple[list[Contender], list[dict[str, Any]]]:
    """The peers that work here, and a row with the reason for each that does not.

    folder: of the peers' environment. work: for the pictures that travel between the processes.
    """
    pictures = save_pictures(material, work / "frames.npy")
    bicubic.enlarge(0)
    expected = bicubic.picture()
    found: list[Contender] = []
    missing = []
    for name in names:
        try:
            python = environment(folder)
            install(python, (*ENGINE, PEERS[name].requirement))
            peer = PeerRun(name, material, threads, python, pictures, work)
            check_picture(peer, expected)
            found.append(peer)
        except Unusable as error:
            missing.append({"name": name, "kind": "peer", "title": PEERS[name].title, "left out": str(error)})
    return found, missing


def save_pictures(material: Material, path: Path) -> Path:
    """`material`'s frames for the process of a peer, in `path`: [N, H, W, 3] uint8 R'G'B'."""
    np.save(path, np.concatenate([
        as_picture(frame.planes, batch.format, batch.color)[None] for batch in material.batches for frame in batch.frames
    ]))  # fmt: skip
    return path


def check_picture(peer: PeerRun, expected: np.ndarray) -> None:
    """Notes how near its first picture is to bicubic's, `expected`; Unusable, and closed, when it is none of the frame."""
    try:
        peer.enlarge(0)
        alike = psnr(peer.picture(), expected)
        peer.facts["psnr_to_bicubic"] = alike
        if alike < ALIKE:
            raise Unusable(f"its picture is broken: {alike:.1f} dB from bicubic's, less than {ALIKE:.0f}")
    except Unusable:
        peer.close()
        raise
