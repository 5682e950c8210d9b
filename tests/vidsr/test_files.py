"""Whole files and the places of caches."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import platformdirs
import pytest

from tests.running import ROOT
from vidsr.files import cache_folder, make_cache_folder, publish, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="files have no modes here")


def test_a_whole_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / ("あ" * 85)  # 255 bytes: as long as a name can be
    path.write_bytes(b"old, and longer than the new")
    write_whole(path, b"a", bytearray(b"b"), memoryview(b"c"))
    assert path.read_bytes() == b"abc" and list(tmp_path.iterdir()) == [path]


@posix
@pytest.mark.parametrize(("mode", "umask", "found"), [(0o666, 0o022, 0o644), (0o666, 0o077, 0o600), (0o600, 0, 0o600)])
def test_modes_are_those_of_any_new_file(tmp_path, mode, umask, found):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a", b"a", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == found


def test_what_cannot_be_put_in_place_leaves_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"folder"):
        write_whole(tmp_path / "folder", b"a")
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "nowhere" / "a", b"a")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@posix
def test_a_disk_that_fills_up_leaves_the_old_file_alone(tmp_path):
    import resource

    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write_whole(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_publish_is_all_or_nothing(tmp_path):
    (tmp_path / "a.part").write_text("new")
    (tmp_path / "a").write_text("old")
    publish(tmp_path / "a.part", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "new" and not (tmp_path / "a.part").exists()


def test_a_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDSR_CACHE", str(tmp_path))
    assert cache_folder("engines") == tmp_path / "engines"
    monkeypatch.setenv("VIDSR_CACHE", "~/there")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("engines") == tmp_path / "there" / "engines"


@pytest.mark.parametrize("value", [None, ""])
def test_a_cache_is_where_the_system_keeps_caches(monkeypatch, value):
    monkeypatch.delenv("VIDSR_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("VIDSR_CACHE", value)
    assert cache_folder("engines") == platformdirs.user_cache_path("vidsr", appauthor=False) / "engines"


def test_nobodys_home_is_not_made(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDSR_CACHE", "~nobody-of-that-name/cache")
    with pytest.raises(OSError, match="no home folder"):
        make_cache_folder(cache_folder("engines"))
    assert not list(tmp_path.iterdir())


@posix
def test_a_cache_is_for_its_user_alone(tmp_path):
    for _ in range(2):
        make_cache_folder(tmp_path / "deep" / "engines")
    assert stat.S_IMODE((tmp_path / "deep" / "engines").stat().st_mode) == 0o700


def test_bare_machines_can_import_it():
    code = "import sys, vidsr.files; print(*{'torch', 'av', 'platformdirs'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "\n"
