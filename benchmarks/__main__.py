"""python -m benchmarks …: what vidsr measures of itself. Results go to benchmarks/results/ with device and versions."""

from __future__ import annotations

import click

from benchmarks.stages import stages
from benchmarks.structure import structure


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure vidsr on this machine."""


main.add_command(stages)
main.add_command(structure)

if __name__ == "__main__":
    main()
