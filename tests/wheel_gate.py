"""The wheel, alone in a clean environment and far from the checkout: `vidsr` and the README's example work there,
`train` is not there.

wheel_gate.py CLEAN_PYTHON DEV_PYTHON: CLEAN_PYTHON's environment has the wheel and nothing else; the libraries are lent
to it from DEV_PYTHON's environment by path, behind its own, so that gigabytes are not installed twice.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECK = """
import importlib.util, pathlib, sys
sys.path[:] = [p for p in sys.path if p] + {libraries!r}
import vidsr
from vidsr.models.checkpoint import installed_models, load_generator
from vidsr.cli.commands import main
home = pathlib.Path(vidsr.__file__).resolve()
assert {clean!r} in str(home), f"vidsr comes from {{home}}, not from the wheel"
names = [model.name for model in installed_models()]
assert "fast" in names, f"weights missing from the wheel: {{names}}"
load_generator(installed_models()[0].path)
for name in ("train", "benchmarks", "engines", "tests"):
    assert importlib.util.find_spec(name) is None, f"{{name}} is in the wheel"
try:
    main(["--version"])
except SystemExit as done:
    assert done.code == 0
exec(compile({example!r}, "the example in the README", "exec"))
assert pathlib.Path("episode.2x.mkv").exists()
print("wheel gate: 2 passed,", ", ".join(names))
"""
ROOT = Path(__file__).parent.parent


def main(clean: str, dev: str) -> None:
    listing = "import site, json; print(json.dumps(site.getsitepackages()))"
    libraries = subprocess.run([dev, "-c", listing], capture_output=True, text=True, check=True).stdout
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    code = CHECK.format(libraries=json.loads(libraries), clean=".venv-wheel", example=example)
    with tempfile.TemporaryDirectory() as elsewhere:
        shutil.copy(ROOT / "demo" / "episode.mkv", elsewhere)
        raise SystemExit(subprocess.run([clean, "-I", "-c", code], cwd=elsewhere).returncode)


if __name__ == "__main__":
    main(*map(os.path.abspath, sys.argv[1:3]))
