"""python -m vidsr: the same as the `vidsr` command."""

from vidsr.cli.commands import main

main()
