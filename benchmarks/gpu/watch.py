"""A plugin of pytest's that writes down, line by line, what is to run, what has begun and how it ended: so that it is
known of a run that was stopped. The lines are JSON, in the file that the environment variable VIDSR_OUTCOMES names."""

from __future__ import annotations

import json
import os
from typing import Any


def _note(**what: Any) -> None:
    with open(os.environ["VIDSR_OUTCOMES"], "a") as file:
        file.write(json.dumps(what) + "\n")


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _note(unusable=report.nodeid, why=_reason(report))


def pytest_collection_finish(session: Any) -> None:
    _note(planned=[item.nodeid for item in session.items])


def pytest_runtest_logstart(nodeid: str) -> None:
    _note(begun=nodeid)


def pytest_runtest_logreport(report: Any) -> None:
    """A test has three reports, before, of and after it: that of it counts, or the one that went wrong."""
    if report.when == "call" or not report.passed:
        _note(test=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), why=_reason(report))


def _reason(report: Any) -> str | None:
    if report.passed:
        return None
    if isinstance(report.longrepr, tuple):  # skipped: file, line, reason
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = [line.removeprefix("E").strip() for line in str(crash.message if crash else report.longrepr).splitlines() if line.strip()]
    if crash:
        return lines[0] if lines else "no message"
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no message")
