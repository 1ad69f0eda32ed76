"""The entries of the zoo: read from their files, and found by environment and agent."""

from __future__ import annotations

import difflib
import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxrl_pg.config import BaseConfig

__all__ = ["PREFIX", "Entry", "config", "entries", "find", "find_policy"]

PREFIX = "zoo:"
"""what a policy of the zoo begins with where a folder may stand: `zoo:CartPole-v1/ppo`"""
_FOLDER = Path(__file__).parent
_MOST = 5  # names that a message lists


class Entry(NamedTuple):
    """Settings for one agent on one environment, and what they were measured to reach.

    Attributes:
        agent: name of the agent.
        env: name of the environment, in full.
        total_timesteps: environment steps of the whole run.
        settings: the other fields of the config that are not at their defaults.
        recorded: what was measured. `study` names the experiment and its part, `command` made it;
            `timesteps` is when the last evaluation was; `iqm`, `interval` (95%, absent for one
            seed), `worst` and `best` are of the `seeds`' mean returns in it, in `num_eval_episodes`
            each; `seconds` and `num_runs` are the whole study's, on `device`, with `versions`.
        pretrained: of the policy that comes with the entry, if one does: `settings` and
            `total_timesteps` where they are others than above, `seed`, the `command` that trains
            it, the `versions` it was trained with, and the greedy policy's `return_mean`,
            `return_std` and `return_min` over `num_episodes`.
        path: the file.
    """

    agent: str
    env: str
    total_timesteps: int
    settings: dict[str, Any]
    recorded: dict[str, Any]
    pretrained: dict[str, Any] | None
    path: Path

    @property
    def suite(self) -> str:
        """Name of the environment's suite."""
        return self.path.parent.name

    @property
    def policy(self) -> str:
        """What `jaxrl_pg.load` calls the entry's policy, if it has one."""
        return f"{PREFIX}{self.env}/{self.agent}"

    @property
    def file_name(self) -> str:
        """What files made of the entry's policy are called, without an ending."""
        return re.sub(r"[^\w.-]+", "-", f"{self.env}-{self.agent}")

    @property
    def values(self) -> dict[str, Any]:
        """The config's fields that the entry gives."""
        return {"env": self.env, "total_timesteps": self.total_timesteps, **self.settings}


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return all entries, sorted by suite, environment and agent."""
    return tuple(_read(path) for path in sorted(_FOLDER.glob("*/*.toml")))


def find(env: str, agent: str) -> Entry:
    """Return the entry for an environment and an agent.

    Args:
        env: the environment's name, with its arguments, which make another task of it.
        agent: the agent's name.

    Raises:
        ValueError: if there is none; those that there are for either are named.
    """
    for entry in entries():
        if (entry.env, entry.agent) == (env, agent):
            return entry
    agents = [entry.agent for entry in entries() if entry.env == env]
    envs = [entry.env for entry in entries() if entry.agent == agent]
    hints = [
        "" if agents else _nearest(env, [entry.env for entry in entries()]),
        "" if envs else _nearest(agent, [entry.agent for entry in entries()]),
        f"{env} has {_listed(agents)}; " if agents else "",
        f"{agent} has {_listed(envs)}; " if envs else "",
    ]
    raise ValueError(f"the zoo has no {agent} on {env}: {''.join(hints)}`jaxrl-pg zoo` lists all")


def config(env: str, agent: str, **changes: Any) -> BaseConfig:
    """Return the config of the entry for an environment and an agent.

        jaxrl_pg.run(zoo.config("Pendulum-v1", "sac"))
        zoo.config("CartPole-v1", "ppo", num_envs=128, total_timesteps=1_000_000)

    Args:
        env: the environment's name.
        agent: the agent's name.
        **changes: fields of the config that are to have other values than the entry gives.

    Raises:
        ValueError: if there is no such entry, or a change is not allowed.
    """
    from jaxrl_pg.agents import config_class

    entry = find(env, agent)
    return config_class(agent)(**{**entry.values, **changes})


def find_policy(name: str) -> Entry:
    """Return the entry whose policy a name such as `zoo:CartPole-v1/ppo` asks for.

    Raises:
        ValueError: if there is none; the nearest is named.
    """
    by_name = {entry.policy: entry for entry in entries()}
    trained = [entry.policy for entry in entries() if entry.pretrained is not None]
    if name in trained:
        return by_name[name]
    what = "settings and no policy" if name in by_name else "no policy"
    hint = _nearest(name, trained) or f"give {PREFIX}ENV/AGENT, such as {PREFIX}CartPole-v1/ppo; "
    raise ValueError(f"the zoo has {what} {name!r}: {hint}`jaxrl-pg zoo` marks all with a *")


def _nearest(given: str, known: list[str]) -> str:
    close = [name for name in known if name.partition("?")[0] == given]
    close += difflib.get_close_matches(given, dict.fromkeys(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}? " if close else ""


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"{', '.join(names[:_MOST])}{rest}"


def _read(path: Path) -> Entry:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return Entry(**{"settings": {}, "pretrained": None, **table, "path": path})
