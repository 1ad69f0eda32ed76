"""The command line: arguments in, calls of the Python API, exit codes out."""

from jaxrl_pg.cli.commands import main

__all__ = ["main"]
