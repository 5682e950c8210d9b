"""Which package may import which: the floors of the house, read from the imports themselves. See ARCHITECTURE.md."""

import ast
from pathlib import Path

import pytest

from tests.running import ROOT
from vidsr.encode.codecs import CODECS

GROUND = {"errors", "report", "files", "machine", "frames", "container", "timeline", "aac"}  # import each other at most
# Room: what else of vidsr it may import. A name with a dot is one file of another room.
ROOMS = {
    "color": set(),
    "filters": set(),
    "source": set(),
    "encode": set(),
    "mux": set(),
    "models": set(),
    "backends": {"color", "models"},
    "reuse": {"backends.base"},
    "pictures": set(),
    "proof": {"source", "pictures"},
    "run": {"filters", "pictures", "source", "encode", "mux", "models", "backends", "reuse", "proof"},
    "choose": {"pictures", "source", "encode", "mux", "models", "backends", "reuse", "run"},
    "api": {"filters", "pictures", "source", "encode", "mux", "models", "backends", "proof", "run", "choose"},
    "upscaler": {"source", "backends", "run", "choose"},
    "cli": {"api"},
}
TORCH = {"color", "models", "backends"}
ONE_FILE = {
    "tensorrt": "compiler.py", "tensorrt_rtx": "compiler.py", "torch_tensorrt": "compiler.py", "spandrel": "other.py",
    "ncnn": "worker.py", "openvino": "openvino.py",
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module name that `path` imports, also inside functions, and by importlib.import_module("...")."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found |= {str(name.value) for name in node.args if isinstance(name, ast.Constant)}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(path: Path) -> str:
    """The room in vidsr/ that `path` lies in, or is."""
    return path.relative_to(ROOT / "vidsr").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_room_imports_what_lies_below_it(path):
    own = room(path)
    if own in ("__init__", "__main__"):
        return
    inside = [name.split(".")[1:] for name in imports(path) if name.startswith("vidsr.")]
    used = {parts[0] for parts in inside if ".".join(parts[:2]) not in ROOMS.get(own, set())}
    used &= {room(path) for path in modules("vidsr")}
    assert used - {own} <= (GROUND | ROOMS[own] if own in ROOMS else GROUND)


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_heavy_or_may_be_missing_has_its_place(path):
    tops = {name.split(".")[0] for name in imports(path)}
    assert not tops & {"train", "engines", "benchmarks", "tests"}, "the product imports no workshop"
    assert room(path) in TORCH or "torch" not in tops
    assert all(ONE_FILE.get(top, path.name) == path.name for top in tops)


@pytest.mark.parametrize("name", ["train", "engines", "benchmarks"])
def test_workshops_do_not_import_each_other(name):
    others = {"train", "engines", "benchmarks"} - {name}
    for path in modules(name):
        assert not {imported.split(".")[0] for imported in imports(path)} & others, path


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_codecs_are_named_where_they_live(path):
    names = {*CODECS, *(codec.encoder for codec in CODECS.values())}
    constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    assert room(path) == "encode" or not names & {str(value) for value in constants}
    assert room(path) == "encode" or "nvenc" not in path.read_text()
