"""The registry of agents: the type of a config finds the agent it belongs to."""

from __future__ import annotations

from typing import Any

from jaxrl_pg.agents import (
    actor_critic,
    analytical,
    analytical_replay,
    multi_agent,
    natural_gradient,
    ppo,
    reinforce,
    reps,
    sac,
    soft_q_learning,
)
from jaxrl_pg.types import Agent

__all__ = ["AGENTS", "find"]

_ALL = (
    *(ppo.AGENT, actor_critic.AGENT, reinforce.AGENT, natural_gradient.AGENT),
    *(sac.AGENT, soft_q_learning.AGENT, analytical.AGENT),
    *(analytical_replay.AGENT, reps.AGENT, multi_agent.AGENT),
)
AGENTS: dict[str, Agent] = {agent.name: agent for agent in _ALL}


def find(config: Any) -> Agent:
    """The agent whose config this is.

    Raises:
        ValueError: if it is the config of no agent.
    """
    for agent in AGENTS.values():
        if type(config) is agent.Config:
            return agent
    known = ", ".join(f"jaxrl_pg.{name}.Config" for name in AGENTS)
    raise ValueError(f"no agent has a config of type {type(config).__name__}: give one of {known}")
