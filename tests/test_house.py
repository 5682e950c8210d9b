"""Who may import whom. The design's directions, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GROUND = {
    "errors", "frames", "report", "media", "ebml", "colorspec", "batch", "prefetch", "checkpoint", "models", "color",
    "hardware", "files", "engine_file", "stillness", "rectangles", "statedict", "stall", "containers",
}  # fmt: skip
STAGES = {"probe", "segments", "decode", "upscale", "reuse", "encode", "stitch", "verify", "stills"}
# A stage's own parts, and the proof, which reads both files as probe and decode do.
ALLOWED = {
    "stitch": {"matroska", "restore"},
    "upscale": {"backends.base"},
    "reuse": {"backends.base"},
    "stills": {"backends.base"},
    "verify": {"probe", "decode", "compare"},
    "compare": {"decode"},
    "restore": {"matroska"},
}
ONE_FILE = {
    "tensorrt": "compiler.py", "tensorrt_rtx": "compiler.py", "torch_tensorrt": "compiler.py", "spandrel": "other.py",
}  # fmt: skip
TORCH = ("models", "backends", "color.py", "checkpoint.py", "statedict.py")


def imports(path: Path) -> set[str]:
    """Every module name that `path` imports, also inside functions, and by importlib.import_module("...")."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found |= {str(name.value) for name in node.args if isinstance(name, ast.Constant)}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_product_imports_no_workshop(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"train", "engines", "benchmarks", "tests"}


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_stays_where_tensors_are(path):
    allowed = path.relative_to(ROOT / "vidsr").parts[0] in TORCH
    assert allowed or not {name.split(".")[0] for name in imports(path)} & {"torch", "safetensors.torch"}


@pytest.mark.parametrize("path", modules("vidsr"), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_fails_to_import_has_one_place(path):
    assert all(ONE_FILE.get(name.split(".")[0], path.name) == path.name for name in imports(path))


@pytest.mark.parametrize("stage", sorted(STAGES | {"compare", "restore", "matroska"}))
def test_no_stage_imports_another(stage):
    own = {name.removeprefix("vidsr.") for name in imports(ROOT / "vidsr" / f"{stage}.py") if name.startswith("vidsr.")}
    known = {p.stem for p in (ROOT / "vidsr").glob("*.py")} | {"backends.base"}
    used = {name for name in own if name in known}
    assert used <= GROUND | ALLOWED.get(stage, set())


@pytest.mark.parametrize("name", ["train", "engines", "benchmarks"])
def test_workshops_do_not_import_each_other(name):
    others = {"train", "engines", "benchmarks"} - {name}
    for path in modules(name):
        assert not {imported.split(".")[0] for imported in imports(path)} & others, path


def test_choices_are_made_above_the_pipeline():
    users = {path.name: imports(path) for path in modules("vidsr")}
    assert {name for name, found in users.items() if "vidsr.choice" in found} <= {"jobs.py", "cli.py", "console.py"}
    assert {name for name, found in users.items() if "vidsr.speed" in found} <= {"choice.py"}


def test_only_cli_and_jobs_stand_above_the_pipeline():
    above = {"cli.py", "jobs.py", "choice.py", "speed.py", "live.py", "console.py", "__main__.py"}
    users = {path.name for path in modules("vidsr") if "vidsr.pipeline" in imports(path)}
    assert users <= above
