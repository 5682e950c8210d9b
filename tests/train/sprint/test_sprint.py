"""A sprint rehearsed on the CPU at small size: parts, wheels, workers, steps, weights that survive whatever ends it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from tests.packs import make_pack
from tests.running import ROOT
from train.__main__ import main
from train.data.pack import Pack
from train.degrade import codec
from train.generators.branches import branch
from train.recipes.optimisers import MuonAndAdam
from train.sprint import pool as sprint_pool
from train.sprint import steps as sprint_steps
from train.sprint.machine import Clock, check_codecs, fits, shared, use_wheels
from train.sprint.parts import INDEX, Parts, decode_crop, encode_crop
from train.sprint.pool import SIDE, SLOTS, Pool, Workers
from train.sprint.run import Sprint, first_weights, size_of
from train.sprint.steps import CriticStep, Rescue, Settings, Step, prepared, with_graph
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import load_generator, save_generator

CPU = torch.device("cpu")
SMALL = [
    "--batch", "2", "--crop", "32", "--critic-crop", "32", "--critic-width", "4", "--workers", "1", "--first", "2",
    "--pool", "16", "--rate", "2e-3",
]  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture(scope="module")
def parts(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts, the first with both validation pictures."""
    out = tmp_path_factory.mktemp("data") / "parts"
    said = sprint("pack", "--pack", pack.folder, "--out", out, "--part-mb", 0.3, "--weight", "few=0.5")
    assert said[0] == 0
    return out


@pytest.fixture
def copy(parts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts, tmp_path / "parts"))


def sprint(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["sprint", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a hundredth of a second each time it is looked at, however busy the machine is."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(Clock, "now", lambda self: next(ticks) / 100)
    monkeypatch.setattr(sprint_pool.time, "sleep", lambda seconds, real=time.sleep: real(max(seconds, 0.05)))


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# --- parts ---


def test_parts_hold_what_the_pack_holds(pack: Pack, parts: Path) -> None:
    opened = Parts(parts)
    assert sorted(path.name for path in parts.iterdir()) == [INDEX, "part-000.bin", "part-001.bin"]
    assert all(path.stat().st_size <= 0.3 * 2**20 for path in parts.glob("part-*"))
    assert len(opened) == 8 and opened.missing == 0
    crops = shared((8, 384, 384, 3))
    opened.decode_into(crops, 2)
    shards, index, odds = pack.train_crops((("few", 0.5),))
    originals = [np.array(shards[shard][row]) for shard, row in index]
    for crop, odd in zip(crops, opened.odds):
        errors = [np.mean((crop.astype(float) - original) ** 2) for original in originals]
        nearest = int(np.argmin(errors))
        assert 10 * np.log10(255**2 / errors[nearest]) > 35 and odd == pytest.approx(odds[nearest])
    assert [picture.shape for picture in opened.validation()] == [(416, 416, 3)] * 2


def test_colours_are_stored_whole() -> None:
    """Lines of colour one pixel wide, which 4:2:0 would blur."""
    pixels = np.full((64, 64, 3), (90, 90, 200), np.uint8)
    pixels[:, ::4] = (200, 90, 90)
    back = decode_crop(np.frombuffer(encode_crop(pixels, 90), np.uint8))
    assert np.abs(back.astype(int) - pixels).mean() < 4
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_crop(np.zeros(100, np.uint8))


def test_the_same_pack_gives_the_same_parts(pack: Pack, parts: Path, tmp_path: Path) -> None:
    weights = tmp_path / "8x2.safetensors"
    save_generator(Compact(8, 2), weights, {})
    options = ["--pack", pack.folder, "--part-mb", 0.3, "--weight", "few=0.5"]
    code, said = sprint("pack", *options, "--out", tmp_path / "again", "--init", weights)
    assert code == 0 and "1.   0.0 MiB: index.json, init/8x2.safetensors" in said and "part-001.bin" in said
    for name in ("part-000.bin", "part-001.bin"):
        assert (tmp_path / "again" / name).read_bytes() == (parts / name).read_bytes()
    code, said = sprint("pack", *options, "--out", tmp_path / "again")
    assert code == 1 and "--replace makes them anew" in said
    assert sprint("pack", *options, "--out", tmp_path / "again", "--replace")[0] == 0
    assert not list((tmp_path / "again").glob("init/*")) and len(Parts(tmp_path / "again")) == 8


def test_a_second_pack_has_its_share(pack: Pack, tmp_path: Path) -> None:
    scenes = make_pack(tmp_path / "scenes", train=2, kept=0)
    options = ["--scenes-pack", scenes.folder, "--scenes-share", 0.25, "--validation", 1]
    assert sprint("pack", "--pack", pack.folder, "--out", tmp_path / "parts", *options)[0] == 0
    odds = sorted(Parts(tmp_path / "parts").odds)
    assert odds == pytest.approx([0.75 / 8] * 8 + [0.125] * 2) and len(Parts(tmp_path / "parts").validation()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part-mb", "0.05"], "--part-mb"),
        (["--wheel", "nowhere.whl"], "nowhere.whl: no such file"),
        (["--init", "nobody"], "unknown model"),
        (["--weight", "*=0"], "no training crop is left"),
    ],
)
def test_what_cannot_be_packed(options: list[str], message: str, pack: Pack, tmp_path: Path) -> None:
    code, said = sprint("pack", "--pack", pack.folder, "--out", tmp_path / "parts", *options)
    assert code == 1 and message in said and said.count("\n") == 1
    assert not (tmp_path / "parts" / INDEX).exists()


def test_missing_and_damaged_parts(copy: Path) -> None:
    second = copy / "part-001.bin"
    content = second.read_bytes()
    second.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"part-001.bin: damaged; bring it again"):
        Parts(copy)
    second.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"part-001.bin: got \d+ bytes, expected \d+: cut short\?; bring it again"):
        Parts(copy, partial=True)
    second.unlink()
    with pytest.raises(ValueError, match=r"part-001.bin: missing; bring it too, or --partial"):
        Parts(copy)
    some = Parts(copy, partial=True)
    assert 0 < len(some) < 8 and some.missing == 1 and some.odds.sum() == pytest.approx(1)
    (copy / "part-000.bin").unlink()
    with pytest.raises(ValueError, match="validation is in it"):
        Parts(copy, partial=True)
    (copy / INDEX).write_text("{")
    with pytest.raises(ValueError, match=r"index.json: damaged"):
        Parts(copy)
    code, said = sprint("run", "--parts", copy / "nowhere", "--out", copy / "out")
    assert code == 1 and "no index.json there" in said


# --- the machine ---


@pytest.mark.parametrize(
    ("wheel", "fitting"),
    [
        ("av-18.1.0-cp312-cp312-manylinux_2_28_x86_64.whl", True),
        ("av-18.1.0-cp311-cp311-manylinux_2_28_x86_64.whl", False),
        ("av-18.1.0-cp311-abi3-manylinux_2_28_x86_64.whl", True),
        ("av-18.1.0-cp313-abi3-manylinux_2_28_x86_64.whl", False),
        ("rich-14.0-py3-none-any.whl", True),
        ("six-1.0-py2.py3-none-any.whl", True),
        ("odd.whl", False),
    ],
)
def test_which_wheels_fit_python_3_12(wheel: str, fitting: bool) -> None:
    assert fits(wheel, (3, 12)) == fitting


def test_a_wheel_is_used_where_the_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert use_wheels(tmp_path, "click") is None
    with pytest.raises(ValueError, match="toywheel is missing and no wheel of it lies in"):
        use_wheels(tmp_path, "toywheel")
    wheel = tmp_path / "toywheel-1.0-py3-none-any.whl"
    wheel.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        use_wheels(tmp_path, "toywheel")
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("toywheel/__init__.py", "word = 'there'")
    with use_wheels(tmp_path, "toywheel"):  # type: ignore[union-attr]
        import toywheel  # type: ignore[import-not-found]

        assert toywheel.word == "there"
    (tmp_path / "toyold-1.0-cp27-cp27m-any.whl").touch()
    with pytest.raises(ValueError, match=r"toyold-1.0-cp27-cp27m-any.whl: not for Python 3"):
        use_wheels(tmp_path, "toyold")


def test_without_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> tuple[str, ...]:
        raise click.ClickException("none")

    monkeypatch.setattr(codec, "usable_codecs", none)
    with pytest.raises(ValueError, match=r"encodes with none of libx264, .*: bring its own wheel"):
        check_codecs(print)


def test_without_av(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # which makes its import fail
    code, said = sprint("run", "--parts", parts, "--out", tmp_path / "out")
    assert code == 1 and "av is missing and no wheel of it lies in" in said and "pip download" in said


def test_the_clock_counts_from_the_start_of_the_process() -> None:
    assert 0 < Clock(11).now() < 86400
    assert Clock(11).end == 11 * 60 - 15 and Clock(0.2).end == 9


# --- pairs ---


def test_pairs_are_aligned() -> None:
    """Rows and columns of a ramp, whose lowres is its mean: they stay each other's, however they are turned."""
    workers = Workers(shared((1, 384, 384, 3)), np.ones(1), 1, 4, 0)
    try:
        ramp = np.arange(SIDE)
        picture = np.stack(np.broadcast_arrays(ramp[:, None] / 2, ramp[None] / 2, 5 * (ramp % 40)), 2).astype(np.uint8)
        workers.highres[:2] = picture
        small = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        workers.lowres[:2] = F.avg_pool2d(small, 4)[0].permute(1, 2, 0).byte().numpy()
        workers.state[:2] = sprint_pool.FULL
        pool = Pool(workers, 3, 4, CPU)
        assert pool.refill() == 2 and pool.refill() == 0 and pool.fresh == 2
        lowres, highres = pool.draw(16, 48)
        assert lowres.shape == (16, 3, 12, 12) and highres.shape == (16, 3, 48, 48)
        assert (F.avg_pool2d(highres, 4) - lowres).abs().max() < 1.1 / 255
        assert len({float(picture.sum()) for picture in highres}) > 4
        workers.state[:SLOTS] = sprint_pool.FULL  # more than are left before the end: the oldest are replaced
        assert pool.refill() == 3 and pool.fresh == 5 and (pool.highres.flatten(1).sum(1) > 0).sum() >= 2
    finally:
        workers.close()


@pytest.mark.parametrize("fault", ["error", "killed"])
def test_a_worker_that_dies_is_one_line(fault: str, monkeypatch: pytest.MonkeyPatch, capfd) -> None:  # type: ignore
    def broken(*_arguments: Any) -> None:
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("no such codec\nmore")

    monkeypatch.setattr(sprint_pool, "degrade", broken)
    workers = Workers(shared((1, 384, 384, 3)), np.ones(1), 1, 4, 0)
    workers.start()
    try:
        pool = Pool(workers, 2, 4, CPU)
        reason = "perhaps because memory ran out" if fault == "killed" else "RuntimeError: no such codec"
        with pytest.raises(ChildProcessError, match=f"degrades pictures ended .*{reason}") as raised:
            pool.wait_for(1, lambda: 1.0)
        assert "\n" not in str(raised.value)
    finally:
        workers.close()


# --- steps ---


class Stand:
    """A pool of random pairs."""

    device = CPU

    def draw(self, batch: int, crop: int) -> tuple[torch.Tensor, torch.Tensor]:
        highres = torch.rand(batch, 3, crop, crop)
        return F.avg_pool2d(highres, 4), highres


def a_step(kind: type[Step] = Step, batch: int = 2) -> Step:
    torch.manual_seed(1)
    generator = branch(Compact(16, 2))  # channels enough for Muon
    average = branch(Compact(16, 2)).requires_grad_(False)
    average.load_state_dict(generator.state_dict())
    settings = Settings(crop=32, critic_crop=32, critic_width=4, critic_first=1, warmup=1)
    return kind(generator, average, Stand(), settings, batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Step, CriticStep])
def test_steps_teach_all_they_should(kind: type[Step]) -> None:
    step = a_step(kind)
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in (*step.networks(), step.average)]
    for _ in range(3):
        step.set_rate(0.0)
        step()
    for network, old in zip((*step.networks(), step.average), before, strict=True):
        still = {name for name, value in network.state_dict().items() if torch.equal(value, old[name])}
        assert still <= {"head.1.bias", "head.3.bias"}  # the critic's last: only differences of its scores count
    numbers = step.numbers(3)
    assert set(numbers) == set(kind.NAMES) and 0.1 < numbers["content"] < 1
    assert step.numbers(1)["content"] == 0
    step.set_rate(1.0)
    ended = [{k: v.clone() for k, v in n.state_dict().items()} for n in step.networks()]
    step()  # the rate has come down to zero, of all parts
    for network, old in zip(step.networks(), ended, strict=True):
        assert all(torch.equal(value, old[name]) for name, value in network.state_dict().items())


def test_muon_moves_the_kernels_until_there_is_a_critic() -> None:
    assert isinstance(a_step().optimiser, MuonAndAdam)
    assert not isinstance(a_step(CriticStep).optimiser, MuonAndAdam)


@pytest.mark.parametrize("kind", [Step, CriticStep])
def test_a_step_asks_the_device_for_nothing(kind: type[Step]) -> None:
    """No number comes to the host within a step and none is sent, or no CUDA graph could hold it."""
    told: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            told.append(func.name())
            if func.name() == "aten::index.Tensor":  # by a mask it would first have to count
                assert all(index is None or index.dtype == torch.int64 for index in args[1])
            return func(*args, **(kwargs or {}))

    workers = Workers(shared((1, 384, 384, 3)), np.ones(1), 1, 4, 0)
    try:
        pool = Pool(workers, 4, 4, CPU)
        pool.highres.random_(0, 256)
        pool._filled.fill_(4)
        step = a_step(kind)
        step.pool = pool
        step.set_rate(0.0)
        step()
        with Watch():
            step()
    finally:
        workers.close()
    asking = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::lift_fresh", "aten::equal"}
    assert "aten::index.Tensor" in told and not asking & set(told)


def test_back_to_the_weights_before() -> None:
    step = a_step(CriticStep)
    step.set_rate(0.0)
    step()
    rescue = Rescue(step)
    kept = {name: value.clone() for name, value in step.generator.state_dict().items()}
    with torch.no_grad():
        next(step.generator.parameters()).fill_(float("nan"))
    step()
    assert not all(np.isfinite(list(step.numbers(1).values())))
    rescue.go_back()
    assert all(torch.equal(value, kept[name]) for name, value in step.generator.state_dict().items())
    step()
    assert all(np.isfinite(list(step.numbers(1).values())))


def test_half_the_batch_where_memory_runs_out() -> None:
    said: list[str] = []

    def make(batch: int) -> Step:
        if batch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return a_step(batch=batch)

    assert prepared(make, 8, said.append).batch == 2
    assert said == ["out of memory: going on with batches of 4", "out of memory: going on with batches of 2"]

    def never(batch: int) -> Step:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ValueError, match="out of memory with one crop a step"):
        prepared(never, 2, said.append)


def test_single_kernels_where_nothing_can_be_recorded() -> None:
    said: list[str] = []

    def fails(_body: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    step = with_graph(a_step(), fails, said.append)
    step()
    assert step.steps == 1 and not step.recorded
    assert said == [
        "no CUDA graph (operation not permitted when stream is capturing): going on with single kernels, several "
        "times as slow"
    ]
    played: list[int] = []
    step = with_graph(a_step(), lambda _body: lambda: played.append(1), said.append)
    step()
    assert step.recorded and played == [1]


# --- the run ---


def test_sizes_of_the_plan() -> None:
    assert size_of("balanced") == (64, 16) and size_of("48x12") == (48, 12)
    for odd in ("huge", "2x1", "8x", "8x0"):
        with pytest.raises(ValueError, match="expected one of tiny, fast, balanced, best"):
            size_of(odd)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plan", "balanced=x"], "expected NAME=SHARE"),
        (["--plan", "balanced=0"], "expected NAME=SHARE"),
        (["--plan", "huge=1"], "got 'huge'"),
        (["--plan", "fast", "--generator", "fast"], "give one of them"),
        (["--init", "fast"], "expected NAME=START"),
        (["--init", "fast=scratch"], "--init fast: not in the plan"),
        (["--critic-share", "fast=0"], "--critic-share fast: not in the plan"),
        (["--critic-share", "1"], "expected SHARE or NAME=SHARE"),
        (["--critic-share", "balanced=much"], "expected SHARE or NAME=SHARE"),
        (["--crop", "36"], "multiples of 8"),
    ],
)
def test_what_cannot_be_run(options: list[str], message: str, parts: Path, tmp_path: Path) -> None:
    code, said = sprint("run", "--parts", parts, "--out", tmp_path / "out", *options)
    assert code in (1, 2) and message in said


def test_what_a_generator_begins_as(tmp_path: Path) -> None:
    asked = Sprint(tmp_path / "parts", tmp_path / "out", 1, (("balanced", 1), ("best", 1)), init={"fast": "scratch"})
    assert first_weights("fast", asked) == "scratch"
    assert Path(first_weights("balanced", asked)).name == "balanced.safetensors"
    assert Path(first_weights("best", asked)).name == "best.safetensors"
    assert Path(first_weights("96x23", asked)).name == "balanced.safetensors"  # the largest that can be grown
    assert Path(first_weights("32x9", asked)).name == "fast.safetensors"
    assert first_weights("8x2", asked) == "interpolation"
    for folder in ("out", "parts/init"):  # the newest: trained just now, or brought for it
        (tmp_path / folder).mkdir(parents=True)
    save_generator(Compact(64, 16), tmp_path / "out" / "balanced.safetensors", {})
    assert first_weights("96x23", asked) == str(tmp_path / "out" / "balanced.safetensors")
    assert first_weights("balanced", asked) != str(tmp_path / "out" / "balanced.safetensors")
    save_generator(Compact(8, 2), tmp_path / "parts" / "init" / "best.safetensors", {})
    assert first_weights("best", asked) == str(tmp_path / "parts" / "init" / "best.safetensors")


def test_a_rehearsal(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """The first generator from weights that came along, the second grown from it; log, figures, what is left in OUT."""
    steady(monkeypatch)
    out = tmp_path / "out"
    options = ["--plan", "8x2=2,12x3=1", "--minutes", "0.12", "--export-minutes", "0.02", "--device", "cpu"]
    code, said = sprint("run", "--parts", copy, "--out", out, *options, *SMALL, "--meta", "licence=ours")
    assert code == 0, said
    assert f"12x3: starts as {out / '8x2.safetensors'}, grown from 8 channels and 2 layers" in said
    log = log_of(out)
    assert log[0]["event"] == "start" and log[0]["plan"] == {"8x2": 2.0, "12x3": 1.0}
    stages = [(entry["generator"], entry["stage"]) for entry in log if entry["event"] == "stage"]
    assert stages == [("8x2", "content"), ("8x2", "critic"), ("12x3", "content"), ("12x3", "critic")]
    for name, size in (("8x2", (8, 2)), ("12x3", (12, 3))):
        ours = [entry for entry in log if entry.get("generator") == name]
        start = next(entry["validation"] for entry in ours if entry["event"] == "generator")
        exports = [entry for entry in ours if entry["event"] == "export" and entry["file"] == f"{name}.safetensors"]
        assert len(exports) >= 2 and all(entry["written"] for entry in exports)
        for source in ("none", "video", "worn"):  # in seconds on a busy machine little is learned, but nothing spoilt
            assert exports[-1]["validation"][source]["psnr"] > start[source]["psnr"] - 0.3
        weights: Any = load_generator(out / f"{name}.safetensors")
        assert (weights.channels, weights.layers) == size and (out / f"{name}-content.safetensors").exists()
        with safe_open(out / f"{name}.safetensors", "pt") as file:
            metadata = file.metadata()
        assert metadata["licence"] == "ours" and metadata["steps"] == str(exports[-1]["step"])
        assert json.loads(metadata["metrics"])["video"]["generator"] == exports[-1]["validation"]["video"]
    looks = [entry for entry in log if entry["event"] == "look"]
    assert {"step", "seconds", "steps_a_second", "content", "fresh"} <= set(looks[-1])
    code, said = sprint("run", "--parts", copy, "--out", out, "--plan", "8x2")
    assert code == 1 and "is there already: give another --out" in said


def test_a_generator_that_fails_costs_the_others_nothing(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Here for weights that do not fit; the next gets its time, and has no critic, as asked."""
    steady(monkeypatch)
    out = tmp_path / "out"
    options = ["--plan", "8x2=2,8x3=1", "--init", "8x2=srgan", "--minutes", "0.05", "--device", "cpu"]
    shares = ["--critic-share", "0.3", "--critic-share", "8x3=0"]
    code, said = sprint("run", "--parts", parts, "--out", out, *options, *shares, *SMALL)
    assert code == 1 and "Error: not all could be trained; 8x2: ValueError: " in said
    assert sorted(path.name for path in out.iterdir()) == ["8x3.safetensors", "log.jsonl"]
    log = log_of(out)
    (failed,) = (entry for entry in log if entry["event"] == "failed")
    assert failed["generator"] == "8x2" and "Traceback" in failed["trace"]
    assert {(e["generator"], e["stage"]) for e in log if e["event"] == "stage"} == {("8x3", "content")}


def test_training_goes_on_without_a_worker_that_died(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    steady(monkeypatch)
    real = Workers.start

    def dying(self: Workers) -> None:
        real(self)
        while sum(self.state) < 4:
            time.sleep(0.05)
        os.kill(self._processes[1].pid, signal.SIGKILL)  # type: ignore[arg-type]
        self._processes[1].join()
        monkeypatch.setattr(Pool, "wait_for", lambda self, pairs, left: self.refill())

    monkeypatch.setattr(Workers, "start", dying)
    small = [*SMALL, "--workers", "2", "--critic-share", "0"]
    options = ["--plan", "8x2", "--minutes", "0.05", "--device", "cpu"]
    code, said = sprint("run", "--parts", parts, "--out", tmp_path / "out", *options, *small)
    assert code == 0 and "killed, perhaps because memory ran out" in said
    assert "going on with the pairs there are" in said
    load_generator(tmp_path / "out" / "8x2.safetensors")


def test_a_signal_ends_it_after_an_export(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    steady(monkeypatch)
    real, calls = Step.__call__, []

    def interrupting(self: Step) -> None:
        real(self)
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sprint_steps.Step, "__call__", interrupting)
    code, _ = sprint("run", "--parts", parts, "--out", tmp_path / "out", "--plan", "8x2,8x3", *SMALL, "--device", "cpu")
    assert code == 128 + signal.SIGTERM and len(calls) == 3
    load_generator(tmp_path / "out" / "8x2.safetensors")
    assert not (tmp_path / "out" / "8x3.safetensors").exists()


def test_killed_on_a_machine_with_little_installed(parts: Path, tmp_path: Path) -> None:
    """What a rented machine may lack is not imported, and kill -9 leaves weights that can be loaded, and no worker."""
    absent = ["accelerate", "tensorboard", "rich", "PIL", "imagehash", "skia", "scipy"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from train.__main__ import main; main()"
    out = tmp_path / "out"
    options = ["--parts", parts, "--out", out, "--minutes", "9", "--plan", "8x2", "--export-minutes", "0.001"]
    command = [sys.executable, "-c", code, "sprint", "run", *map(str, options), *SMALL, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while sum(entry["event"] == "export" for entry in (log_of(out) if out.exists() else [])) < 2:
            assert run.poll() is None and time.monotonic() < deadline, (tmp_path / "said").read_text()
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    load_generator(out / "8x2.safetensors")
    deadline = time.monotonic() + 30
    while True:  # the workers see that their parent is gone
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.cuda
def test_on_a_gpu_whole_steps_are_recorded(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steady(monkeypatch)
    out = tmp_path / "out"
    options = ["--plan", "16x3", "--minutes", "0.2", "--device", "cuda"]
    code, said = sprint("run", "--parts", parts, "--out", out, *options, *SMALL)
    assert code == 0, said
    log = log_of(out)
    assert all(entry["recorded"] for entry in log if entry["event"] == "stage") and "no CUDA graph" not in said
    start = next(entry["validation"] for entry in log if entry["event"] == "generator")
    last = next(entry["validation"] for entry in reversed(log) if entry["event"] == "export")
    assert last["none"]["psnr"] > start["none"]["psnr"]


@pytest.mark.cuda
@pytest.mark.parametrize("kind", [Step, CriticStep])
def test_on_a_gpu_what_cannot_be_recorded_goes_on(
    kind: type[Step], parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady(monkeypatch)
    real = kind._body

    def asking(self: Step) -> None:
        real(self)
        self.totals.tolist()

    monkeypatch.setattr(kind, "_body", asking)
    options = ["--plan", "16x3", "--minutes", "0.1", "--device", "cuda"]
    code, said = sprint("run", "--parts", parts, "--out", tmp_path / "out", *options, *SMALL)
    assert code == 0 and "no CUDA graph" in said, said


@pytest.mark.cuda
@pytest.mark.parametrize("kind", [Step, CriticStep])
def test_on_a_gpu_a_recorded_step_is_new_each_time(kind: type[Step]) -> None:
    """It draws new crops, moves all that learns, and needs no more memory however often it is played."""
    workers = Workers(shared((1, 384, 384, 3)), np.ones(1), 1, 4, 0)
    try:
        pool = Pool(workers, 4, 4, torch.device("cuda"))
        pool.highres.random_(0, 256)
        pool.lowres.random_(0, 256)
        pool._filled.fill_(4)
        generator: Any = branch(Compact(16, 3)).cuda()
        average = branch(Compact(16, 3)).cuda().requires_grad_(False)
        settings = Settings(crop=64, critic_width=8, warmup=1, critic_first=1)
        step = prepared(lambda batch: kind(generator, average, pool, settings, batch), 4, print)
        assert step.recorded
        step.numbers(1)
        seen = []
        for _ in range(4):
            step.set_rate(0.0)
            before = torch.cat([p.flatten() for n in step.networks() for p in n.parameters()]).clone()
            step()
            after = torch.cat([p.flatten() for n in step.networks() for p in n.parameters()])
            assert not torch.equal(before, after)
            seen.append(step.numbers(1)["content"])
        assert len(set(seen)) == 4 and all(map(np.isfinite, seen))
        held = torch.cuda.memory_reserved()
        for _ in range(100):
            step()
        torch.cuda.synchronize()
        assert torch.cuda.memory_reserved() == held
    finally:
        workers.close()
