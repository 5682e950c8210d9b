"""The wheel, alone in a clean environment and far from the checkout: `vidsr` works there, `train` is not there.

wheel_gate.py CLEAN_PYTHON DEV_PYTHON: CLEAN_PYTHON's environment has the wheel and nothing else; the libraries are lent
to it from DEV_PYTHON's environment by path, behind its own, so that gigabytes are not installed twice.
"""

import subprocess
import sys
import tempfile

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
print("wheel gate: 1 passed,", ", ".join(names))
"""


def main(clean: str, dev: str) -> None:
    listing = "import site, json; print(json.dumps(site.getsitepackages()))"
    libraries = subprocess.run([dev, "-c", listing], capture_output=True, text=True, check=True).stdout
    code = CHECK.format(libraries=__import__("json").loads(libraries), clean=".venv-wheel")
    with tempfile.TemporaryDirectory() as elsewhere:
        raise SystemExit(subprocess.run([clean, "-I", "-c", code], cwd=elsewhere).returncode)


if __name__ == "__main__":
    main(*(__import__("os").path.abspath(path) for path in sys.argv[1:3]))
