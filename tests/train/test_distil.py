"""What a student learns with: a teacher, branches that are added up, native 2x, and the two stages of distil."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.packs import make_pack, picture
from train.__main__ import main
from train.data.pack import Pack
from train.degrade import recipe as degrade
from train.generators.branches import branch, merged
from train.generators.build import build_generator, load_teacher, reduce_scale
from train.judge.evaluate import judge
from train.judge.sources import Method, picture_pairs
from train.judge.validation import Validation
from train.options import STUDENTS, Options
from train.recipes import loop as recipes
from train.recipes.distil import stages, train
from train.recipes.losses import content_with_teacher
from train.run.checkpoints import Checkpoints
from train.run.pairs import CleanPairs, VideoPairs
from train.run.run import publish
from vidsr.models.architectures import Compact
from vidsr.models.checkpoint import load_generator, save_generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return make_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture
def options(pack: Pack, tmp_path: Path) -> Options:
    """A run of a few steps that takes no time."""
    return Options(
        recipe="resnet", pack=str(pack.folder), out=str(tmp_path / "run"), generator="compact", channels=8, layers=2,
        init="scratch", batch=2, crop=32, critic_width=4, adversarial=1e-3, steps=4, epochs=None, precision="fp32",
        workers=0,
    )  # fmt: skip


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.safetensors"
    torch.manual_seed(5)
    save_generator(Compact(8, 1), path, {})
    return path


def quiet(_line: str) -> None:
    pass


def stirred(generator: nn.Module, seed: int = 0) -> nn.Module:
    """As after some training: no branch is zero any more."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return generator


# --- branches ---


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([4, 8, 24]), st.integers(0, 3), st.integers(0, 99))
def test_merged_branches_are_the_branched_generator(channels: int, layers: int, seed: int) -> None:
    branched = stirred(branch(Compact(channels, layers)), seed).eval()
    x = torch.rand(1, 3, 9, 12)
    expected = branched(x)
    plain = merged(branched)
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=1e-5)
    assert torch.equal(branched(x), expected)  # it keeps its branches
    assert plain.state_dict().keys() == Compact(channels, layers).state_dict().keys()
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())


def test_branches_begin_as_the_generator_they_are_given() -> None:
    plain = Compact(8, 2).eval()
    x = torch.rand(1, 3, 9, 12)
    expected = plain(x)
    assert torch.equal(branch(copy.deepcopy(plain))(x), expected)


def test_every_branch_learns() -> None:
    branched = stirred(branch(Compact(8, 2)))
    branched(torch.rand(2, 3, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in branched.parameters())


def test_branches_are_added_up_in_float32_under_autocast() -> None:
    branched = stirred(branch(Compact(8, 1)))
    with torch.autocast("cpu", torch.bfloat16):
        weight = branched.body[2].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, merged(branched).body[2].weight)


@pytest.mark.parametrize("recipe", ["resnet", "srwgan-gp"])
def test_a_run_with_branches_exports_a_plain_generator(recipe: str, options: Options) -> None:
    options = dataclasses.replace(options, recipe=recipe, branches=True, pretrain_epochs=0)
    weights = recipes.train(options, say=quiet)
    loaded = load_generator(weights)
    assert loaded.state_dict().keys() == Compact(8, 2).state_dict().keys()
    average = build_generator(options, load=False)[0]
    average.load_state_dict(Checkpoints(Path(options.out) / "checkpoints", 2).load()[0]["average"])
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(loaded(x), average.eval()(x), rtol=0, atol=1e-5)
    again = weights.with_name("again.safetensors")
    publish(Path(options.out), again, {}, quiet)
    torch.testing.assert_close(load_generator(again)(x), loaded(x), rtol=0, atol=1e-6)


def test_a_run_with_branches_resumes_to_the_bit(options: Options) -> None:
    options = dataclasses.replace(options, branches=True, steps=8)
    whole = dataclasses.replace(options, out=options.out + "-whole")
    recipes.train(whole, say=quiet)
    recipes.train(dataclasses.replace(options, steps=4), say=quiet)
    recipes.train(dataclasses.replace(options, steps=4), Path(options.out), say=quiet)
    states = [Checkpoints(Path(o.out) / "checkpoints", 2).load()[0]["generator"] for o in (whole, options)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# --- a smaller scale ---


def test_a_smaller_scale_starts_as_the_reduction_of_a_larger_one() -> None:
    larger = stirred(Compact(8, 2, 4)).eval()
    smaller = reduce_scale(larger, 2).eval()
    x = torch.rand(1, 3, 9, 12)
    torch.testing.assert_close(
        F.pixel_shuffle(smaller.body(x), 2), F.avg_pool2d(F.pixel_shuffle(larger.body(x), 4), 2), rtol=0, atol=1e-6
    )
    with pytest.raises(ValueError, match="scale 4 cannot start one of scale 3"):
        reduce_scale(larger, 3)


def test_a_run_at_2x_begins_with_4x_weights(options: Options, tmp_path: Path) -> None:
    save_generator(Compact(8, 2, 4), tmp_path / "four.safetensors", {})
    options = dataclasses.replace(options, scale=2, init=str(tmp_path / "four.safetensors"), degrade="video")
    weights = recipes.train(options, say=quiet)
    assert load_generator(weights)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)
    with safe_open(weights, "pt") as file:
        assert set(json.loads(file.metadata()["metrics"])) == {"none", "video", "worn"}


def test_the_seeds_generator_has_one_scale() -> None:
    with pytest.raises(ValueError, match="--generator compact"):
        Options(recipe="resnet", pack="", out="", scale=2)


@pytest.mark.parametrize("kind", [CleanPairs, VideoPairs])
def test_pairs_at_2x(kind: type, pack: Pack, options: Options) -> None:
    lowres, highres = kind(pack, dataclasses.replace(options, scale=2), CPU).batch(1)
    assert (lowres.shape, highres.shape) == ((2, 3, 16, 16), (2, 3, 32, 32))
    # Aligned: what was scaled down is nearer to the crop than to the crop moved by one lowres pixel.
    clean = degrade.downscale(highres, 2)
    assert F.mse_loss(lowres, clean) < F.mse_loss(lowres[..., 1:], clean[..., :-1])


def test_validation_and_evaluation_at_2x(pack: Pack) -> None:
    validation = Validation.of_pack(pack, (), "video", scale=2)
    assert {low.shape[3] * 2 == high.shape[3] for low, high in validation.pairs.values()} == {True}
    assert validation.bicubic["none"]["psnr"] > Validation.of_pack(pack, (), "none").bicubic["none"]["psnr"] + 2
    pairs = list(picture_pairs(pack.pictures("test"), "video", scale=2))
    assert {pair.scale for pair in pairs} == {2}
    # Weights that enlarge by 4 are measured as they are used: reduced by area.
    fourfold = stirred(Compact(8, 1)).eval()
    records, pictures = judge(pairs[0], [Method("Bicubic"), Method("four", fourfold.folded())], CPU)
    assert pictures["four"].shape == pairs[0].highres.shape and {record.region for record in records} >= {"whole"}


# --- the teacher ---


def test_the_teacher_answers_for_the_crops_of_the_batch(pack: Pack, options: Options) -> None:
    """Bicubic is a teacher whose answer can be had from the crop itself, but for its borders."""
    def teach(lowres: Tensor) -> Tensor:
        return degrade.upscale_bicubic(lowres)

    for kind, mode in ((CleanPairs, "none"), (VideoPairs, "video")):
        pairs = kind(pack, dataclasses.replace(options, degrade=mode, batch=6, crop=64), CPU, teacher=teach)
        for step in range(3):
            lowres, highres, taught = pairs.batch(step)
            assert taught.shape == highres.shape
            inside = (..., slice(16, -16), slice(16, -16))
            torch.testing.assert_close(taught[inside], teach(lowres)[inside], rtol=0, atol=0.003)


def test_a_replaced_picture_is_taught_anew_and_each_once(
    pack: Pack, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.run.pairs.POOL", 6)
    monkeypatch.setattr("train.run.pairs.FIRST", 4)
    asked = []

    def teach(lowres: Tensor) -> Tensor:
        asked.append(lowres)
        return degrade.upscale_bicubic(lowres)

    pairs = VideoPairs(pack, dataclasses.replace(options, degrade="video", fresh=1.0, batch=4), CPU, teacher=teach)
    for step in range(8):
        lowres, _, taught = pairs.batch(step)
        inside = (..., slice(12, -12), slice(12, -12))
        torch.testing.assert_close(taught[inside], degrade.upscale_bicubic(lowres)[inside], rtol=0, atol=0.003)
    assert 6 < len(asked) <= pairs._next


def test_batches_with_a_teacher_are_those_without(pack: Pack, options: Options) -> None:
    options = dataclasses.replace(options, degrade="video")
    plain = VideoPairs(pack, options, CPU).batch(2)
    taught = VideoPairs(pack, options, CPU, teacher=degrade.upscale_bicubic).batch(2)
    assert len(taught) == 3 and all(torch.equal(a, b) for a, b in zip(plain, taught))


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.sampled_from(["mse", "l1"]))
def test_the_loss_is_shared_between_truth_and_teacher(weight: float, name: str) -> None:
    fake, truth, taught = torch.rand(3, 2, 3, 4, 4)
    content = content_with_teacher(name, weight)
    alone = content_with_teacher(name, 0.3)
    expected = (1 - weight) * alone(fake, truth) + weight * alone(fake, taught)
    torch.testing.assert_close(content(fake, truth, taught), expected)


def test_a_teacher_of_a_larger_scale_is_reduced(options: Options, teacher: Path) -> None:
    lowres = torch.rand(1, 3, 8, 8)
    four = load_teacher(dataclasses.replace(options, teacher=str(teacher)), CPU)
    two = load_teacher(dataclasses.replace(options, teacher=str(teacher), scale=2), CPU)
    assert four is not None and two is not None and load_teacher(options, CPU) is None
    clamped = load_generator(teacher)(lowres).clamp(0, 1)
    torch.testing.assert_close(four(lowres), clamped, rtol=0, atol=1e-5)
    assert two(lowres).shape == (1, 3, 16, 16)


def test_a_teacher_that_cannot_teach(options: Options, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--teacher nobody: unknown model"):
        load_teacher(dataclasses.replace(options, teacher="nobody"), CPU)
    save_generator(Compact(8, 1, 2), tmp_path / "two.safetensors", {})
    with pytest.raises(ValueError, match="enlarges by 2, its student by 4"):
        load_teacher(dataclasses.replace(options, teacher=str(tmp_path / "two.safetensors")), CPU)


def test_a_student_comes_to_look_like_its_teacher(options: Options, tmp_path: Path) -> None:
    """Not like the truth, when the teacher has the whole weight: here it says that all is dark."""
    dark = Compact(8, 1, skip="nearest")
    with torch.no_grad():
        for parameter in dark.parameters():
            parameter.zero_()
        dark.body[-1].bias.fill_(-2.0)  # type: ignore[union-attr,operator]
    save_generator(dark, tmp_path / "dark.safetensors", {})
    options = dataclasses.replace(options, teacher=str(tmp_path / "dark.safetensors"), steps=60, rate=1e-2, ema=0)
    bright = picture(3, 64).astype(np.float32) / 255
    lowres = torch.from_numpy(bright).permute(2, 0, 1)[None]
    means = {}
    for weight in (0.0, 1.0):
        chosen = dataclasses.replace(options, teacher_weight=weight, out=f"{options.out}-{weight}")
        means[weight] = load_generator(recipes.train(chosen, say=quiet))(lowres).mean().item()
    assert means[1.0] < 0.25 * means[0.0]


# --- distil ---


def test_the_two_stages(options: Options) -> None:
    options = dataclasses.replace(options, minutes=60, steps=None, rate=1e-3, crop=96)
    content, critic = stages(options, "tiny", 15)
    assert (content.recipe, content.minutes, content.crop, content.rate) == ("resnet", 45, 96, 1e-3)
    assert (critic.recipe, critic.minutes, critic.crop, critic.rate) == ("srwgan-gp", 15, 64, 1e-4)
    assert {(o.channels, o.layers) for o in (content, critic)} == {STUDENTS["tiny"]}
    assert critic.init == f"{content.out}/generator.safetensors"
    assert len(stages(options, "fast", 0)) == 1
    with pytest.raises(ValueError, match="--critic-minutes 60: leaves none of 60"):
        stages(options, "fast", 60)


def test_distil_goes_on_with_the_same_command(
    options: Options, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    options = dataclasses.replace(options, teacher=str(teacher), branches=True, degrade="video", checkpoint_steps=1)
    chosen = [dataclasses.replace(o, channels=8, layers=2) for o in stages(options, "tiny", 1)]
    chosen = [dataclasses.replace(o, minutes=None, steps=4, critic_first=0) for o in chosen]

    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("train.run.run.Run.validate", crash)  # all steps are done, but nothing is exported
    with pytest.raises(KeyboardInterrupt):
        train(chosen, said.append)
    monkeypatch.undo()
    result = train(chosen, said.append)
    assert result == Path(options.out) / "generator.safetensors"
    assert result.read_bytes() == (Path(chosen[1].out) / "generator.safetensors").read_bytes()
    with safe_open(result, "pt") as file:
        metadata = file.metadata()
    assert (metadata["recipe"], metadata["teacher"], metadata["teacher_weight"]) == ("srwgan-gp", "teacher", "0.5")
    for stage in chosen:
        assert Checkpoints(Path(stage.out) / "checkpoints", 2).load()[0]["step"] == 4
    said.clear()
    train(chosen, said.append)
    assert [line for line in said if line.endswith("done before")] == [f"{o.out}: done before" for o in chosen]
    with pytest.raises(ValueError, match="another rate"):
        train([dataclasses.replace(chosen[0], rate=0.5)], said.append)


def test_distil_from_the_command_line(pack: Pack, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    arguments = [
        "distil", "--student", "tiny", "--teacher", str(teacher), "--pack", str(pack.folder), "--out", str(out),
        "--minutes", "0.04", "--critic-minutes", "0.02", "--batch", "2", "--crop", "32", "--critic-width", "4",
        "--critic-first", "0", "--workers", "0", "--init", "scratch", "--scale", "2", "--branches",
    ]  # fmt: skip
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    student = load_generator(out / "generator.safetensors")
    assert (student.channels, student.layers, student.scale) == (*STUDENTS["tiny"], 2)
    missing = CliRunner().invoke(main, ["distil", "--student", "tiny"])
    assert missing.exit_code == 2 and "--teacher" in missing.output
    arguments[arguments.index(str(teacher))], arguments[arguments.index(str(out))] = "nobody", str(tmp_path / "other")
    wrong = CliRunner().invoke(main, arguments)
    assert wrong.exit_code == 1 and "--teacher nobody: unknown model" in wrong.output
