"""python -m benchmarks …: what vidsr measures of itself. Results go to benchmarks/results/ with device and versions."""

from __future__ import annotations

import importlib
import time
from typing import Any, NoReturn

import click

from vidsr.errors import VidsrError
from vidsr.machine import keep_memory

COMMANDS = {
    "backends": "speed.backends", "fields": "fields", "fps": "speed.fps", "gpu": "gpu.command", "kernels": "speed.kernels", "peers": "peers.command", "quality": "quality.command",
    "reuse": "reuse.command", "stages": "speed.stages", "structure": "structure", "wear": "quality.wear",
}  # fmt: skip


class _Commands(click.Group):
    """Loads a command when it is asked for: a machine that lacks what one needs still runs the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        try:
            return getattr(importlib.import_module(f"benchmarks.{COMMANDS[name]}"), name)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            return _unusable(name, str(error.name))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = time.monotonic()  # before PyTorch is imported, which takes its time from a cold disk
        try:
            return super().invoke(ctx)
        except VidsrError as error:
            click.echo(f"benchmarks: {error}", err=True)
            ctx.exit(error.exit_code)


def _unusable(name: str, missing: str) -> click.Command:
    reason = f"{name} needs {missing}, which is not installed: pip install {missing}"

    def refuse(arguments: tuple[str, ...]) -> NoReturn:
        raise VidsrError(reason)

    everything = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True}
    return click.Command(name, settings, refuse, [everything], help=reason, add_help_option=False)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure vidsr on this machine."""
    keep_memory()


if __name__ == "__main__":
    main()
