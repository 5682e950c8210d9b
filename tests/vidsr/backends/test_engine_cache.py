"""The engine cache: what was put comes back, whole or not at all, and only where nobody else could have put it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.running import ROOT
from vidsr.backends.tensorrt.cache import DEFAULT_LIMIT, EngineCache
from vidsr.backends.tensorrt.file import EngineKey, StoredEngine, read_portable, write_portable
from vidsr.errors import OutputError, UsageError
from vidsr.files import cache_folder

KEY = EngineKey(
    graph="ab" * 32, shape=(1, 3, 270, 480), dtype="fp16", gpu="NVIDIA GeForce RTX 4090", capabilities=("8.9",),
    driver="580.95", package="tensorrt", package_version="10.16.1", exporter="torch_tensorrt 2.12.0", torch="2.12.0",
    options=(("level", "3"),),
)  # fmt: skip
AHEAD = replace(
    KEY, gpu="", driver="", capabilities=("8.6", "8.9", "12.0"), exporter="onnx 1.23.2", torch="", options=()
)  # fmt: skip
STORED = StoredEngine(KEY, bytes(range(256)) * 2, "fast", 31.5, "2026-11-25T06:30:00Z", 61.2)
OTHER = {
    "graph": "cd" * 32, "shape": (1, 3, 270, 481), "dtype": "fp32", "gpu": "NVIDIA GeForce RTX 3060",
    "capabilities": ("8.6",), "driver": "580.96", "package": "tensorrt_rtx", "package_version": "10.16.2",
    "exporter": "onnx 1.23.2", "torch": "2.12.1", "options": (("level", "5"),),
}  # fmt: skip
posix = pytest.mark.skipif(os.name != "posix", reason="files have no owner and modes here")
root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path, told) -> EngineCache:
    return EngineCache(tmp_path / "cache" / "engines", notify=told.append)


def engine_file(cache: EngineCache, key: EngineKey = KEY) -> Path:
    return cache.folder / f"{key.digest}.engine"


def numbered(number: int, size: int = 1000) -> StoredEngine:
    return replace(STORED, key=replace(KEY, shape=(1, 3, 270, number)), engine=bytes(size))


def assert_one_line(told: list[str], *parts: str) -> None:
    assert len(told) == 1, told
    assert "\n" not in told[0]
    assert all(part in told[0] for part in parts), told[0]


# Keys


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_the_digest_depends_on_every_field(name):
    assert replace(KEY, **{name: OTHER[name]}).digest != KEY.digest


def test_the_digest_does_not_change():
    """Or every engine that anybody has is lost."""
    assert KEY.digest == "45de256812e6779445be44f762f47d5d3d716c64c8811c79c1d0ab157298e87e"


@pytest.mark.parametrize("name", OTHER)
def test_which_engine_serves_whom(name):
    """One of this machine only its own key, one built ahead wherever it can run."""
    indifferent = {"gpu", "capabilities", "driver", "exporter", "torch", "options"}  # capability 8.6 is one of its own
    other = replace(KEY, **{name: OTHER[name]})
    assert KEY.serves(KEY) and not KEY.serves(other)
    assert AHEAD.serves(other) == (name in indifferent)
    assert not any(AHEAD.serves(replace(KEY, capabilities=others)) for others in [("9.0",), ("8",), (), ("8.6", "8.9")])


# Round trips

text = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)
keys = st.builds(
    EngineKey, text, st.tuples(*[st.integers(1, 1 << 40)] * 4), text, text, st.lists(text, max_size=3).map(tuple),
    text, text, text, text, text, st.lists(st.tuples(text, text), max_size=3).map(tuple),
)  # fmt: skip
numbers = st.one_of(st.integers(-(1 << 50), 1 << 50), st.floats(allow_nan=False))
engines = st.one_of(
    st.builds(StoredEngine, keys, st.binary(min_size=1), text, numbers, text, st.none() | numbers),
    st.builds(StoredEngine, keys, st.just(b""), text, numbers, text, st.none() | numbers, text.filter(bool)),
)


@given(stored=engines)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_comes_back(cache, told, tmp_path, stored):
    assert cache.put(stored)
    assert cache.get(stored.key) == EngineCache(cache.folder).get(stored.key) == stored
    assert replace(stored, engine=b"") in [entry.stored for entry in cache.entries()]
    assert read_portable(write_portable(tmp_path / "ahead", stored)) == stored
    assert not told


def test_what_is_not_there_is_none_and_makes_nothing(cache, told):
    assert cache.get(KEY) is None
    assert cache.entries() == []
    assert cache.prune() == 0
    assert not cache.folder.exists() and not told


@pytest.mark.parametrize("psnr", [float("inf"), float("nan"), 12.0])
def test_a_refusal_is_remembered(cache, psnr):
    cache.put(STORED)
    assert cache.put(replace(STORED, engine=b"", psnr=psnr, refused="wrong"))
    found = cache.get(KEY)
    assert found is not None and (found.refused, str(found.psnr)) == ("wrong", str(psnr))
    assert len(cache.entries()) == 1


def test_an_engine_built_ahead_is_found_for_a_key_that_it_serves(cache, told):
    ahead = replace(STORED, key=AHEAD, psnr=None)
    cache.put(ahead)
    assert cache.get(KEY) == ahead
    assert cache.get(replace(KEY, capabilities=("9.0",))) is None
    refusal = replace(ahead, engine=b"", refused="wrong picture")
    cache.put(refusal)
    assert cache.get(KEY) is None and cache.get(AHEAD) == refusal
    cache.put(STORED)
    assert cache.get(KEY) == STORED
    assert not told


def test_an_engine_built_ahead_takes_the_place_of_a_failed_build(cache, told):
    """As `python -m engines build --target` puts it there, without `add`."""
    failed = replace(STORED, engine=b"", psnr=None, refused="TensorRT cannot build an engine (no kernel)")
    other = replace(failed, key=replace(KEY, capabilities=("9.0",)))
    for stored in (failed, other):
        cache.put(stored)
    ahead = replace(STORED, key=AHEAD, psnr=None)
    assert cache.put(ahead) and cache.get(KEY) == ahead
    assert cache.get(other.key) == other  # which it does not serve
    assert not told


def test_a_bad_file_built_ahead_does_not_hide_a_good_one(cache, told):
    good, bad = replace(STORED, key=AHEAD), replace(STORED, key=replace(AHEAD, torch="2.13.0"))
    cache.put(good)
    cache.put(bad)
    path = engine_file(cache, bad.key)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(engine_file(cache, good.key), (1, 1))
    assert cache.get(KEY) == good
    assert_one_line(told, str(path), "rejected")


# Damage


def assert_rejected(cache: EngineCache, told: list[str], *parts: str, key: EngineKey = KEY) -> None:
    """Not believed by a listing, nor by get, which deletes it and says why; then there is room for a good one."""
    path = engine_file(cache, key)
    reasons = [entry.reason for entry in cache.entries() if entry.path == path]
    assert not told
    assert cache.get(key) is None
    assert_one_line(told, str(path), "rejected", *parts)
    assert not os.path.lexists(path)
    assert cache.put(replace(STORED, key=key)) and cache.get(key) == replace(STORED, key=key)
    assert len(reasons) == 1
    told.clear()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[EngineCache, bytes, list[str]]:
    told: list[str] = []
    cache = EngineCache(tmp_path_factory.mktemp("written") / "engines", notify=told.append)
    cache.put(STORED)
    return cache, engine_file(cache).read_bytes(), told


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_is_noticed(written, data):
    cache, content, told = written
    position = data.draw(st.integers(0, len(content) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != content[position]))
    changed = content[:position] + bytes([value]) + content[position + 1 :]
    path = engine_file(cache)
    path.write_bytes(data.draw(st.sampled_from([changed, content[:position], content + content[: position + 1]])))
    with pytest.raises(UsageError, match="not an engine that can be added"):
        read_portable(path)
    assert cache.get(KEY) is None and not path.exists()
    assert len(told) == 1 and told[0].startswith(str(path)) and "\n" not in told.pop()
    assert cache.put(STORED) and cache.get(KEY) == STORED


def sealed(header: bytes, engine: bytes = STORED.engine) -> bytes:
    seal = hashlib.sha256(b"vidsr-engine 1 sha256\n" + header + b"\n").hexdigest()
    return f"vidsr-engine 1 sha256 {seal}\n".encode() + header + b"\n" + engine


@pytest.mark.parametrize(
    ("name", "value"),
    [("bytes", float("inf")), ("bytes", 0), ("refused", "x"), ("psnr", "loud"), ("more", ""), ("key", {}), ("key", 1),
     ("key.shape", ["a", 3, 270, 480]), ("key.shape", [3, 270, 480]), ("key.options", [["a"]]), ("key.more", "")],
)  # fmt: skip
def test_a_header_that_is_sealed_but_makes_no_sense_is_rejected(tmp_path, name, value):
    path = write_portable(tmp_path, STORED)
    raw = json.loads(path.read_bytes().split(b"\n")[1])
    assert path.read_bytes() == sealed(json.dumps(raw, sort_keys=True, separators=(",", ":")).encode())
    (raw["key"] if "." in name else raw)[name.removeprefix("key.")] = value
    for header in (json.dumps(raw).encode(), b"", b"[]", b"\xff", b"[" * 200_000):
        path.write_bytes(sealed(header, b"" if value == 0 else STORED.engine))
        with pytest.raises(UsageError, match="header is damaged"):
            read_portable(path)


def test_an_engine_under_the_name_of_another(cache, told):
    other = replace(KEY, shape=(1, 3, 480, 720))
    cache.put(STORED)
    os.replace(engine_file(cache), engine_file(cache, other))
    assert_rejected(cache, told, "another engine", key=other)


@pytest.mark.parametrize("first", [b"vidsr-engine 2 sha256 ", b"vidsr-engine 1 hmac-sha256 "])
def test_a_format_of_another_time(cache, told, first):
    """Up to 0.1 caches were signed: such engines are built again."""
    cache.put(STORED)
    path = engine_file(cache)
    path.write_bytes(path.read_bytes().replace(b"vidsr-engine 1 sha256 ", first, 1))
    assert_rejected(cache, told, "its format is another vidsr's")


@pytest.mark.parametrize("size", [0, 1 << 40], ids=["small", "a sparse terabyte without any end of line"])
@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x80\x04N.", b"vidsr-engine ", b"vidsr-engine 1 sha256 \n"])
def test_files_of_other_kinds(cache, told, content, size):
    cache.put(STORED)
    with open(engine_file(cache), "wb") as file:
        file.write(content)
        file.truncate(len(content) + size)
    assert_rejected(cache, told)


# Planted files


def linked(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)  # reading one would block


@posix
@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (linked, "a link"),
        (piped, "not a file"),
        (lambda path: path.chmod(0o620), "other users"),
        (lambda path: path.chmod(0o602), "other users"),
        pytest.param(lambda path: os.chown(path, 12345, -1), "another user", marks=root),
    ],
)
def test_what_others_may_have_put_there_is_not_believed(cache, told, plant, reason):
    cache.put(STORED)
    plant(engine_file(cache))
    assert_rejected(cache, told, reason)


def test_a_folder_in_place_of_an_engine_stays_and_is_said(cache, told):
    cache.put(numbered(1))
    engine_file(cache).mkdir()
    assert cache.get(KEY) is None
    assert_one_line(told, str(engine_file(cache)), "rejected")
    assert [entry.stored is None for entry in cache.entries() if entry.path == engine_file(cache)] == [True]
    told.clear()
    assert not cache.put(STORED)
    assert_one_line(told, str(cache.folder), "VIDSR_CACHE")


@posix
def test_folder_and_engines_are_for_the_user_alone(cache):
    before = os.umask(0)
    try:
        cache.put(STORED)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [cache.folder, *cache.folder.iterdir()]}
    assert modes == {"engines": 0o700, engine_file(cache).name: 0o600}


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702])
def test_a_folder_that_others_can_write_is_not_used(cache, told, mode):
    cache.put(STORED)
    cache.folder.chmod(mode)
    assert cache.get(KEY) is None and not cache.put(numbered(1)) and cache.entries() == [] and cache.prune() == 0
    assert_one_line(told, str(cache.folder), f"chmod 700 {cache.folder}")
    assert engine_file(cache).exists()
    cache.folder.chmod(0o755)  # they may read it
    assert cache.get(KEY) == STORED


@root
def test_a_folder_that_another_user_owns_is_not_used(cache, told):
    cache.put(STORED)
    os.chown(cache.folder, 12345, -1)
    assert cache.get(KEY) is None and not cache.put(STORED) and cache.entries() == []
    assert_one_line(told, str(cache.folder), "another user", "VIDSR_CACHE")


# Engines built ahead


def test_adding_makes_engines_of_others_ones_own(cache, told, tmp_path):
    twin = replace(STORED, key=replace(AHEAD, shape=(1, 3, 480, 720)))
    write_portable(tmp_path / "ahead", twin)
    path = write_portable(tmp_path / "ahead", replace(STORED, key=AHEAD))
    assert {stored.key for stored in cache.add(tmp_path / "ahead")} == {AHEAD, twin.key}
    uncompared = replace(STORED, key=AHEAD, psnr=None)  # the comparison was of another machine
    assert cache.get(KEY) == uncompared
    assert cache.get(replace(KEY, shape=(1, 3, 480, 720))) == replace(twin, psnr=None)
    assert cache.add(path.rename(tmp_path / "from a friend")) == [uncompared]
    assert not told


def test_an_added_engine_takes_the_place_of_refusals(cache, tmp_path):
    unrelated = replace(STORED, key=replace(KEY, dtype="fp32"), engine=b"", refused="wrong picture")
    cache.put(replace(STORED, engine=b"", refused="wrong picture"))
    cache.put(unrelated)
    cache.add(write_portable(tmp_path, replace(STORED, key=AHEAD)))
    found = cache.get(KEY)
    assert found is not None and found.key == AHEAD and not found.refused
    assert cache.get(unrelated.key) == unrelated


def test_nothing_is_added_when_one_file_is_bad(cache, tmp_path):
    write_portable(tmp_path, STORED)
    path = write_portable(tmp_path, numbered(1))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UsageError, match=path.name) as raised:
        cache.add(tmp_path)
    assert "\n" not in str(raised.value)
    assert cache.entries() == []


def test_what_cannot_be_read_or_written(cache, tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        cache.add(tmp_path / "missing")
    with pytest.raises(UsageError, match=r"no \.engine files"):
        cache.add(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="choose another folder"):
        write_portable(tmp_path / "file", STORED)


# Size


def kept(cache: EngineCache) -> set[int]:
    return {entry.stored.key.shape[3] for entry in cache.entries() if entry.stored}


def test_the_least_recently_used_goes_first(cache):
    for number in (1, 2, 3):
        cache.put(numbered(number))
        os.utime(engine_file(cache, numbered(number).key), (number, number))
    cache.get(numbered(1).key)
    cache.limit_bytes = 3 * engine_file(cache, numbered(1).key).stat().st_size
    cache.put(numbered(4))
    assert kept(cache) == {1, 3, 4}
    assert cache.entries()[-1].used == 3


def test_what_was_just_put_stays_even_if_it_is_too_large_alone(cache):
    cache.limit_bytes = 10
    cache.put(numbered(1))
    os.utime(engine_file(cache, numbered(1).key), (2**32, 2**32))  # a clock that once was wrong
    cache.put(numbered(2))
    assert kept(cache) == {2}
    assert cache.prune() == 1 and kept(cache) == set()


def test_refusals_and_bad_files_count(cache):
    cache.put(replace(numbered(1), engine=b"", refused="x"))
    (cache.folder / "junk.engine").write_bytes(bytes(5000))
    os.utime(cache.folder / "junk.engine", (1, 1))
    cache.limit_bytes = 4000
    cache.put(numbered(2))
    assert kept(cache) == {1, 2} and not (cache.folder / "junk.engine").exists()


CRASH = """import os; from tests.vidsr.backends.test_engine_cache import *
os.fsync = lambda _: os._exit(9)
EngineCache(Path({!r})).put(STORED)"""


def test_leftovers_of_crashed_writers_go_after_an_hour(cache):
    cache.put(numbered(1))
    assert subprocess.run([sys.executable, "-c", CRASH.format(str(cache.folder))], cwd=ROOT).returncode == 9
    (leftover,) = cache.folder.glob("*.part")
    assert cache.get(KEY) is None and len(cache.entries()) == 1
    assert cache.prune() == 0 and leftover.exists()
    os.utime(leftover, (leftover.stat().st_mtime - 3700,) * 2)
    assert cache.prune() == 1 and not leftover.exists() and kept(cache) == {1}


def test_a_listing_reads_no_engine_and_removes_any(cache, told):
    for number in (1, 2):
        cache.put(numbered(number))
    damaged = engine_file(cache, numbered(1).key)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    (cache.folder / "junk.engine").write_bytes(b"junk")
    (junk,) = [entry for entry in cache.entries() if entry.stored is None]
    assert junk.size == 4 and junk.reason
    assert cache.remove(junk) and not cache.remove(junk)
    assert kept(cache) == {1, 2} and not told


# Places


def test_without_a_home_nothing_is_kept(monkeypatch, tmp_path, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDSR_CACHE", "~nobody-of-that-name/cache")
    cache = EngineCache(notify=told.append)
    assert cache.folder == cache_folder("engines")
    assert cache.get(KEY) is None and not cache.put(STORED) and cache.entries() == []
    assert_one_line(told, "no home folder", "set VIDSR_CACHE")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "limit"), [("", DEFAULT_LIMIT), ("100", 100 << 20)])
def test_the_limit(monkeypatch, tmp_path, value, limit):
    monkeypatch.setenv("VIDSR_ENGINE_CACHE_MIB", value)
    assert EngineCache(tmp_path).limit_bytes == limit
    assert EngineCache(tmp_path, limit_bytes=7).limit_bytes == 7


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "²", "9" * 5000])
def test_a_limit_that_is_no_number(monkeypatch, tmp_path, value):
    monkeypatch.setenv("VIDSR_ENGINE_CACHE_MIB", value)
    with pytest.raises(UsageError, match="VIDSR_ENGINE_CACHE_MIB") as raised:
        EngineCache(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("below", ["", "further", "further/down"])
def test_a_file_where_the_folder_should_be(tmp_path, told, below):
    (tmp_path / "file").write_bytes(b"")
    cache = EngineCache(tmp_path / "file" / below, notify=told.append)
    for _ in range(2):
        assert cache.get(KEY) is None and not cache.put(STORED) and cache.entries() == []
        assert cache.prune() == 0
    assert_one_line(told, str(cache.folder), "set VIDSR_CACHE")


def test_a_folder_that_can_only_be_read(cache, told, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    cache.put(STORED)
    for name in ("open", "utime", "unlink", "replace"):
        monkeypatch.setattr(os, name, refuse)  # no folder is read-only to root
    assert cache.get(KEY) == STORED and not told
    assert not cache.put(numbered(1)) and not cache.put(numbered(2))
    assert_one_line(told, str(cache.folder), "Read-only", "set VIDSR_CACHE")
    cache.limit_bytes = 0
    assert cache.prune() == 0 and not cache.remove(cache.entries()[0])


def test_without_anybody_to_tell_it_is_a_warning(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="set VIDSR_CACHE"):
        EngineCache(tmp_path / "file").put(STORED)


# Two processes


def work(folder: Path, number: int) -> tuple[int, int, list[str]]:
    """Put and get the same few keys as the other process, as fast as can be: (wrong, found, told)."""
    told: list[str] = []
    cache = EngineCache(folder, limit_bytes=60_000, notify=told.append)
    wrong = found = 0
    for turn in range(60):
        stored = replace(numbered(1 + turn % 5, 20_000), engine=bytes([number, turn]) * 10_000)
        wrong += not cache.put(stored)
        if engine := cache.get(stored.key):
            found += 1
            # Either process's engine of this key, never a mixture of two.
            wrong += engine.engine != engine.engine[:2] * 10_000
        cache.entries()
    return wrong, found, told


def test_two_processes_at_once(tmp_path):
    folder = tmp_path / "deep" / "engines"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        outcomes = pool.starmap(work, [(folder, 1), (folder, 2)], chunksize=1)
    assert all(wrong == 0 and found and not told for wrong, found, told in outcomes)
    assert all(entry.stored for entry in EngineCache(folder).entries())
    assert not list(folder.glob("*.part"))
