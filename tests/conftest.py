"""Nothing global: fixtures that several modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time: whoever changed nothing breaks nothing. VIDSR_HYPOTHESIS=default looks for new ones.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("VIDSR_HYPOTHESIS", "same"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a GPU are skipped without one, unless VIDSR_REQUIRE_CUDA=1 says that there must be one."""
    if item.get_closest_marker("cuda"):
        from vidsr.backends.gpu import cuda_missing

        if reason := cuda_missing():
            (pytest.fail if os.environ.get("VIDSR_REQUIRE_CUDA") == "1" else pytest.skip)(reason)


@pytest.fixture(autouse=True)
def _no_leftover_terminal(monkeypatch):
    """The same plain output whatever terminal the tests run in."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="session")
def _own_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _no_speeds_of_the_user(monkeypatch, _own_cache):
    """What tests measure is no use to anybody, and what users measured must not decide a test."""
    monkeypatch.setenv("VIDSR_CACHE", str(_own_cache))


@pytest.fixture(scope="module")
def one_thread():
    """For pictures as small as those of tests, waiting for a second thread takes longer than the work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """The folder of real clips, where a checkout has one beside it."""
    folder = Path(os.environ.get("VIDSR_SHARED", Path(__file__).parent.parent.parent / "shared")) / "clips"
    if not folder.is_dir():
        pytest.skip("no folder of real clips beside the checkout")
    return folder
