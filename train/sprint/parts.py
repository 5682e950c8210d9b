"""Training crops in files small enough to carry to a rented machine. A folder of

    index.json                   what is in it, with sizes and hashes
    part-000.bin, part-001.bin   crops and validation pictures, one compressed file after the other
    init/NAME.safetensors        weights that generators begin with
    wheels/*.whl                 Python packages that the machine lacks

The crops are in random order, the same each time, so that every part is a fair sample of them all.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from train.data.pack import CROP, Pack, Weights, encode_png, sha256_of
from train.degrade.recipe import MARGIN
from vidsr.files import write_whole

FORMAT = 1
INDEX = "index.json"
WINDOW = CROP + 2 * MARGIN  # side of a validation picture, where there is so much of it
Say = Callable[[str], None]


def encode_crop(pixels: np.ndarray, quality: int) -> bytes:
    """[H, W, 3] uint8 RGB -> a lossy WebP file of luma and both colour differences, one below the other, in grey.

    WebP halves the resolution of colours, which a generator would learn to leave soft. So stored, all three are whole:
    at the same size 2 dB closer to the original.
    """
    planes = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb).transpose(2, 0, 1).reshape(-1, pixels.shape[1])
    return cv2.imencode(".webp", cv2.merge([planes] * 3), [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def decode_crop(content: np.ndarray) -> np.ndarray:
    """The way back: uint8 bytes -> [H, W, 3] uint8 RGB. ValueError when they are no WebP file."""
    grey = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if grey is None:
        raise ValueError("a crop cannot be decoded: this OpenCV reads no WebP; install opencv-python-headless")
    planes = grey[..., 1].reshape(3, -1, grey.shape[1])
    return cv2.cvtColor(np.ascontiguousarray(planes.transpose(1, 2, 0)), cv2.COLOR_YCrCb2RGB)


@dataclass(frozen=True)
class Contents:
    """What goes into parts. packs: each with its share of the draws, above 0, of any sum. weights: see `Pack`.

    part_bytes: of a part, at most. quality: of WebP, 1..100. validation: pictures, at most.
    """

    packs: Sequence[tuple[Pack, float]]
    weights: Weights = ()
    part_bytes: int = 60 << 20
    quality: int = 90
    validation: int = 16
    init: Sequence[Path] = ()
    wheels: Sequence[Path] = ()


def write_parts(contents: Contents, out: Path, replace: bool, say: Say) -> dict[str, Any]:
    """Write the folder `out`; returns its index. The same contents give the same bytes.

    The index comes last: a folder without one is unfinished. ValueError for a folder that is finished, unless
    `replace`, and for contents that do not fit; OSError for a full disk.
    """
    index_file = out / INDEX
    if index_file.exists() and not replace:
        raise ValueError(f"{out}: holds parts already; --replace makes them anew, --out FOLDER others")
    for path in (*contents.init, *contents.wheels):
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
    total = sum(len(pack.train_crops(contents.weights)[1]) for pack, _ in contents.packs)
    out.mkdir(parents=True, exist_ok=True)
    index_file.unlink(missing_ok=True)
    for old in [*out.glob("part-*.bin"), *out.glob("init/*"), *out.glob("wheels/*")]:
        old.unlink()
    pictures = _validation_windows(contents)
    crops = _shuffled_crops(contents)
    with _PartWriter(out, contents.part_bytes) as writer:
        kept = [{"path": path, "at": writer.add(encode_png(pixels))} for path, pixels in pictures]
        if len(writer.finished):
            raise ValueError("--part-mb: validation does not fit the first part; give more, or a smaller --validation")
        places, odds = [], []
        for content, odd in _encoded(crops, contents.quality):
            places.append(writer.add(content))
            odds.append(odd)
            if len(places) % 1000 == 0:
                say(f"{len(places)} of {total} crops, {len(writer.finished)} parts")
    carried = [_copied(path, out / "init") for path in contents.init]
    carried += [_copied(path, out / "wheels") for path in contents.wheels]
    index = {
        "format": FORMAT, "crop": CROP, "quality": contents.quality, "packs": [p.digest for p, _ in contents.packs],
        "parts": writer.finished, "validation": kept, "crops": places, "odds": odds, "carried": carried,
    }  # fmt: skip
    write_whole(index_file, json.dumps(index, separators=(",", ":")).encode())
    return index


def loads(index: dict[str, Any], folder: Path) -> list[tuple[list[str], int]]:
    """What to bring in which order: (files of one load, their bytes). All but the other parts goes first, as one."""
    small = [(INDEX, (folder / INDEX).stat().st_size), *((f["file"], f["bytes"]) for f in index["carried"])]
    return [([name for name, _ in small], sum(size for _, size in small))] + [
        ([part["file"]], part["bytes"]) for part in index["parts"]
    ]


def _validation_windows(contents: Contents) -> list[tuple[str, np.ndarray]]:
    """(path, pixels) of a few pictures, evenly chosen: their centre, with a margin for pans where they have it."""
    found = [picture for pack, _ in contents.packs for picture in pack.pictures("validation", contents.weights)]
    found = [picture for picture in found if min(picture.pixels.shape[:2]) >= CROP]
    if not found:
        raise ValueError(f"no validation picture of {CROP} pixels a side; prepare more, or with a larger --validation")
    some = [found[i] for i in np.linspace(0, len(found) - 1, min(contents.validation, len(found))).round().astype(int)]
    windows = []
    for picture in some:
        size = WINDOW if min(picture.pixels.shape[:2]) >= WINDOW else CROP
        top, left = ((side - size) // 2 for side in picture.pixels.shape[:2])
        windows.append((picture.path, picture.pixels[top : top + size, left : left + size]))
    return windows


def _shuffled_crops(contents: Contents) -> Iterator[tuple[np.ndarray, float]]:
    """(pixels, odds) of all crops of all packs, in an order that is random and the same each time."""
    everything = sum(share for _, share in contents.packs)
    found = []
    for pack, share in contents.packs:
        shards, index, odds = pack.train_crops(contents.weights)
        found += [(shards[s], row, odd * share / everything) for (s, row), odd in zip(index, odds, strict=True)]
    for number in np.random.default_rng(0).permutation(len(found)):
        shard, row, odd = found[number]
        yield np.array(shard[row]), float(odd)


def _encoded(crops: Iterable[tuple[np.ndarray, float]], quality: int) -> Iterator[tuple[bytes, float]]:
    """In threads (OpenCV lets go of the interpreter), a few at a time, in order."""
    crops = iter(crops)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while some := list(islice(crops, 64)):
            yield from threads.map(lambda crop: (encode_crop(crop[0], quality), crop[1]), some)


class _PartWriter:
    """Files of at most `limit` bytes, whole or not there: each is renamed when it is finished."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.finished: list[dict[str, Any]] = []
        self._content = bytearray()

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if not failed and self._content:
            self._finish()

    def add(self, content: bytes) -> list[int]:
        """-> [part, offset, bytes], where it is."""
        if len(content) > self.limit:
            raise ValueError(f"--part-mb: a picture alone has {len(content)} bytes, a part {self.limit}; give more")
        if len(self._content) + len(content) > self.limit:
            self._finish()
        place = [len(self.finished), len(self._content), len(content)]
        self._content += content
        return place

    def _finish(self) -> None:
        name = f"part-{len(self.finished):03}.bin"
        write_whole(self.folder / name, self._content)
        digest = sha256(self._content).hexdigest()
        self.finished.append({"file": name, "bytes": len(self._content), "sha256": digest})
        self._content = bytearray()


def _copied(path: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    if target.exists():
        raise ValueError(f"{path}: two files of this name; rename one")
    shutil.copyfile(path, target)
    name = target.relative_to(folder.parent).as_posix()
    return {"file": name, "bytes": target.stat().st_size, "sha256": sha256_of(target)}


class Parts:
    """The folder, opened. partial: do with the parts that are there, as long as the first is.

    Every file's size and SHA-256 is checked. ValueError, one line with the cure, for what is missing or damaged.
    """

    def __init__(self, folder: Path, partial: bool = False) -> None:
        self.folder = folder
        try:
            self.index = json.loads((folder / INDEX).read_bytes())
            made_by = self.index["format"]
        except (FileNotFoundError, NotADirectoryError):
            raise ValueError(f"{folder}: no {INDEX} there; make parts: python -m train sprint pack") from None
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{folder / INDEX}: damaged; bring it again") from None
        if (made_by, self.index.get("crop")) != (FORMAT, CROP):
            raise ValueError(f"{folder}: parts of another version; make them anew: python -m train sprint pack")
        with ThreadPoolExecutor() as threads:
            # Wheels may stay at home: they are for machines that lack the package.
            carried = self.index["carried"]
            needed = [f for f in carried if f["file"].startswith("init/") or (folder / f["file"]).exists()]
            for line in filter(None, threads.map(self._fault, needed)):
                raise ValueError(f"{line}; bring it again")
            checked = list(threads.map(self._part, self.index["parts"], [partial] * len(self.index["parts"])))
        if checked[0] is None:
            raise ValueError(f"{folder / self.index['parts'][0]['file']}: missing; bring it: validation is in it")
        self._parts = checked
        here = [i for i, (part, _, _) in enumerate(self.index["crops"]) if checked[part] is not None]
        self._places = [self.index["crops"][i] for i in here]
        odds = np.array([self.index["odds"][i] for i in here])
        if not odds.sum() > 0:
            raise ValueError(f"{folder}: no crop in the parts that are there; bring more of them")
        self.odds = odds / odds.sum()  # [N] float64, adding up to 1: how often each crop is to be drawn

    def __len__(self) -> int:
        """Crops in the parts that are there."""
        return len(self._places)

    @property
    def missing(self) -> int:
        return sum(part is None for part in self._parts)

    def decode_into(self, crops: np.ndarray, threads: int) -> None:
        """Fill `crops`, [N, CROP, CROP, 3] uint8 RGB, in as many threads."""

        def decode(number: int) -> None:
            crops[number] = decode_crop(self._at(self._places[number]))

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(decode, range(len(self)), chunksize=16):
                pass

    def validation(self) -> list[np.ndarray]:
        """[S, S, 3] uint8 RGB each; S is WINDOW, or CROP of small pictures."""
        found: list[Any] = [cv2.imdecode(self._at(p["at"]), cv2.IMREAD_COLOR) for p in self.index["validation"]]
        return [cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) for pixels in found]

    def _at(self, place: list[int]) -> np.ndarray:
        part, offset, size = place
        content = self._parts[part]
        assert content is not None
        return content[offset : offset + size]

    def _part(self, part: dict[str, Any], partial: bool) -> np.ndarray | None:
        path = self.folder / part["file"]
        if not path.is_file() and partial:
            return None
        if line := self._fault(part):
            cure = "again" if path.is_file() else "too, or --partial to do with the parts that are there"
            raise ValueError(f"{line}; bring it {cure}")
        return np.fromfile(path, np.uint8)

    def _fault(self, entry: dict[str, Any]) -> str:
        path = self.folder / entry["file"]
        if not path.is_file():
            return f"{path}: missing"
        if (size := path.stat().st_size) != entry["bytes"]:
            return f"{path}: got {size} bytes, expected {entry['bytes']}: cut short?"
        return "" if sha256_of(path) == entry["sha256"] else f"{path}: damaged"
