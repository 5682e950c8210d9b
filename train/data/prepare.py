"""python -m train prepare: pictures and episodes in, a pack out."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource

from train.data.pack import CROP, MANIFEST, PackWriter
from train.data.pictures import STILLS, TOO_SMALL, UNREADABLE, VIDEOS, Unusable, find, quiet_pillow, read_picture
from train.data.survey import Candidate, Options, Rejected, Survey, read_file
from vidsr import __version__
from vidsr.run.prefetch import prefetch

# The paper's: 10,816 pictures to train on, 256 to validate, 256 to test.
_LIMITS = {"train": 10_816, "validation": 256, "test": 256}
_PRESETS: dict[str, dict[str, Any]] = {
    "seed": {"crops": "centre", "min_side": 512, "validation": 256 / 11_328, "test": 256 / 11_328, "limits": _LIMITS}
}
_NAMED = 5  # pictures of each reason that are named on the screen; the manifest names all
_FULL = {errno.ENOSPC, errno.EDQUOT}


def _seconds(_context: click.Context, _option: click.Parameter, value: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|s|min)?", value)
    seconds = float(match[1]) * {"ms": 0.001, "min": 60.0}.get(match[2], 1.0) if match else 0.0
    if seconds <= 0:
        raise click.BadParameter(f"got {value!r}, expected a time above 0, such as 5s, 500ms or 1min")
    return seconds


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True), metavar="FOLDER_OR_VIDEO...")
@click.option("--out", default="runs/pack", show_default=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--crops", type=click.Choice(["many", "centre"]), default="many", show_default=True,
              help="The richest crops of each picture, or the one in its middle.")  # fmt: skip
@click.option("--per-picture", default=4, show_default=True, type=click.IntRange(1), help="At most so many crops (many).")
@click.option("--min-side", default=512, show_default=True, type=click.IntRange(CROP), help="Of pictures taken, pixels.")
@click.option("--validation", default=0.025, show_default=True, type=click.FloatRange(0, 1), help="Share of pictures.")
@click.option("--test", default=0.025, show_default=True, type=click.FloatRange(0, 1), help="Share of pictures.")
@click.option("--every", default="5s", show_default=True, callback=_seconds, help="Time between frames of a video.")
@click.option("--scenes", default=0, show_default=True, type=click.IntRange(0), metavar="N", help="Draw so many pictures by program, too, to train on: folder \"scenes\" of the pack. See `python -m train scenes`.")
@click.option("--scenes-seed", default=0, show_default=True, type=int, help="Another seed, other scenes.")
@click.option("--preset", type=click.Choice(list(_PRESETS)),
              help="seed: the paper's centre crops and 10,816 / 256 / 256 pictures. Options given beside it count.")  # fmt: skip
@click.option("--replace", is_flag=True, help="Make an existing pack anew.")
@click.pass_context
def prepare(
    context: click.Context, sources: tuple[str, ...], out: Path, preset: str | None, replace: bool, **given: Any
) -> None:
    """Make a pack of still pictures and of frames of videos.

    Pictures that are too small, nearly flat, unreadable or there twice are left out and counted. Which pictures are
    kept for validation and test is decided by their content alone, so that more can be added later.
    """
    chosen = {
        name: value
        for name, value in _PRESETS.get(preset or "", {}).items()
        if name not in given or context.get_parameter_source(name) == ParameterSource.DEFAULT
    }
    options = Options(**{**given, **chosen})
    if options.validation + options.test >= 1:
        raise click.UsageError(
            f"--validation and --test: got {options.validation:g} and {options.test:g}, expected less than 1 together"
        )
    build(sources, out, options, replace, click.echo)


def build(
    sources: Sequence[str | Path], out: Path, options: Options, replace: bool, say: Callable[[str], None]
) -> None:
    """Make the pack `out` of the folders, pictures and videos `sources`; `say` is told what came of it.

    ValueError, one line: `out` exists and is not to be replaced, nothing usable was found, the disk is full. Then there
    is no new pack, and an old one is left as it was.
    """
    _check_out(out, replace)
    finding = find(sources)
    if not finding.files and not finding.unreadable:
        others = f"; {finding.ignored} other files" if finding.ignored else ""
        known = ", ".join(sorted(STILLS) + sorted(VIDEOS))
        raise ValueError(f"{', '.join(map(str, sources))}: no picture or video there{others}; looked for {known}")
    if options.scenes:
        _check_scenes(finding.sources)
    part = out.with_name(out.name + ".part")
    spool = part / "frames"
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        spool.mkdir(parents=True)
        survey = Survey(options, spool, lambda line: click.echo(line, err=True))
        with quiet_pillow():
            with _progress("looking", len(finding.files)) as progress:
                survey.look(finding, progress)
            if options.scenes:
                with _progress("drawing", options.scenes) as progress:
                    survey.draw(progress)
            chosen = survey.choose()
            if not any(candidate.split == "train" for candidate in chosen):
                raise ValueError(_nothing(sources, chosen, survey.rejected, options))
            writer = PackWriter(part)
            with _progress("writing", len(chosen)) as progress:
                _write(chosen, writer, options, progress)
        shutil.rmtree(spool)
        writer.finish(
            vidsr=__version__, sources=finding.sources, options=asdict(options),
            rejected=dict(Counter(rejected.reason for rejected in survey.rejected)),
            rejected_pictures=[asdict(rejected) for rejected in survey.rejected],
        )  # fmt: skip
        _move(part, out)
    except OSError as error:
        written = sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) >> 20
        if error.errno in _FULL:
            raise ValueError(f"{out}: the disk is full after {written} MiB; free some or choose another --out") from None
        raise ValueError(f"{error.filename or out}: {error.strerror or error}; choose another --out") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _summarise(out, writer, survey.rejected, say)


def _check_out(out: Path, replace: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file():
        raise ValueError(f"{out}: exists and is no pack; choose another --out")
    if not replace:
        raise ValueError(f"{out}: there is a pack already; make it anew with --replace, or choose another --out")


def _check_scenes(sources: list[str]) -> None:
    from train.scenes.command import scenes_usable

    if reason := scenes_usable():
        raise ValueError(f"--scenes: {reason}")
    if "scenes" in sources:
        raise ValueError("scenes: a source has the name that drawn scenes get in the pack; rename the folder")


def _move(part: Path, out: Path) -> None:
    """`part` becomes `out`; an old pack goes away only when the new one is whole."""
    old = out.with_name(out.name + ".old.part")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _write(
    chosen: list[Candidate], writer: PackWriter, options: Options, progress: Callable[[float], None]
) -> None:
    """Read the chosen pictures once more, and put them into the pack."""
    for done, (candidate, pixels) in enumerate(prefetch(_pixels(chosen, options.min_side)), 1):
        entry: dict[str, Any] = {"path": candidate.path, "sha256": candidate.sha256}
        entry |= {"width": candidate.width, "height": candidate.height}
        name = candidate.sha256[:16]
        if candidate.seconds is not None:
            entry["seconds"] = candidate.seconds
            name = candidate.file.stem
            candidate.file.unlink()
        if candidate.split == "train":
            writer.add_crops([crop.cut(pixels) for crop in candidate.crops], **entry)
        else:
            writer.add_whole(candidate.split, name, pixels, **entry)
        progress(done)


def _pixels(chosen: list[Candidate], min_side: int) -> Iterator[tuple[Candidate, np.ndarray]]:
    for candidate in chosen:
        try:
            content = read_file(candidate.file)
            if candidate.seconds is None and hashlib.sha256(content).hexdigest() != candidate.sha256:
                raise Unusable(UNREADABLE, "its content is another now")
            yield candidate, read_picture(content, min_side)
        except Unusable as error:
            raise ValueError(f"{candidate.file}: changed since it was looked at ({error.detail}); start again") from None


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, nothing elsewhere. Gives what is to be told how many of `total` are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _nothing(
    sources: Sequence[str | Path], chosen: list[Candidate], rejected: list[Rejected], options: Options
) -> str:
    """One line for a pack that would hold no training picture, with the cure."""
    where = ", ".join(map(str, sources))
    if chosen:
        return (f"{where}: all {len(chosen)} usable pictures belong to validation and test; give more pictures, "
                f"or lower --validation and --test")  # fmt: skip
    reasons = Counter(one.reason for one in rejected)
    first = f"{rejected[0].path}: {rejected[0].detail}"
    if set(reasons) == {TOO_SMALL}:
        cure = "give larger ones" + (f", or lower --min-side to {CROP}" if options.min_side > CROP else "")
        return f"{where}: none of {len(rejected)} pictures has both sides >= {options.min_side} px ({first}); {cure}"
    if set(reasons) == {UNREADABLE}:
        return f"{where}: none of {len(rejected)} pictures can be read ({first}); copy or download them again"
    counts = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
    return f"{where}: no usable picture ({counts}; {first}); give others"


def _summarise(out: Path, writer: PackWriter, rejected: list[Rejected], say: Callable[[str], None]) -> None:
    for split in ("train", "validation", "test"):
        pictures = [entry for entry in writer.pictures if entry["split"] == split]
        crops = f"{sum(len(entry['crops']) for entry in pictures):8,} crops" if split == "train" else ""
        say(f"{split:12}{len(pictures):8,} pictures{crops}")
    if not any(entry["split"] == "validation" for entry in writer.pictures):
        say("no picture fell to validation: give more pictures or a larger --validation")
    for reason, number in sorted(Counter(one.reason for one in rejected).items()):
        say(f"{'left out':12}{number:8,} {reason}")
        names = [f"{one.path} ({one.detail})" for one in rejected if one.reason == reason][:_NAMED]
        if reason in (UNREADABLE, TOO_SMALL):
            say(f"{'':21}{', '.join(names)}{', …' if number > _NAMED else ''}")
    size = sum(entry["bytes"] for entry in [*writer.shards, *writer.pictures] if "bytes" in entry) / 2**20
    say(f"{out}: {size:,.0f} MiB, {len(writer.shards)} shards of {CROP}x{CROP} crops")
