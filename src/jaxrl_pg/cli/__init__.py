"""The command line: arguments in, calls of the Python API, exit codes out.

Nothing but `main` is defined here and nothing is imported, so that a command answers to Ctrl-C from
its first instruction on.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run one command and return its exit code; see `jaxrl_pg.cli.commands.main`.

    Without `argv` the process is a command: it takes `sys.argv`, and Ctrl-C and SIGTERM end the
    process from here on.
    """
    from jaxrl_pg.cli import start_up

    if argv is None:
        start_up.end_on_signals()
    from jaxrl_pg.cli import commands, exits

    code = commands.main(argv)
    if argv is None and code == exits.SYSTEM:
        exits.end_now(code)
    return code
