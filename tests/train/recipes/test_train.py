"""Runs of a few steps: every recipe, resuming, and what stops a run."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from tests.packs import make_pack
from tests.running import ROOT
from train.__main__ import main
from train.data.pack import Pack
from train.generators.build import build_generator, edge_gradients, update_average
from train.options import Options
from train.recipes import loop as recipes
from train.recipes.loop import train
from train.recipes.losses import CONTENT
from train.run import checkpoints
from train.run import run as run_module
from train.run.checkpoints import Checkpoints
from train.run.run import Diverged
from vidsr.models.architectures import Compact, SRResNet
from vidsr.models.checkpoint import load_generator, save_generator

RECIPES = ("resnet", "srgan", "srwgan-gp")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture
def options(pack: Pack, tmp_path: Path) -> Options:
    """A run of ten steps that takes no time."""
    return Options(
        recipe="resnet", pack=str(pack.folder), out=str(tmp_path / "run"), generator="compact", channels=8, layers=2,
        init="scratch", batch=2, crop=32, rate=1e-3, critic_width=4, adversarial=1e-3, steps=10, pretrain_epochs=0.5,
        precision="fp32", metadata={"name": "tiny"},
    )  # fmt: skip


@pytest.fixture
def against_a_critic(options: Options) -> Options:
    return dataclasses.replace(options, recipe="srwgan-gp")


def parts_of(folder: str | Path) -> dict[str, Any]:
    return Checkpoints(Path(folder) / "checkpoints", 2).load()[0]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("generator", ["compact", "srresnet"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_five_steps_of_each_recipe(recipe: str, generator: str, options: Options) -> None:
    options = dataclasses.replace(options, recipe=recipe, generator=generator, blocks=1, steps=5, precision="auto")
    weights = train(options, say=lambda line: None)
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    assert (metadata["name"], metadata["steps"], metadata["recipe"]) == ("tiny", "5", recipe)
    assert set(json.loads(metadata["metrics"])["none"]["bicubic"]) == {"psnr", "ssim"}
    assert load_generator(weights)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 32, 32)
    parts = parts_of(options.out)
    fresh = build_generator(options)[0].state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in parts["generator"].items())
    judge = {"srgan": "discriminator", "srwgan-gp": "critic"}.get(recipe)
    assert {"discriminator", "critic"} & set(parts) == ({judge} if judge else set())


def test_the_critic_may_see_other_pictures_as_real(against_a_critic: Options) -> None:
    options = against_a_critic
    def critic(**changes: Any) -> dict[str, Any]:
        out = f"{options.out}-{len(changes)}"
        chosen = dataclasses.replace(options, steps=1, pretrain_epochs=0, out=out, **changes)
        train(chosen, say=lambda line: None)
        return parts_of(chosen.out)["critic"]

    own, others = critic(), critic(critic_weights=(("many", 0.0),))
    assert not same(own, others)  # from the same weights, after one step
    with pytest.raises(ValueError, match="no training crop is left"):
        critic(critic_weights=(("*", 0.0),), smooth_flats=0.0)


def test_flats_are_smoothed_where_that_is_asked_for(options: Options) -> None:
    def generator(recipe: str, weight: float) -> dict[str, Any]:
        out = f"{options.out}-{recipe}-{weight}"
        chosen = dataclasses.replace(options, recipe=recipe, steps=1, smooth_flats=weight, clip=None, out=out)
        train(chosen, say=lambda line: None)
        return parts_of(out)["generator"]

    for recipe in RECIPES:
        assert not same(generator(recipe, 0.0), generator(recipe, 5.0))


def test_a_run_leaves_its_options_and_a_record(against_a_critic: Options, pack: Pack) -> None:
    options = against_a_critic
    options = dataclasses.replace(options, steps=20)
    train(options, say=lambda line: None)
    folder = Path(options.out)
    assert Options.from_json(json.loads((folder / "options.json").read_text())) == options
    record = EventAccumulator(str(folder / "tensorboard"))
    record.Reload()
    expected = {
        "loss/content", "loss/critic", "loss/adversarial", "critic/wasserstein", "critic/penalty_norm",
        "gradient/generator_first", "gradient/generator_last", "gradient/critic_first", "gradient/critic_last",
        "validation/none_psnr", "validation/none_ssim", "speed/steps_a_second",
    }  # fmt: skip
    assert expected <= set(record.Tags()["scalars"])
    assert record.Tags()["images"] == ["validation"]
    logged = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert logged[-1]["step"] == 20 and set(logged[-1]["validation"]) == {"none"}


@pytest.mark.parametrize("degrade", ["none", "video"])
def test_resume_equals_an_uninterrupted_run(against_a_critic: Options, degrade: str) -> None:
    """25 steps and 25 more give, to the bit, what 50 steps give: weights, critic, average, optimisers."""
    options = against_a_critic
    workers = 0 if degrade == "none" else 1
    options = dataclasses.replace(options, steps=50, degrade=degrade, workers=workers)
    whole = dataclasses.replace(options, out=options.out + "-whole")
    train(whole, say=lambda line: None)
    train(dataclasses.replace(options, steps=25), say=lambda line: None)
    train(dataclasses.replace(options, steps=25), Path(options.out), say=lambda line: None)
    a, b = parts_of(whole.out), parts_of(options.out)
    assert a["step"] == b["step"] == 50
    assert all(same(a[part], b[part]) for part in a if part != "seconds")


def test_label_noise_resumes_too(options: Options) -> None:
    options = dataclasses.replace(options, recipe="srgan", steps=12)
    whole = dataclasses.replace(options, out=options.out + "-whole")
    train(whole, say=lambda line: None)
    train(dataclasses.replace(options, steps=6), say=lambda line: None)
    train(dataclasses.replace(options, steps=6), Path(options.out), say=lambda line: None)
    assert same(parts_of(whole.out)["discriminator"], parts_of(options.out)["discriminator"])


def test_a_signal_ends_the_run_after_a_checkpoint(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataclasses.replace(options, out=options.out + "-whole")
    train(whole, say=lambda line: None)
    real, calls = update_average, []

    def interrupting(*arguments: Any) -> None:
        real(*arguments)
        calls.append(1)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(recipes, "update_average", interrupting)
    with pytest.raises(SystemExit) as ended:
        train(options, say=lambda line: None)
    assert ended.value.code == 128 + signal.SIGTERM and parts_of(options.out)["step"] == 4
    monkeypatch.setattr(recipes, "update_average", real)
    # Without new limits a run goes on to the end it was given.
    train(dataclasses.replace(options, steps=None), Path(options.out), say=lambda line: None)
    assert parts_of(options.out)["step"] == 10
    assert same(parts_of(whole.out)["average"], parts_of(options.out)["average"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_nan_stops_and_keeps_the_checkpoint(recipe: str, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(options, recipe=recipe)
    train(options, say=lambda line: None)
    (kept,) = (Path(options.out) / "checkpoints").iterdir()
    before = kept.read_bytes()
    monkeypatch.setitem(CONTENT, "mse", lambda a, b: (a - b).mean() * math.nan)
    with pytest.raises(Diverged, match=r"became nan by step 20.*step-00000010\.pt is from before"):
        train(options, Path(options.out), say=lambda line: None)
    assert kept.read_bytes() == before and parts_of(options.out)["step"] == 10


def test_flat_pictures_stop_the_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Compact(8, 2)
    for parameter in flat.parameters():
        nn.init.zeros_(parameter)
    flat.forward = lambda x: 0.5 + 0 * Compact.forward(flat, x)  # type: ignore[method-assign]
    monkeypatch.setattr(recipes, "build_generator", lambda options, load: (flat, "scratch"))
    with pytest.raises(Diverged, match=r"flat by step 10 .*lower --adversarial"):
        train(options, say=lambda line: None)
    assert not Checkpoints(Path(options.out) / "checkpoints", 2).paths()


def test_old_checkpoints_are_pruned_and_a_cut_one_is_passed_over(options: Options) -> None:
    options = dataclasses.replace(options, checkpoint_steps=2)
    train(options, say=lambda line: None)
    newest, older = Checkpoints(Path(options.out) / "checkpoints", 2).paths()
    assert (newest.name, older.name) == ("step-00000010.pt", "step-00000008.pt")
    newest.write_bytes(newest.read_bytes()[:-500])
    said: list[str] = []
    train(dataclasses.replace(options, steps=2), Path(options.out), say=said.append)
    assert any("step-00000010.pt: cannot be read" in line and "going on from step-00000008.pt" in line for line in said)
    assert parts_of(options.out)["step"] == 10
    for path in Checkpoints(Path(options.out) / "checkpoints", 2).paths():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"step-00000010\.pt: cannot be read"):
        train(options, Path(options.out), say=lambda line: None)


def test_a_full_disk_costs_a_checkpoint_not_the_run(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = torch.save, []

    def full_once(state: Any, file: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(state, file)

    monkeypatch.setattr(checkpoints.torch, "save", full_once)
    said: list[str] = []
    weights = train(dataclasses.replace(options, checkpoint_steps=4), say=said.append)
    assert any("step-00000008.pt: could not be written" in line and "No space left" in line for line in said)
    names = sorted(path.name for path in (Path(options.out) / "checkpoints").iterdir())
    assert names == ["step-00000004.pt", "step-00000010.pt"]  # no half file, and none deleted for it
    assert load_generator(weights)


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: Any, file: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match=r"step-00000010\.pt: could not be written"):
        train(options, say=lambda line: None)


def test_a_record_that_cannot_be_written_does_not_stop_the_run(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("train.run.journal.SummaryWriter.add_scalar", full)
    said: list[str] = []
    assert load_generator(train(options, say=said.append))
    assert sum("training goes on without it" in line for line in said) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 30}, "crop: got 30"),
        ({"batch": 0}, "batch: got 0"),
        ({"pack": "nowhere"}, "nowhere: no pack there"),
        ({"init": "nobody"}, "unknown model 'nobody'"),
        ({"init": "resnet-8"}, r"weights of srresnet \(blocks 8.*expected compact"),
        ({"weights": (("*", 0.0),)}, "no training crop is left"),
        ({"epochs": None, "steps": None}, "expected at least one"),
    ],
)
def test_options_that_do_not_fit(options: Options, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(options, **change), say=lambda line: None)


def test_a_folder_that_holds_a_run_is_left_alone(options: Options) -> None:
    train(options, say=lambda line: None)
    with pytest.raises(ValueError, match=r"already holds a run: --resume"):
        train(options, say=lambda line: None)
    with pytest.raises(ValueError, match="a run of resnet, expected srwgan-gp"):
        train(dataclasses.replace(options, recipe="srwgan-gp"), Path(options.out), say=lambda line: None)


def test_resume_of_no_run(options: Options, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run there"):
        train(options, tmp_path, say=lambda line: None)
    (tmp_path / "options.json").write_text('{"recipe": "resnet", "shape": 3}')
    with pytest.raises(ValueError, match=r"another version of the trainer \(shape\)"):
        train(options, tmp_path, say=lambda line: None)


def test_a_run_begins_with_given_weights(options: Options, tmp_path: Path) -> None:
    torch.manual_seed(5)
    theirs = Compact(8, 2)
    path = tmp_path / "theirs.safetensors"
    save_generator(theirs, path, {})
    ours, start = build_generator(dataclasses.replace(options, init=str(path)))
    assert start == str(path) and ours.training
    assert same(dict(ours.state_dict()), dict(theirs.state_dict()))
    path.write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(ValueError, match="not a safetensors file"):
        build_generator(dataclasses.replace(options, init=str(path)))


def test_a_run_goes_on_without_the_weights_it_began_with(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_generator(Compact(8, 2), path, {})
    train(dataclasses.replace(options, init=str(path)), say=lambda line: None)
    path.unlink()
    train(dataclasses.replace(options, steps=2), Path(options.out), say=lambda line: None)
    assert parts_of(options.out)["step"] == 12


def test_auto_begins_with_what_was_trained_without_a_critic(options: Options) -> None:
    _, start = build_generator(dataclasses.replace(options, generator="srresnet", init="auto"))
    assert Path(start).stem == "resnet-8"
    _, start = build_generator(dataclasses.replace(options, generator="srresnet", blocks=4, init="auto"))
    assert start == "interpolation"


def test_average_is_an_exponential_mean() -> None:
    average, generator = SRResNet(1, 4), SRResNet(1, 4)
    for network, value in ((average, 1.0), (generator, 2.0)):
        for tensor in network.state_dict().values():
            tensor.fill_(value)
    update_average(average, generator, 1000, 0.9)
    expected = {True: 1.1, False: 2.0}  # BatchNorm's count of batches is no mean
    for tensor in average.state_dict().values():
        assert torch.allclose(tensor.double(), torch.tensor(expected[tensor.is_floating_point()]).double())
    update_average(average, generator, 0, 0.999)  # early on it follows at once: 1/10 of the old
    assert average.head.weight.flatten()[0].item() == pytest.approx(0.1 * 1.1 + 0.9 * 2)


def test_edge_gradients_are_those_of_the_first_and_last_convolution() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.PReLU(), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 1, 1))
    assert edge_gradients(critic=network) == {}
    for number, module in enumerate((network[0], network[2], network[3])):
        module.weight.grad = torch.full_like(module.weight, -(number + 1.0))
    found = {name: value.item() for name, value in edge_gradients(critic=network).items()}
    assert found == {"gradient/critic_first": 1.0, "gradient/critic_last": 3.0}


def test_rates_over_a_run(options: Options) -> None:
    run = run_module.Run(dataclasses.replace(options, schedule="cosine", warmup=10), None, lambda line: None)
    run.step, run.done = 4, 0.0
    assert run.rate(1.0) == pytest.approx(0.5)
    run.step, run.done = 100, 0.5
    assert run.rate(2.0) == pytest.approx(1.0)
    run.done = 1.0
    assert run.rate(1.0) == pytest.approx(0.0)


def test_two_processes_train_one_generator(pack: Pack, tmp_path: Path) -> None:
    """As `accelerate launch` starts them, one a GPU; here on the CPU."""
    words = [
        "--standalone", "--nproc_per_node", "2", "-m", "train", "srwgan-gp", "--pack", str(pack.folder),
        "--out", str(tmp_path / "run"), "--generator", "compact", "--channels", "8", "--layers", "1", "--batch", "2",
        "--crop", "32", "--critic-width", "4", "--pretrain-epochs", "0", "--steps", "3",
    ]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", *words]
    done = subprocess.run(launch, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 steps an epoch" in done.stdout  # 8 crops, two for each of two processes
    assert done.stdout.count("wrote ") == 1 and parts_of(tmp_path / "run")["step"] == 3


def command(*words: str) -> Any:
    return CliRunner().invoke(main, list(words))


def test_from_the_command_line(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = ["resnet", "--pack", str(pack.folder), "--generator", "compact", "--channels", "8", "--layers", "1",
           "--batch", "2", "--crop", "32", "--out", str(folder)]  # fmt: skip
    result = command(*run, "--dry-run")
    assert result.exit_code == 0 and '"channels": 8' in result.output and "8 crops" in result.output
    assert not folder.exists()
    result = command(*run, "--steps", "2")
    assert result.exit_code == 0, result.output
    result = command("resnet", "--resume", str(folder), "--steps", "3")
    assert result.exit_code == 0, result.output
    assert parts_of(folder)["step"] == 5
    result = command("resnet", "--resume", str(folder), "--rate", "1")
    assert result.exit_code == 2 and "leave out rate" in result.output
    again = tmp_path / "again.safetensors"
    result = command("export", str(folder), str(again), "--meta", "name=again")
    assert result.exit_code == 0, result.output
    exported, first = (dict(load_generator(path).state_dict()) for path in (again, folder / "generator.safetensors"))
    assert same(exported, first)
    result = command("export", str(tmp_path), str(again))
    assert result.exit_code == 1 and "no run there" in result.output


@pytest.mark.parametrize(
    ("recipe", "defaults"),
    [
        ("srgan", {"rate": 1e-3, "adversarial": 1e-2, "batch": 32, "crop": 128, "epochs": 500, "content": "mse"}),
        ("srwgan-gp", {"rate": 1e-4, "adversarial": 1e-3, "penalty": 10, "batch": 32, "crop": 96, "content": "mse"}),
        ("resnet", {"batch": 32, "content": "mse", "blocks": 8, "epochs": 500}),
    ],
)  # fmt: skip
def test_defaults_are_the_papers(recipe: str, defaults: dict[str, Any], pack: Pack) -> None:
    result = command(recipe, "--dry-run", "--pack", str(pack.folder))
    assert result.exit_code == 0, result.output
    shown = json.loads(result.output[: result.output.rindex("}") + 1])
    assert {name: shown[name] for name in defaults} == defaults
