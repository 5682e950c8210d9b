"""Where results go, checked before anything is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vidsr.choose.options import Options
from vidsr.errors import OutputError, UsageError, VidsrError
from vidsr.files import NAME_BYTES, fit_name
from vidsr.mux.keep import STDOUT, default_suffix
from vidsr.pictures.base import AVIF, READ_ONLY, SUFFIXES, WEBP
from vidsr.pictures.read import look

_WRITTEN = {".pbm": ".pgm", ".mpo": ".jpg"}  # what else becomes of those that are read only: JPEG 2000


def is_still(path: Path) -> bool:
    """Whether it is a picture, or an animation that is kept as pictures are, by its name."""
    return path.suffix.lower() in SUFFIXES + READ_ONLY


def makes_picture(path: Path, output: Path | None) -> bool:
    """Whether `path` becomes a picture, or an animation of its kind; an animation becomes a video where that is asked
    for. SourceError where that has to be known and it cannot be read."""
    if not is_still(path):
        return False
    return output is None or is_still(output) or output.is_dir() or not look(path).animated


def check_animation(path: Path) -> None:
    """UsageError for an animation that FFmpeg does not read, where a video of it is asked for."""
    if is_still(path) and look(path).kind in (WEBP, AVIF):
        kind = look(path).kind.name
        raise UsageError(f"{path}: no video is made of an animated {kind}: end -o in .webp or .png")


def default_output(source: Path, size: str) -> Path:
    """`episode.mkv` -> `episode.4x.mkv` beside it; a container not written becomes .mkv. size: of `size_name`."""
    suffix = source.suffix.lower() if is_still(source) else default_suffix(source)
    if suffix in READ_ONLY:
        suffix = _WRITTEN.get(suffix, ".jp2")
    return source.with_name(fit_name(source.stem, f".{size}{suffix}"))


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """UsageError or OutputError when `output` is the source, exists already, or lies where nothing can be written."""
    folder = output.parent
    if len(os.fsencode(output.name)) > NAME_BYTES:
        raise UsageError(f"{output}: a file's name has {NAME_BYTES} bytes at most; choose a shorter one with -o")
    if not folder.is_dir():
        raise OutputError(f"{folder}: no such folder to write into; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write there; choose another place with -o")
    if output.exists():
        if source.exists() and output.samefile(source):
            raise UsageError(f"{output}: is the source itself; choose another name with -o")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; name a file in it")
        if not overwrite:
            raise UsageError(f"{output}: exists already; replace it with --overwrite or choose another name with -o")


def targets(
    inputs: Sequence[Path], options: Options, size: str
) -> tuple[list[tuple[Path, Options]], list[VidsrError]]:  # fmt: skip
    """(each input with `options` for its own result, why the others cannot be written).

    options.output: a folder, a file for a single input, "-" for a stream, or None. size: of `size_name`.
    UsageError where two inputs would have one result, or one's result is another: what is meant nobody can know.
    """
    if options.output == STDOUT:
        check_stream(inputs, options)
        return [(inputs[0], options)], []
    if len(inputs) > 1 and options.output is not None and not options.output.is_dir():
        raise UsageError(f"{options.output}: several inputs need an existing folder as -o")
    each: list[tuple[Path, Options]] = []
    refused: list[VidsrError] = []
    sources = {os.path.realpath(path): path for path in inputs}
    taken: dict[str, Path] = {}
    for path in inputs:
        output = _target(path, options, size)
        place = os.path.normcase(os.path.join(os.path.realpath(output.parent), output.name))
        if place in taken:
            raise UsageError(
                f"{output}: would be the result of both {taken[place]} and {path}; run vidsr for each, with a name of "
                "its own as -o"
            )
        taken[place] = path
        other = sources.get(os.path.realpath(output), path)
        if other is not path:
            raise UsageError(f"{output}: the result of {path} would replace {other}, which is to be upscaled, too")
        try:
            check_output(path, output, options.overwrite)
            each.append((path, replace(options, output=output)))
        except VidsrError as error:
            refused.append(error)
    return each, refused


def _target(path: Path, options: Options, size: str) -> Path:
    """Where this input's result goes: as asked for, into the folder asked for, or beside it."""
    if options.output is None:
        return default_output(path, size)
    if options.output.is_dir():
        return options.output / default_output(path, size).name
    return options.output


def check_stream(inputs: Sequence[Path], options: Options) -> None:
    """UsageError when `inputs` or `options` make no sense for a stream into a pipe, `-o -`."""
    if len(inputs) > 1:
        raise UsageError("-o -: streams one episode: name one input, or an existing folder as -o")
    if makes_picture(inputs[0], STDOUT):
        raise UsageError(f"{inputs[0]}: is a picture, and -o - streams video: name a file as -o")
    check_animation(inputs[0])
    for name, given in (("--restart", options.restart), ("--overwrite", options.overwrite)):
        if given:
            raise UsageError(f"{name}: a stream leaves nothing to go on with or to replace: leave it out with -o -")
    if (options.jobs or 1) > 1:
        raise UsageError(f"--jobs {options.jobs}: a stream is made in one piece, in order: leave it out with -o -")
