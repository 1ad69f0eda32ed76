"""The commands: which there are, where each is, and what happens around every one of them.

A command is a function from the words that follow its name to an exit code. It stands in a module
of this package, which is imported when the command is called, and is one row of `COMMANDS`.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import jaxrl_pg
from jaxrl_pg.cli import arguments, exits, words

__all__ = ["COMMANDS", "Command", "main"]


class Command(NamedTuple):
    """A row of the table of commands.

    Attributes:
        module: of `jaxrl_pg.cli`, which has a function `run_NAME`.
        usage: the arguments that a reader should know at once.
        doc: what the command does, in a few words.
    """

    module: str
    usage: str
    doc: str


COMMANDS = {
    "train": Command("training", "[AGENT] [--env ID]", "train an agent, in a folder of its own"),
    "resume": Command("training", "RUN", "go on with a stopped run, or go further"),
    "evaluate": Command("policies", "RUN", "whole episodes of a trained policy"),
    "watch": Command("watching", "RUN", "see it play: a GIF of its episodes"),
    "export": Command("exporting", "RUN", "a trained policy for other programs"),
    "sweep": Command("studies", "EXPERIMENT", "train every agent of an experiment file"),
    "report": Command("studies", "RUN ...", "figures, tables and a page of sweeps and runs"),
    "agents": Command("listings", "", "list the agents that train takes"),
    "zoo": Command("zoo", "", "list tuned settings and what they reach"),
    "envs": Command("listings", "", "list the names that --env takes"),
    "completion": Command("completion", "SHELL", "print a script that completes words"),
}

_HELP = """\
usage: jaxrl-pg COMMAND ...

Policy-gradient agents in JAX, compiled end to end.

commands:
{commands}

`jaxrl-pg COMMAND --help` (`jaxrl-pg train ppo --help`) lists every option.
-v or --verbose shows where in the program an error arises.
--version says the version.

exit codes: 0 done, 1 diverged, 2 wrong arguments or input, 3 refused by the
system (disk, permission, memory) or another process lost, 70 a mistake in
jaxrl_pg, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM)

  jaxrl-pg train ppo --env CartPole-v1 --num-envs 1024 --total-timesteps 1e6
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    What goes wrong is said in one line on stderr. Only a mistake in this package, or `--verbose`,
    shows a traceback.

    Returns:
        The exit code: 0 done; 1 diverged; 2 wrong arguments or input; 3 refused by the system
        (full disk, permission, out of memory and the like) or another process of the run lost; 70
        a mistake in this package; 130 interrupted. SIGTERM ends the process with 143.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    verbose = bool({"-v", "--verbose"} & set(args))
    _print_everything()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not verbose:  # or it would show the traceback of what an environment on the host raises
        logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)
    try:
        code = _run(args)
        if sys.stdout is not None:  # it is None where the process was started without one
            sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return exits.report(error, verbose)


def _run(args: list[str]) -> int:
    while args and args[0] in ("-v", "--verbose"):
        args = args[1:]
    if args[0:1] == ["help"] and len(args) > 1:  # help train ppo
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        rows = [(f"{name} {command.usage}", command.doc) for name, command in COMMANDS.items()]
        print(_HELP.format(commands="\n".join(f"  {usage:<27}{doc}" for usage, doc in rows)))
        return exits.DONE
    if args[0] == "--version":
        print(f"jaxrl-pg {jaxrl_pg.__version__}")
        return exits.DONE
    if args[0] not in COMMANDS:
        hint = words.did_you_mean(args[0], list(COMMANDS))
        raise ValueError(f"unknown command {args[0]!r}: {hint}give one of: {', '.join(COMMANDS)}")
    module = importlib.import_module(f"jaxrl_pg.cli.{COMMANDS[args[0]].module}")
    try:
        code: int = getattr(module, f"run_{args[0]}")(args[1:])
    except arguments.Help as shown:
        print(shown)
        return exits.DONE
    return code


def _print_everything() -> None:
    """Print with escapes what a terminal's encoding lacks, such as an umlaut in a folder's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
