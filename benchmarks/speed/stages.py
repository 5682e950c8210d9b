"""What the pipeline costs around the model, how much memory it takes, and whether colours come through."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import av
import click
import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.common.machine import read_result, write_result
from benchmarks.common.pictures import as_video_frame, decoded, encode
from benchmarks.speed.measure import in_turns
from vidsr.backends import open_backend
from vidsr.backends.cpu import TorchBackend
from vidsr.choose.prepare import Options, prepare
from vidsr.files import as_file
from vidsr.frames import Frame, FrameBatch
from vidsr.models.base import Generator
from vidsr.report import Report
from vidsr.run.job import Job
from vidsr.run.pipeline import run
from vidsr.run.segments import make_plan
from vidsr.run.stages import segment_stages
from vidsr.source.decode import decode

FRAMES = {"fast": 96, "resnet-8": 6}
REPEATS = 5


@click.command()
@click.option("--clip", type=click.Path(exists=True, path_type=Path), default=Path("demo/episode.mkv"), show_default=True)
@click.option("--model", "models", multiple=True, default=("fast", "resnet-8"), show_default=True)
@click.option("--part", "parts", multiple=True, type=click.Choice(["time", "memory", "color"]), default=("time", "memory", "color"))
@click.option("--minutes", default=(1.0, 20.0), nargs=2, show_default=True, help="Lengths of the two clips for memory.")
@click.option("--save/--no-save", default=True)
def stages(clip: Path, models: tuple[str, ...], parts: tuple[str, ...], minutes: tuple[float, float], save: bool) -> None:
    """Pipeline over model time, peak memory, colour errors. What an earlier run measured of other parts is kept."""
    data: dict[str, Any] = read_result("stages") if save else {}
    with tempfile.TemporaryDirectory() as folder:
        if "time" in parts:
            data["time"] = [measure_time(clip, model, Path(folder)) for model in models]
        if "memory" in parts:
            data["memory"] = [measure_memory(length, Path(folder)) for length in minutes]
        if "color" in parts:
            data["color"] = measure_color(clip, Path(folder))
    text = ["# The pipeline's stages", ""]
    for part, table in {"time": _time_table, "memory": _memory_table, "color": _color_table}.items():
        text += table(data[part]) if part in data else []
    print("\n".join(text))
    if save:
        write_result("stages", data, "\n".join(text))


# --- time ------------------------------------------------------------------------------------------------------------


def measure_time(clip: Path, model: str, folder: Path) -> dict[str, Any]:
    """Seconds for the same frames through the backend alone and from decoding to the encoded segment file.

    These, decoding and encoding alternate in one process, so that whatever else the machine does hits both; medians and the ratio of each
    round are kept.
    """
    frames = FRAMES.get(model, 24)
    job = prepare(clip, Options(model=model, output=folder / "time.mkv", overwrite=True), Report())
    plan = make_plan(job.info, job.span, {}, {})
    segment = plan.segments[0]
    every = list(decoded(clip)[1])
    frames = min(frames, len(every))
    segment = replace(segment, end=every[frames].pts if frames < len(every) else None)
    backend = open_backend(job.backend)
    batches = [FrameBatch((frame,), job.info.video.format, job.info.video.color) for frame in every[:frames]]
    for batch in batches[:3]:
        backend(batch)
    enlarged = [backend(batch).frames[0] for batch in batches]
    seconds = in_turns({
        "backend": lambda: [backend(batch) for batch in batches],
        "pipeline": lambda: deque(segment_stages(job, segment, folder / "segment.mkv", backend, Report()), 0),
        "decode": lambda: deque(decode(clip, job.info.video, None, segment.end, None, Report()), 0),
        "encode": lambda: _encode_alone(job, enlarged, folder / "encode.mkv"),
    }, REPEATS)  # fmt: skip
    backend.close()
    times = {name: median(each) for name, each in seconds.items()}
    return {
        "model": model, "clip": clip.name, "frames": frames, "size": f"{job.info.video.width}x{job.info.video.height}",
        "codec": f"{job.encoder.codec} {job.encoder.options.get('preset', '')}".strip(), "backend": backend.description,
        **{f"{name}_s": time for name, time in times.items()}, "ratio": times["pipeline"] / times["backend"],
        "ratios": [b / a for a, b in zip(seconds["backend"], seconds["pipeline"])], "fps": frames / times["pipeline"],
    }  # fmt: skip


def _encode_alone(job: Job, frames: list[Frame], path: Path) -> None:
    from vidsr.encode.encoder import encode as encode_segment

    video, spec = job.info.video, job.backend
    result = spec.result_format, spec.result_color
    deque(encode_segment(frames, path, job.encoder, *result, video.time_base, video.rate, Fraction(1)), 0)


def _time_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [f"## Time, {rows[0]['clip']}, {rows[0]['size']} to 4x, {rows[0]['codec']}", "",
             "| model | frames | backend alone | decode to encode | ratio | fps | decode alone | encode alone |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        lines.append(
            f"| {r['model']} | {r['frames']} | {r['backend_s']:.2f} s | {r['pipeline_s']:.2f} s | {r['ratio']:.2f} | "
            f"{r['fps']:.1f} | {r['decode_s']:.2f} s | {r['encode_s']:.2f} s |"
        )
    return [*lines, ""]


# --- memory ----------------------------------------------------------------------------------------------------------


def measure_memory(minutes: float, folder: Path) -> dict[str, Any]:
    """Peak resident memory of the whole command on a 720x480 clip of that length, with the stand-in backend."""
    source, result = folder / "long.mkv", folder / "long.2x.mkv"
    write_long_clip(source, minutes)
    command = [sys.executable, "-m", "vidsr", str(source), "-o", str(result), "--backend", "nearest", "--scale", "2",
               "--preset", "ultrafast", "--overwrite", "-q"]  # fmt: skip
    script = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    return {"minutes": minutes, "peak_mib": int(done.stdout) / 1024, "seconds": round(seconds, 1)}


def write_long_clip(path: Path, minutes: float) -> None:
    """A 720x480 clip with sound and a keyframe every ten seconds; the picture moves a little, as anime does."""
    with av.open(as_file(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "28", "g": "240"})
        video.width, video.height, video.pix_fmt = 720, 480, "yuv420p"
        audio: Any = container.add_stream("aac", rate=48000)
        luma = cv2.GaussianBlur(np.random.default_rng(0).integers(16, 235, (480, 720), np.uint8), (0, 0), 6)
        tone = (np.sin(np.arange(48000) / 20) * 3000).astype(np.int16)[None]
        for second in range(round(minutes * 60)):
            for i in range(24):
                shown = luma.copy()
                x = (second * 24 + i) * 3 % 640
                shown[200:280, x : x + 60] = 220
                gray = np.full((240, 360), 128, np.uint8)
                container.mux(video.encode(as_video_frame((shown, gray, gray), number=second * 24 + i)))
            sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            sound.sample_rate, sound.pts = 48000, second * 48000
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _memory_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## Peak memory, 720x480 to 2x, nearest neighbour in place of a model", "",
             "| length | peak resident memory | time |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {r['minutes']:g} min | {r['peak_mib']:.0f} MiB | {r['seconds']:.0f} s |" for r in rows]
    return [*lines, ""]


# --- colour ----------------------------------------------------------------------------------------------------------


class Identity(Generator):
    """Nearest neighbour as a generator: whatever changes is the fault of the way to RGB and back."""

    scale, radius = 4, 1  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=4, mode="nearest")


COLORS = {  # name: colorspace, primaries, transfer, range
    "BT.709 tagged": (1, 1, 1, 1),
    "BT.601 tagged": (6, 6, 6, 1),
    "untagged": (2, 2, 2, 0),
    "full range": (1, 1, 1, 2),
}


def measure_color(clip: Path, folder: Path) -> list[dict[str, Any]]:
    """Mean error per plane, in levels of 255, of `clip`'s pictures written under each tag, enlarged, and reduced."""
    originals = list(islice(decoded(clip)[1], 0, 24, 4))
    rows = []
    for name, tags in COLORS.items():
        source, result = folder / "color.mkv", folder / "color.4x.mkv"
        pictures = (as_video_frame(frame.planes, number=i) for i, frame in enumerate(originals))
        encode(source, pictures, {"qp": "0", "preset": "ultrafast"}, tags=tags)
        options = Options(output=result, overwrite=True, codec="ffv1", precision="fp32", backend="nearest")
        job = prepare(source, options, Report())
        job = replace(job, backend=replace(job.backend, name="cpu"))
        run(job, lambda spec: TorchBackend(Identity(), spec), Report())
        before, after = list(decoded(source)[1]), list(decoded(result)[1])
        errors = [
            float(np.mean([np.abs(_reduced(b.planes[i], a.planes[i].shape) - a.planes[i]).mean()
                           for a, b in zip(before, after)]))
            for i in range(3)
        ]  # fmt: skip
        rows.append({"clip": name, "matrix": job.info.video.color.matrix, "mean_error": errors})
    return rows


def _reduced(plane: np.ndarray, shape: tuple[int, ...]) -> Any:
    return cv2.resize(plane.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _color_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["## Colour: enlarged 4x by an identity backend and reduced again, mean error in levels of 255", "",
             "| clip | matrix used | Y | U | V |", "|---|---|---|---|---|"]  # fmt: skip
    for r in rows:
        lines.append(f"| {r['clip']} | {r['matrix']} | " + " | ".join(f"{e:.3f}" for e in r["mean_error"]) + " |")
    return [*lines, ""]


