"""The agents of this package by name, and those that others define."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.config import defined_configs, nearest
from jaxrl_pg.types import Agent

__all__ = ["AGENTS", "by_name"]

AGENTS: dict[str, Agent[Any, Any]] = {
    name: import_module(f"jaxrl_pg.agents.{name}").AGENT for name in AGENT_NAMES
}


def by_name(name: str) -> Agent[Any, Any]:
    """Return an agent of this package, or one that has been defined elsewhere.

    Raises:
        ValueError: for an unknown name; the nearest is named.
    """
    if name in AGENTS:
        return AGENTS[name]
    others = {c.agent.name: c.agent for c in defined_configs().values() if c.agent is not None}
    if name not in others:
        raise ValueError(f"unknown agent {name!r}: {nearest(name, {*AGENTS, *others})}")
    return others[name]
