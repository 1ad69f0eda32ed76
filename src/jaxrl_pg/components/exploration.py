"""Epsilon-greedy exploration: its fields, and what the agents that have them ask for."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks
from jaxrl_pg.config import BaseConfig, Fraction, Range
from jaxrl_pg.ops import exploration
from jaxrl_pg.types import Obs

__all__ = ["EpsilonFields", "environment", "epsilon", "greedy_value", "policy"]


class EpsilonFields(BaseConfig):
    """Fields of agents that take a uniformly random action once in a while, else the best one."""

    epsilon_start: Annotated[float, Fraction] = 1.0
    """share of random actions at first"""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """share of random actions in the end, and of a trained agent that samples"""
    exploration_fraction: Annotated[float, Range(0.0, 1.0, open_low=True)] = 0.5
    """part of the run in which it falls from the first to the second, in a straight line"""


def epsilon(config: EpsilonFields, iteration: jax.Array) -> jax.Array:
    """Return the share of random actions in an iteration."""
    progress = iteration / (config.exploration_fraction * config.num_iterations)
    return exploration.linear(config.epsilon_start, config.epsilon_end, progress)


def policy(obs: Obs, q: jax.Array, share: jax.Array | float) -> jax.Array:
    """Return logits `[N, A]` of the epsilon-greedy policy with this share of random actions."""
    return exploration.epsilon_greedy(q, networks.legal(obs), share)


def greedy_value(obs: Obs, q: jax.Array) -> jax.Array:
    """Return `max_a Q(s, a)` over the legal actions, `[N]`, from q-values `[N, A]`."""
    return jnp.max(networks.legal_logits(obs, q), axis=-1)


def environment(config: BaseConfig) -> envs.Env:
    """Make the environment that a config names.

    Raises:
        ValueError: for real actions.
    """
    env: Any = envs.of(config)
    if not env.spec.discrete:
        raise ValueError(
            f"{config.agent.name} takes the best of a finite action set and {config.env!r} has "
            "none: give an environment with discrete actions, or use sac"
        )
    return env
