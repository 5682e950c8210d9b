"""A blind preference study: one static folder to vote in, and the table that the votes are folded into."""

from __future__ import annotations

import json
import math
import random
import secrets
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from train.data.pack import Pack
from train.degrade.recipe import SCALE
from train.judge.sources import (
    ORIGINAL,
    Method,
    Pair,
    as_pixels,
    as_tensor,
    enlarge,
    evenly,
    load_methods,
    parse_videos,
    picture_pairs,
    video_pairs,
)  # fmt: skip
from train.judge.strips import richest, write_png
from train.options import DEGRADATIONS, Weights, pack_option, weight_option

PAGE = Path(__file__).with_name("study.html")
_PLACE = "/*STUDY*/null"
_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


def write_study(pairs: list[Pair], methods: list[Method], folder: Path, size: int, device: str) -> int:
    """Write index.html, the pictures and key.json into `folder`; returns how many pairs there are to vote on.

    Of each pair of `pairs` the size x size crop with the most line detail, as each method makes it, beside each other
    method's. methods: one named Original shows the original. The names of pictures are random, and the page holds no
    others: who made what is in key.json alone, which the page does not read. OSError when it cannot be written.
    """
    dice = random.SystemRandom()  # so that nobody can find out by running this again
    study = secrets.token_hex(4)
    pictures: dict[str, dict[str, str]] = {}
    files: dict[str, np.ndarray] = {}
    trials: list[dict[str, Any]] = []

    def add(pixels: np.ndarray) -> str:
        name = secrets.token_hex(8)
        files[name] = pixels
        return name

    has_original = any(method.name == ORIGINAL for method in methods)
    for pair in pairs:
        where = richest(pair.highres, size)
        ids = []
        for method in methods:
            ids.append(add(pair.highres[where] if method.name == ORIGINAL else _crop(method, pair, where, device)))
            pictures[ids[-1]] = {"method": method.name, "of": pair.name, "source": pair.source}
        shown = {"source": add(pair.lowres[tuple(slice(s.start // SCALE, s.stop // SCALE) for s in where)])}
        if not has_original:
            shown["original"] = add(pair.highres[where])
        for both in combinations(ids, 2):
            trials.append({"id": secrets.token_hex(6), "pictures": dice.sample(both, 2), **shown})
    dice.shuffle(trials)
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files):  # in an order that says nothing either
        write_png(folder / f"{name}.png", files[name])
    described = {"id": study, "size": size, "original": not has_original, "pairs": trials}
    page = PAGE.read_text("utf-8")
    assert page.count(_PLACE) == 1
    (folder / "index.html").write_text(page.replace(_PLACE, json.dumps(described)), "utf-8")
    key = {
        "study": study,
        "methods": {method.name: {"path": method.path, "sha256": method.sha256} for method in methods},
        "pictures": pictures,
        "pairs": {trial["id"]: trial["pictures"] for trial in trials},
    }
    (folder / "key.json").write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return len(trials)


def _crop(method: Method, pair: Pair, where: tuple[slice, slice], device: str) -> np.ndarray:
    """The crop at `where` of what `method` makes of the whole lowres, from as much of it as the crop depends on."""
    radius = getattr(method.generator, "radius", 4)
    context = max(pair.lowres.shape) if radius is None else int(radius)
    starts = [max(0, part.start // SCALE - context) for part in where]
    around = tuple(slice(start, part.stop // SCALE + context) for start, part in zip(starts, where))
    made = as_pixels(enlarge(method.generator, as_tensor(pair.lowres[around], device)))
    rows, columns = (slice(p.start - SCALE * s, p.stop - SCALE * s) for p, s in zip(where, starts))
    return made[rows, columns]


def read_votes(path: Path, key: dict[str, Any]) -> tuple[str, dict[str, str | None]]:
    """(visitor, {pair: picture preferred, None for no difference}) of a file that the page gave out.

    ValueError, one line, when it is not one, or is of another study than `key`.
    """
    try:
        votes = json.loads(path.read_text("utf-8"))
        if votes["study"] != key["study"]:
            raise ValueError(f"{path}: votes of study {votes['study']}, expected {key['study']}: not counted")
        choices = {vote["pair"]: vote["choice"] for vote in votes["votes"]}
        for pair, choice in choices.items():
            if choice is not None and choice not in key["pairs"][pair]:
                raise ValueError(f"{path}: picture {choice!r} was never in pair {pair}: not counted")
            key["pairs"][pair]
        return str(votes["visitor"]), choices
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{path}: not a file of votes as the page downloads it: not counted") from None


def fold(votes: list[dict[str, str | None]], key: dict[str, Any]) -> str:
    """The preference table in Markdown. votes: one dict a visitor, as `read_votes` gives them."""
    wins: Counter[tuple[str, str]] = Counter()  # (preferred, other)
    ties: Counter[frozenset[str]] = Counter()
    for pair, choice in (item for person in votes for item in person.items()):
        a, b = (key["pictures"][picture]["method"] for picture in key["pairs"][pair])
        if choice is None:
            ties[frozenset((a, b))] += 1
        else:
            preferred = key["pictures"][choice]["method"]
            wins[preferred, b if preferred == a else a] += 1
    lines = ["| A | B | A preferred | B preferred | no difference | share of A | 95 % |", "|---|---|" + "---:|" * 5]
    for a, b in combinations(key["methods"], 2):
        won, lost, even = wins[a, b], wins[b, a], ties[frozenset((a, b))]
        lines.append(f"| {a} | {b} | {won} | {lost} | {even} | {_share(won, lost)} |")
    lines += ["", "| method | preferred | not | no difference | share | 95 % |", "|---|" + "---:|" * 5]
    rows = []
    for name in key["methods"]:
        won = sum(count for (preferred, _), count in wins.items() if preferred == name)
        lost = sum(count for (_, other), count in wins.items() if other == name)
        even = sum(count for both, count in ties.items() if name in both)
        row = f"| {name} | {won} | {lost} | {even} | {_share(won, lost)} |"
        rows.append((-won / max(1, won + lost), row))
    lines += [row for _, row in sorted(rows)]
    total = sum(len(person) for person in votes)
    counted = f"{total} vote{'s' * (total != 1)} of {len(votes)} {'person' if len(votes) == 1 else 'people'}"
    lines += ["", f"{counted}. Shares are of the votes that saw a difference, with Wilson's interval."]
    return "\n".join(lines)


def _share(won: int, lost: int) -> str:
    if won + lost == 0:
        return "– | –"
    low, high = wilson(won, won + lost)
    return f"{100 * won / (won + lost):.0f} % | {100 * low:.0f}–{100 * high:.0f} %"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0..1.

    E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22, 209-212.
    """
    share, extra = successes / trials, _Z**2 / trials
    centre = (share + extra / 2) / (1 + extra)
    half = _Z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


@click.command()
@click.argument("given", nargs=-1, required=True, metavar="METHOD METHOD... | VOTES...")
@click.option("--tally", "key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="KEY",
              help="Fold files of votes into a table instead; KEY is the key.json of their study.")  # fmt: skip
@click.option("--out", default="runs/study", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@pack_option
@click.option("--split", type=click.Choice(["test", "validation"]), default="test", show_default=True)
@weight_option
@click.option("--degrade", type=click.Choice(DEGRADATIONS), default="none", show_default=True,
              help="video: the pictures are compressed first.")  # fmt: skip
@click.option("--pictures", default=20, show_default=True, type=click.IntRange(0), help="Pictures of the pack shown.")
@click.option("--video", "videos", multiple=True, callback=parse_videos, metavar="LOWRES=HIGHRES",
              help="A video and its original, 4 times the size; repeat it.")  # fmt: skip
@click.option("--frames", default=4, show_default=True, type=click.IntRange(1), help="Frames of each --video shown.")
@click.option("--crop", default=256, show_default=True, type=click.IntRange(64, 512), help="Side of what is shown.")
@click.option("--original", is_flag=True, help="Let the original take part, as a method.")
def study(given: tuple[str, ...], key: Path | None, original: bool, **options: Any) -> None:
    """Make a page on which people choose, blindly, between METHODs: weights as for evaluate, or Bicubic.

    \b
    python -m train study fast balanced Bicubic            -> runs/study/index.html
    python -m train study --tally runs/study/key.json votes-*.json
    """
    if key:
        _tally(key, [Path(path) for path in given])
    else:
        _make(given, original, **options)


def _make(
    given: tuple[str, ...], original: bool, out: Path, pack: str, split: str, weights: Weights, degrade: str,
    pictures: int, videos: list[tuple[Path, Path]], frames: int, crop: int,
) -> None:  # fmt: skip
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty; choose another --out, the key there belongs to votes that may come")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    methods, failed = load_methods(given, device)
    if failed:
        raise ValueError("; ".join(failed.values()))
    methods += [Method(ORIGINAL)] if original else []
    if len(methods) < 2:
        raise click.UsageError(f"got one method, {methods[0].name}, expected two or more; --original adds one")
    crop -= crop % SCALE
    pairs: list[Pair] = []
    if pictures:
        whole = Pack.open(pack).pictures(split, weights)
        large = [i for i, picture in enumerate(whole) if min(picture.pixels.shape[:2]) >= crop]
        chosen = [large[i] for i in evenly(len(large), pictures)]
        pairs = [pair for pair in picture_pairs(whole, degrade, chosen) if pair.source == degrade]
    for lowres, highres in videos:
        found = list(video_pairs(lowres, highres))
        pairs += [found[i] for i in evenly(len(found), frames)]
    if not pairs:
        raise ValueError("no picture to show: raise --pictures, lower --crop, or give a --video")
    trials = write_study(pairs, methods, out, crop, device)
    click.echo(f"{trials} pairs: open {out}/index.html, or send the folder without key.json")
    click.echo(f"then: python -m train study --tally {out}/key.json votes-*.json")


def _tally(key: Path, files: list[Path]) -> None:
    try:
        opened = json.loads(key.read_text("utf-8"))
    except ValueError:
        opened = None
    if not isinstance(opened, dict) or not {"study", "methods", "pictures", "pairs"} <= opened.keys():
        raise ValueError(f"{key}: not the key.json of a study, which lies beside its index.html")
    people: dict[str, dict[str, str | None]] = {}
    refused = False
    for path in files:
        try:
            visitor, votes = read_votes(path, opened)
            people[visitor] = people.get(visitor, {}) | votes  # one person may have downloaded twice
        except (ValueError, OSError) as error:
            refused = True
            click.echo(str(error), err=True)
    if not people:
        raise ValueError("no votes of this study among the files: see above")
    click.echo(fold(list(people.values()), opened))
    if refused:
        raise SystemExit(1)
