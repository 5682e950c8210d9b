"""The first look at every picture: what it is, on which side of the split, and whether it is worth keeping."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from train.data.crops import Crop, choose_crops
from train.data.pack import encode_png, sha256_of
from train.data.pictures import (
    DUPLICATE,
    NEAR_FLAT,
    NOT_NEEDED,
    UNREADABLE,
    Finding,
    Found,
    Look,
    Unusable,
    duplicates,
    look_at,
    place_of,
    place_of_frame,
    read_picture,
    split_of,
)  # fmt: skip
from train.data.video_frames import frames_of

_THREADS = 2
_SCENE = 1024  # pixels a side of drawn scenes
_TRAIN = 1.0  # a place in the split that is none of validation's and test's


@dataclass(frozen=True)
class Options:
    """What becomes of pictures. validation, test: shares of all. every: seconds between frames of a video.
    scenes: how many to draw by program, of the row `scenes_seed`.

    limits: the most pictures of each split; those left out of it have no limit.
    """

    crops: str = "many"
    per_picture: int = 4
    min_side: int = 512
    validation: float = 0.025
    test: float = 0.025
    every: float = 5.0
    scenes: int = 0
    scenes_seed: int = 0
    limits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A picture that may go into the pack.

    file: where its pixels are, exactly those that were looked at. sha256: of that file's content for a still, of the
    whole video for a frame, `seconds` after the first one. place: in 0..1, decides the split.
    """

    path: str
    file: Path
    sha256: str
    place: float
    split: str
    width: int
    height: int
    look: Look
    crops: list[Crop]
    seconds: float | None = None


@dataclass(frozen=True)
class Rejected:
    path: str
    reason: str
    detail: str


class Survey:
    """Looks at every file found. Afterwards `candidates` and `rejected` hold what came of it.

    spool: an existing folder for the frames taken from videos. say: told lines for the user.
    """

    def __init__(self, options: Options, spool: Path, say: Callable[[str], None]) -> None:
        self.options, self.spool, self.say = options, spool, say
        self.candidates: list[Candidate] = []
        self.rejected: list[Rejected] = []

    def look(self, finding: Finding, progress: Callable[[float], None] = lambda files: None) -> None:
        """progress: told how many files are done; of a video also parts. OSError when the spool cannot be written."""
        self.rejected += [Rejected(path, UNREADABLE, why) for path, why in finding.unreadable]
        stills = [found for found in finding.files if not found.is_video]
        done = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for done, result in enumerate(pool.map(self._still, stills), 1):
                self._note(result)
                progress(done)
        for number, video in enumerate((found for found in finding.files if found.is_video), done):
            try:
                for candidate in self._video(video, lambda share, number=number: progress(number + share)):  # type: ignore[misc]
                    self._note(candidate)
            except Unusable as error:
                self._note(Rejected(video.path, error.reason, error.detail))
            progress(number + 1)

    def draw(self, progress: Callable[[float], None] = lambda scenes: None) -> None:
        """The drawn scenes, all of them to train on. progress: told how many are done. OSError as above."""
        from train.scenes.command import draw_scene

        seed = self.options.scenes_seed
        for number in range(self.options.scenes):
            pixels = draw_scene(seed, number, max(_SCENE, self.options.min_side))
            file = self.spool / f"scene-{seed}-{number:05d}.png"
            content = encode_png(pixels)
            digest = hashlib.sha256(content).digest()
            result = self._candidate(f"scenes/{seed}-{number:05d}", file, pixels, digest, _TRAIN, None)
            if isinstance(result, Candidate):
                file.write_bytes(content)
            self._note(result)
            progress(number + 1)

    def choose(self) -> list[Candidate]:
        """The candidates to keep, sorted by path: no duplicates, of which the largest stays, and within the limits."""
        ordered = sorted(self.candidates, key=lambda candidate: (-candidate.width * candidate.height, candidate.path))
        same = duplicates([candidate.look for candidate in ordered])
        self.rejected += [Rejected(ordered[a].path, DUPLICATE, f"of {ordered[b].path}") for a, b in same.items()]
        taken: dict[str, int] = {}
        chosen = []
        for candidate in sorted(
            (candidate for index, candidate in enumerate(ordered) if index not in same),
            key=lambda candidate: (candidate.place, candidate.path),
        ):
            taken[candidate.split] = number = taken.get(candidate.split, 0) + 1
            if number > self.options.limits.get(candidate.split, number):
                self.rejected.append(Rejected(candidate.path, NOT_NEEDED, candidate.split))
            else:
                chosen.append(candidate)
        self.rejected.sort(key=lambda rejected: (rejected.reason, rejected.path))
        return sorted(chosen, key=lambda candidate: candidate.path)

    def _note(self, result: Candidate | Rejected) -> None:
        if isinstance(result, Rejected):
            self.rejected.append(result)
        else:
            self.candidates.append(result)

    def _still(self, found: Found) -> Candidate | Rejected:
        try:
            content = read_file(found.file)
            pixels = read_picture(content, self.options.min_side)
        except Unusable as error:
            return Rejected(found.path, error.reason, error.detail)
        digest = hashlib.sha256(content).digest()
        return self._candidate(found.path, found.file, pixels, digest, place_of(digest), None)

    def _video(self, found: Found, progress: Callable[[float], None]) -> Iterator[Candidate | Rejected]:
        try:
            digest = bytes.fromhex(sha256_of(found.file))
        except OSError as error:
            raise Unusable(UNREADABLE, str(error.strerror)) from None
        for seconds, pixels in frames_of(found, self.options.every, self.options.min_side, self.say, progress):
            place = place_of_frame(digest, seconds)
            file = self.spool / f"{digest.hex()[:16]}-{round(seconds * 1000)}.png"
            result = self._candidate(f"{found.path}/{seconds:09.3f}", file, pixels, digest, place, seconds)
            if isinstance(result, Candidate):
                file.write_bytes(encode_png(pixels))
            yield result

    def _candidate(
        self, path: str, file: Path, pixels: np.ndarray, digest: bytes, place: float, seconds: float | None
    ) -> Candidate | Rejected:
        options = self.options
        crops = choose_crops(pixels, options.crops, options.per_picture)
        if not crops:
            return Rejected(path, NEAR_FLAT, "nothing but flat areas" if options.crops == "many" else "in its centre")
        height, width = pixels.shape[:2]
        split = split_of(place, options.validation, options.test)
        return Candidate(path, file, digest.hex(), place, split, width, height, look_at(pixels), crops, seconds)


def read_file(path: Path) -> bytes:
    """The content of a picture's file. Unusable when the disk does not give it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unusable(UNREADABLE, str(error.strerror)) from None
