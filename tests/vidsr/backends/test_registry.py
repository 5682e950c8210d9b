"""What a newcomer adds: a backend is a module and a line, and nothing else knows of it."""

import ast
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.media import write_episode
from tests.running import ROOT, upscaled
from tests.vidsr.backends.test_backends import spec_for
from vidsr import backends
from vidsr.backends import backend_kind, choose_backend, fallbacks, open_backend
from vidsr.choose.options import Options
from vidsr.choose.prepare import prepare
from vidsr.choose.size import choose_scale
from vidsr.errors import BackendError, UsageError
from vidsr.report import Report


def test_a_backend_is_a_module_and_a_line(tmp_path, monkeypatch):
    write_episode(tmp_path / "a.mkv", frames=12)
    with pytest.raises(UsageError, match="'cubic'"):
        choose_scale(Options(backend="cubic"))
    monkeypatch.setitem(backends.BACKENDS, "cubic", "tests.vidsr.backends.cubic")  # the line
    report = Report()
    info = upscaled(tmp_path / "a.mkv", tmp_path / "b.mkv", report, backend="cubic")  # the whole run, and its proof
    assert (info.video.width, info.video.height) == (128, 96)
    job = prepare(tmp_path / "a.mkv", Options(backend="cubic", output=tmp_path / "c.mkv"), Report())
    assert (job.backend.name, job.backend.model, job.backend.scale, job.batch_size) == ("cubic", "", 4, 3)
    assert choose_backend() != "cubic" and fallbacks("cubic") == ()


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    (tmp_path / "needy_backend.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(backends.BACKENDS, "needy", "needy_backend")
    cure = "needy: a_package_that_nobody_has is not installed: pip install a_package_that_nobody_has"
    assert backends.available_backends()["needy"] == cure
    with pytest.raises(BackendError, match=f"^{cure}$"):
        choose_backend("needy")
    assert choose_backend() != "needy" and "needy" not in fallbacks("tensorrt")


def test_compile_is_refused_by_nobody_and_said_where_it_is_in_vain():
    said = []
    spec = replace(spec_for("nearest"), compiled=True)
    open_backend(spec, said.append).close()
    assert said == ["--compile is for PyTorch's kernels: it changes nothing with --backend nearest"]
    assert {name for name in backends.BACKENDS if backend_kind(name).compiles} == {"cuda", "xpu", "mps", "cpu"}


@pytest.mark.parametrize("name", backends.BACKENDS)
def test_each_describes_itself(name):
    kind = backend_kind(name)
    assert kind.name == name and kind.device in ("cpu", "gpu") and kind.batch_size >= 1
    assert not kind.measured_by or backend_kind(kind.measured_by).device == kind.device
    assert kind.chosen_unasked <= kind.needs_model


def test_names_need_no_pytorch():
    """Nor does a run without a model."""
    code = (
        "import sys; from vidsr import backends\n"
        "from vidsr.backends import backend_kind, choose_backend\n"
        "assert list(backends.BACKENDS) and choose_backend('nearest') == 'nearest'\n"
        "assert backend_kind('nearest').device == 'cpu'\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", ["choose", "run", "reuse", "proof", "mux", "source", "models"])
def test_nobody_else_names_a_backend(package):
    """They ask for what they need to know of it. "cuda" is also FFmpeg's word, in source/ and for --hwaccel."""
    names = {"tensorrt", "vulkan", "nearest"} | (set() if package in ("source", "models") else {"cuda", "cpu"})
    names -= {"nearest"} if package == "models" else set()  # an interpolation
    for path in sorted((ROOT / "vidsr" / package).rglob("*.py")):
        constants = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        found = {(node.lineno, node.value) for node in constants if node.value in names}
        if package == "choose":  # which of both a kind's `device` is, and a choice of --hwaccel
            found = {(line, value) for line, value in found if value != "cpu" and path.name != "options.py"}
        assert not found, path
