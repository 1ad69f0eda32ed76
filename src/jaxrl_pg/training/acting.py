"""What a trained policy does, in the environment's own units."""

from __future__ import annotations

from typing import Any

import jax

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.types import Obs

__all__ = ["act"]


def act(
    config: BaseConfig,
    learner: Any,
    obs: Obs,
    key: jax.Array,
    deterministic: bool,
    hidden: Any = None,
) -> tuple[jax.Array, Any]:
    """Return actions and what a core remembers then, for rows `[N, ...]` that networks read.

    Args:
        config: the agent's.
        learner: its learner.
        obs: from `envs.as_rows`.
        key: to sample with; not read where `deterministic`.
        deterministic: take the most probable action.
        hidden: what a core remembers before; None without one.
    """
    agent, env = agent_of(config), envs.of(config)
    if hidden is None:
        raw = agent.act(config, learner, obs, key, deterministic)
    else:
        raw, hidden = agent.memory.act(config, learner, obs, key, deterministic, hidden)
    return envs.to_env_action(env, raw), hidden
