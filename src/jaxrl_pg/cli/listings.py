"""Commands that list what there is: `agents` and `envs`."""

from __future__ import annotations

import dataclasses
import re
import textwrap

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.cli import arguments, reading

__all__ = ["AgentsFlags", "EnvsFlags", "run_agents", "run_envs"]

_WIDTH = 80
_WORK = re.compile(r" \([^()]*\d{4}[^()]*\)")  # the paper, by its year


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentsFlags:
    """List the agents that `train` takes: name, kinds of actions, what each is."""


def run_agents(args: list[str]) -> int:
    """List the agents."""
    arguments.read("jaxrl-pg agents", args, [AgentsFlags])
    rows = [("agent", "actions", "what it is")]
    for name in AGENT_NAMES:
        module = f"jaxrl_pg.agents.{name}"
        first = " ".join(reading.docstring(module).split("\n\n")[0].split())
        kinds = reading.argument(module, "AGENT", "actions", "both")
        rows.append((name, kinds, _WORK.sub("", first).removesuffix(".")))
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:2]]
    for name, kinds, what in rows:
        beginning = f"{name:<{widths[0]}}  {kinds:<{widths[1]}}  "
        indent = " " * len(beginning)
        print(textwrap.fill(beginning + what, _WIDTH, subsequent_indent=indent))
    print(
        "\nDiscrete actions are chosen from a finite set, Box actions are real numbers.\n"
        "`jaxrl-pg train AGENT --help` lists an agent's options."
    )
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvsFlags:
    """List the environments that --env takes, one a line, below a header for each suite."""


def run_envs(args: list[str]) -> int:
    """List the environments."""
    arguments.read("jaxrl-pg envs", args, [EnvsFlags])
    from jaxrl_pg import envs

    print(*envs.listing(), sep="\n")
    return 0
