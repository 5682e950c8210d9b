"""Everything vidsr raises on purpose.

    VidsrError                     exit code 1
    ├── UsageError                 exit code 2: the command line asks for what cannot be done
    ├── SourceError                the input cannot be read, or holds no picture
    ├── OutputError                the result cannot be written there, or cannot hold what the source has
    │   └── EncoderStalled         the encoder stands still, which is a fault of its own
    ├── ModelError                 weights that cannot be loaded
    ├── BackendError               a backend cannot run on this machine
    ├── ResumeError                unfinished work on disk belongs to other settings or another source
    ├── VerifyError                the finished result does not prove to be the source's picture and streams
    └── Cancelled                  the caller wanted a run to end; what is finished is kept

A message is one line that names the file and says what to do. `assert` is for our own invariants only.
"""

from __future__ import annotations

import re
from unicodedata import category


class VidsrError(Exception):
    """Base of all errors a user can meet; ``str(error)`` is one line, fit to print."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(VidsrError):
    exit_code = 2


class SourceError(VidsrError):
    pass


class OutputError(VidsrError):
    pass


class EncoderStalled(OutputError):
    pass


class ModelError(VidsrError):
    pass


class BackendError(VidsrError):
    pass


class ResumeError(VidsrError):
    pass


class VerifyError(VidsrError):
    pass


class Cancelled(VidsrError):
    pass


def one_line(text: str) -> str:
    """`text` as it prints in one line in any terminal: file names may hold line ends, control characters and bytes that
    are no text at all, which become escapes."""
    escaped = ("Cc", "Cs", "Zl", "Zp")  # controls, bytes that are no text, and what ends lines and paragraphs
    return "".join(c.encode("unicode_escape").decode() if category(c) in escaped else c for c in text)


def first_line(error: object) -> str:
    """What an exception or a message of others says, in one line."""
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()  # some write to terminals in colour
    return text.splitlines()[0].strip().rstrip(".") if text else type(error).__name__
