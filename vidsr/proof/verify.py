"""The proof: is the result the source, enlarged, with nothing else touched?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from vidsr.container import container_of
from vidsr.frames import Crop, Shape, SourceInfo, TimeRange
from vidsr.proof.check import Check as Check
from vidsr.proof.check import Proof as Proof
from vidsr.proof.times import check_times
from vidsr.proof.tracks import check_tracks, check_whole
from vidsr.proof.video import check_aspect, check_pictures, check_size, check_tags
from vidsr.source.changes import look_through
from vidsr.source.probe import probe
from vidsr.source.weaving import Weaving


def verify(
    source: Path, result: Path, shape: Shape | None = None, dropped: Collection[int] | None = None,
    span: TimeRange = TimeRange(), crop: Crop | None = None, audio: str | None = None, weaving: Weaving | None = None,
) -> Proof:  # fmt: skip
    """Compare `result` with `source` down to packets, tags and pictures.

    shape: expected of the result; None takes any size that is no smaller and looks alike. dropped: indices of source
    tracks that may be missing; None: those that the result's container cannot hold. crop: what was taken of the
    source's pictures, as the decoder gives them; None: all. audio: what all sound was encoded anew as; None: it was
    kept. weaving: the pictures that the result is to be of; None: the source's own. SourceError when either file is no
    video.
    """
    before, after = look_through(probe(source), span), look_through(probe(result))
    if crop is not None:
        before = replace(before, video=before.video.cropped(crop))
    return compare(before, after, shape, dropped, span, audio, weaving)


def compare(
    before: SourceInfo, after: SourceInfo, shape: Shape | None, dropped: Collection[int] | None, span: TimeRange,
    audio: str | None = None, weaving: Weaving | None = None,
) -> Proof:  # fmt: skip
    """`verify` of a source and a result that are looked through already."""
    checks = [check_size(before.video, after.video, shape), check_aspect(before.video, after.video, shape)]
    timing, old, new, window = check_times(before, after, span, weaving)
    checks += timing
    checks += check_tags(before.video, after.video, container_of(after))
    checks += check_tracks(before, after, dropped, window, audio)
    checks += check_whole(before.path, after.path, window)
    checks += check_pictures(before, after, old, new, weaving)
    return Proof(tuple(checks))
