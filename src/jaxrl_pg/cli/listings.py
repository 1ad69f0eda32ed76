"""Commands that list what there is: `envs`."""

from __future__ import annotations

import dataclasses

from jaxrl_pg.cli import arguments

__all__ = ["EnvsFlags", "run_envs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnvsFlags:
    """List the environments that --env takes, one a line; suites not installed come last."""


def run_envs(args: list[str]) -> int:
    """List the environments."""
    arguments.read("jaxrl-pg envs", args, [EnvsFlags])
    from jaxrl_pg import envs

    print(*envs.listing(), sep="\n")
    return 0
