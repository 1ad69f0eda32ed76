"""The agents of this package by name, and those that others define.

Importing this imports none of them: each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.config import BaseConfig, agent_of, defined_configs, nearest
from jaxrl_pg.lazy import submodule
from jaxrl_pg.types import Agent

__all__ = ["AGENTS", "by_name", "config_class", "known_agents", "names_of"]


class _Agents(Mapping[str, Agent[Any, Any]]):
    """This package's agents; all fifteen take a tenth of a run's start, and a run needs one."""

    def __getitem__(self, name: str) -> Agent[Any, Any]:
        if name not in AGENT_NAMES:
            raise KeyError(name)
        agent: Agent[Any, Any] = import_module(f"jaxrl_pg.agents.{name}").AGENT
        return agent

    def __iter__(self) -> Iterator[str]:
        return iter(AGENT_NAMES)

    def __len__(self) -> int:
        return len(AGENT_NAMES)

    def __contains__(self, name: object) -> bool:
        return name in AGENT_NAMES


AGENTS = _Agents()


def by_name(name: str) -> Agent[Any, Any]:
    """Return an agent of this package, or one that has been defined elsewhere.

    Raises:
        ValueError: for an unknown name; the nearest is named.
    """
    if name in AGENTS:
        return AGENTS[name]
    others = _defined()
    if name not in others:
        raise ValueError(f"agent={name!r}: {nearest(name, known_agents())}")
    return others[name]


def known_agents() -> list[str]:
    """Return the names of this package's agents, and of those that have been defined elsewhere."""
    return list(dict.fromkeys([*AGENTS, *_defined()]))


def _defined() -> dict[str, Agent[Any, Any]]:
    agents = [cls.agent for cls in defined_configs().values() if cls.agent is not None]
    return {agent.name: agent for agent in agents}


def names_of(config: BaseConfig) -> dict[str, str]:
    """Return what a run's folder keeps to find a config's class again.

    The agent's name; and where the class is not one of this package's, `config_class` as well.
    """
    agent, cls = agent_of(config), type(config)
    if agent.name in AGENTS and AGENTS[agent.name].Config is cls:
        return {"agent": agent.name}
    return {"agent": agent.name, "config_class": f"{cls.__module__}:{cls.__qualname__}"}


def config_class(name: str) -> type[BaseConfig]:
    """Return a config class by its agent's name, or by its own as `module:Class`.

    A class from elsewhere is looked for among those that the program has defined by itself:
    no name makes this import code.

    Raises:
        ValueError: for an unknown agent, or a class that the program has not defined.
    """
    if ":" not in name:
        return by_name(name).Config
    if name not in defined_configs():
        raise ValueError(
            f"config class {name!r} is not defined in this program: import its module first"
        )
    return defined_configs()[name]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
