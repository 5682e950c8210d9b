"""The command line: parses and prints."""

from vidsr.cli.commands import main

__all__ = ["main"]
