"""What vidsr changes in the process that it runs in: nothing, but in its own command."""

import subprocess
import sys

import pytest

WATCHED = """
import ctypes, sys, torch

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]

libc = ctypes.CDLL(None)
if not hasattr(libc, "mallinfo2"):
    sys.exit(77)
libc.mallinfo2.restype, libc.malloc.restype = Info, ctypes.c_void_p

def gives_back():
    before = libc.mallinfo2().hblks
    assert libc.malloc(ctypes.c_size_t(64 << 20))
    return libc.mallinfo2().hblks > before  # in pages of its own, which go back to the system

assert gives_back()
"""
OPEN = """
from tests.vidsr.backends.test_backends import compact, picture, spec_for
from vidsr.backends.cpu import TorchBackend
import vidsr.cli.commands
TorchBackend(compact(), spec_for())(picture(spec_for().source_format))
"""
COMMAND = """
from click.testing import CliRunner
from vidsr.cli.commands import main
assert CliRunner().invoke(main, ["models"]).exit_code == 0
"""


@pytest.mark.parametrize(("work", "expected"), [(OPEN, True), (COMMAND, False)], ids=["backend", "command"])
def test_only_the_command_changes_how_memory_is_kept(work, expected):
    code = f"{WATCHED}{work}sys.exit(0 if gives_back() == {expected} else 1)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this C library does not tell")
    assert done.returncode == 0, done.stderr
