"""The pack: pictures made ready for training. A folder of

    manifest.json                what is in it, of which pictures, with hashes
    train-000.npy, …             uint8 [n, CROP, CROP, 3] RGB crops of training pictures, at most 50 MiB a file
    validation/*.png, test/*.png whole pictures, lossless RGB, both sides a multiple of 4

`prepare` writes it, everything else only reads.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FORMAT = 1
CROP = 384
SHARD_BYTES = 50 * 2**20
MANIFEST = "manifest.json"
Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Picture:
    """path: in the pack's words, "stills/cat/0003.webp". pixels: [H, W, 3] uint8 RGB, H and W multiples of 4."""

    path: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Pack:
    """A finished pack. manifest: manifest.json. digest: the SHA-256 of that file, which holds those of all others."""

    folder: Path
    manifest: dict[str, Any]
    digest: str

    @classmethod
    def open(cls, folder: str | Path, verify: bool = False) -> Pack:
        """The pack in `folder`. Every file's size is checked; with `verify` its SHA-256 too.

        ValueError, one line with the cure: no pack there, made by another version, a file missing or altered.
        """
        folder = Path(folder)
        try:
            content = (folder / MANIFEST).read_bytes()
            manifest = json.loads(content)
            made_by = manifest["format"]
        except (FileNotFoundError, NotADirectoryError):
            cure = f"make one: python -m train prepare STILLS --out {folder}"
            raise ValueError(f"{folder}: no pack there; {cure}") from None
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{folder / MANIFEST}: damaged; {_again(folder)}") from None
        if made_by != FORMAT:
            raise ValueError(f"{folder}: a pack of format {made_by}, expected {FORMAT}; {_again(folder)}")
        try:
            parts = [(part["file"], part["bytes"], part["sha256"]) for part in manifest["shards"]]
            whole = (entry for entry in manifest["pictures"] if "file" in entry)
            parts += [(entry["file"], entry["bytes"], entry["file_sha256"]) for entry in whole]
        except (KeyError, TypeError):
            raise ValueError(f"{folder / MANIFEST}: damaged; {_again(folder)}") from None
        for name, expected, digest in parts:
            path = folder / name
            if not path.is_file():
                raise ValueError(f"{path}: missing; {_again(folder)}")
            if (size := path.stat().st_size) != expected:
                raise ValueError(f"{path}: got {size} bytes, expected {expected}: cut short?; {_again(folder)}")
            if verify and sha256_of(path) != digest:
                raise ValueError(f"{path}: its content has changed; {_again(folder)}")
        return cls(folder, manifest, hashlib.sha256(content).hexdigest())

    def train_crops(self, weights: Weights = ()) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """(shards, index, odds) of the training crops whose weight is above 0.

        shards: arrays uint8 [n, CROP, CROP, 3], mapped, not read. index: int64 [N, 2], shard and row of each crop.
        odds: float64 [N], adding up to 1: how often each is to be drawn. A picture's weight is that of each of its
        crops, so that rich pictures, which have more of them, are drawn more often.
        ValueError when no crop is left.
        """
        index: list[list[int]] = []
        odds: list[float] = []
        for entry in self._entries("train", weights):
            index += entry["crops"]
            odds += [weight_of(entry["path"], weights)] * len(entry["crops"])
        if not index:
            raise ValueError(f"{self.folder}: no training crop is left; give one of its pictures a --weight above 0")
        shards = [np.load(self.folder / shard["file"], mmap_mode="r") for shard in self.manifest["shards"]]
        return shards, np.array(index, np.int64), np.array(odds) / np.sum(odds)

    def pictures(self, split: str, weights: Weights = ()) -> list[Picture]:
        """The whole pictures of `split`, "validation" or "test", sorted by path, without those of weight 0."""
        if split not in ("validation", "test"):
            raise ValueError(f"split: got {split!r}, expected validation or test")
        found = []
        for entry in sorted(self._entries(split, weights), key=lambda entry: entry["path"]):
            path = self.folder / entry["file"]
            pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
            if pixels is None:
                raise ValueError(f"{path}: damaged; {_again(self.folder)}")
            found.append(Picture(entry["path"], cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)))
        return found

    def _entries(self, split: str, weights: Weights) -> list[dict[str, Any]]:
        entries = [entry for entry in self.manifest["pictures"] if entry["split"] == split]
        return [entry for entry in entries if weight_of(entry["path"], weights) > 0]


def weight_of(path: str, weights: Weights) -> float:
    """The number of the first pattern (fnmatch) that matches `path`, its end behind any slash, or one of its folders.

    "stills/cat/3.webp" is matched by "stills/cat/*", "cat/3.webp", "3.*" and "cat". 1 when nothing matches.
    """
    parts = path.split("/")
    names = ["/".join(parts[i:]) for i in range(len(parts))] + parts[:-1]
    for pattern, weight in weights:
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            return weight
    return 1.0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _again(folder: Path) -> str:
    return f"make it anew: python -m train prepare STILLS --replace --out {folder}"


class PackWriter:
    """Writes a pack's files into `folder`, one shard in memory at a time. Errors of the disk come as OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures: list[dict[str, Any]] = []
        self.shards: list[dict[str, Any]] = []
        self._shard = np.empty(((SHARD_BYTES - 1024) // (CROP * CROP * 3), CROP, CROP, 3), np.uint8)
        self._filled = 0
        for split in ("validation", "test"):
            (folder / split).mkdir(parents=True, exist_ok=True)

    def add_crops(self, crops: list[np.ndarray], **entry: Any) -> None:
        """A training picture. crops: [CROP, CROP, 3] uint8 RGB each. entry: what the manifest says of it."""
        places = []
        for crop in crops:
            self._shard[self._filled] = crop
            places.append([len(self.shards), self._filled])
            self._filled += 1
            if self._filled == len(self._shard):
                self._flush()
        self.pictures.append({**entry, "split": "train", "crops": places})

    def add_whole(self, split: str, name: str, pixels: np.ndarray, **entry: Any) -> None:
        """A picture of "validation" or "test", [H, W, 3] uint8 RGB, kept as split/name.png; its lower and right edges
        are cut to a multiple of 4."""
        height, width = (side - side % 4 for side in pixels.shape[:2])
        path = self.folder / split / f"{name}.png"
        path.write_bytes(encode_png(pixels[:height, :width]))
        self.pictures.append({**entry, "split": split, **_described(self.folder, path, "file_sha256")})

    def finish(self, **manifest: Any) -> None:
        """Write what is left of the crops, and the manifest, which also says what is in `manifest`."""
        if self._filled:
            self._flush()
        whole = {"format": FORMAT, "crop": CROP, **manifest, "shards": self.shards, "pictures": self.pictures}
        (self.folder / MANIFEST).write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")

    def _flush(self) -> None:
        path = self.folder / f"train-{len(self.shards):03}.npy"
        with path.open("wb") as file:
            np.save(file, self._shard[: self._filled])
        self.shards.append({"crops": self._filled, **_described(self.folder, path, "sha256")})
        self._filled = 0


def encode_png(pixels: np.ndarray) -> bytes:
    """[H, W, 3] uint8 RGB -> a PNG file. In memory, because cv2.imwrite does not say that a disk is full."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _described(folder: Path, path: Path, digest: str) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {"file": name, "bytes": path.stat().st_size, digest: sha256_of(path)}
