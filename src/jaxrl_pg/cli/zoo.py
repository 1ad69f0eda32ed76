"""The command that prints the zoo: `zoo`."""

from __future__ import annotations

import dataclasses

from jaxrl_pg.cli import arguments, words

__all__ = ["ZooFlags", "run_zoo"]

_FOOT = """
IQM: interquartile mean of the last greedy evaluation of n seeds.
*: jaxrl_pg.load("zoo:ENV/AGENT") gives a policy that is trained already.
`jaxrl-pg train AGENT --env ENV --tuned` trains with an entry's settings."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooFlags:
    """List the environments and agents for which there are tuned settings, and what they reach.

    Of a single entry, all is printed.
    """

    env: str | None = None
    """only environments whose name holds this"""
    agent: str | None = None
    """only this agent"""


def run_zoo(args: list[str]) -> int:
    """Print the zoo."""
    _, (flags,) = arguments.read("jaxrl-pg zoo", args, [ZooFlags])
    from jaxrl_pg import zoo

    found = [
        entry
        for entry in zoo.entries()
        if (flags.env or "").lower() in entry.env.lower() and flags.agent in (None, entry.agent)
    ]
    if not found:
        given = {"env": flags.env, "agent": flags.agent}
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        raise ValueError(
            f"the zoo has nothing with {asked}: {_nearest(flags)}`jaxrl-pg zoo` lists all"
        )
    print(zoo.table(found))
    if len(found) == 1:
        print(f"\n{found[0].path.read_text(encoding='utf-8').strip()}")
    print(_FOOT)
    return 0


def _nearest(flags: ZooFlags) -> str:
    """Return what may have been meant by whichever name the zoo does not have."""
    from jaxrl_pg import zoo

    agents = sorted({entry.agent for entry in zoo.entries()})
    if flags.agent is not None and flags.agent not in agents:
        return words.did_you_mean(flags.agent, agents)
    return words.did_you_mean(flags.env or "", sorted({entry.env for entry in zoo.entries()}))
