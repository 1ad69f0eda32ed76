"""Exploration over a finite action set: epsilon-greedy policies, and random actions that persist.

An agent that takes random actions one by one does not get far: in MountainCar no one of 4,000
episodes of 200 uniform actions reaches the goal. Where a random action is repeated for a random
number of steps (Dabney et al. 2020, arXiv 2006.01782) one in 50 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks
from jaxrl_pg.config import BaseConfig, Fraction, Range
from jaxrl_pg.ops import distributions, exploration
from jaxrl_pg.types import Obs

__all__ = ["EpsilonFields", "Held", "environment", "epsilon", "greedy_value", "persist", "policy"]


# Beside a config and not below BaseConfig: an inherited default would hide another parent's.
@dataclass(frozen=True, kw_only=True)
class EpsilonFields:
    """Fields of agents that take a uniformly random action once in a while, else the best one."""

    epsilon_start: Annotated[float, Fraction] = 1.0
    """share of random actions at first"""
    epsilon_end: Annotated[float, Fraction] = 0.05
    """share of random actions in the end, and of a trained agent that samples"""
    exploration_fraction: Annotated[float, Range(0.0, 1.0, open_low=True)] = 0.5
    """part of the run in which it falls from the first to the second, in a straight line"""


def epsilon(config: EpsilonFields, iteration: jax.Array, num_iterations: int) -> jax.Array:
    """Return the share of random actions in one of a run's iterations."""
    progress = iteration / (config.exploration_fraction * num_iterations)
    return exploration.linear(config.epsilon_start, config.epsilon_end, progress)


def policy(obs: Obs, q: jax.Array, share: jax.Array | float) -> jax.Array:
    """Return logits `[N, A]` of the epsilon-greedy policy with this share of random actions."""
    return exploration.epsilon_greedy(q, networks.legal(obs), share)


def greedy_value(obs: Obs, q: jax.Array) -> jax.Array:
    """Return `max_a Q(s, a)` over the legal actions, `[N]`, from q-values `[N, A]`."""
    return jnp.max(networks.legal_logits(obs, q), axis=-1)


class Held(NamedTuple):
    """A random action that is being repeated.

    Attributes:
        action: `[B]` int32.
        left: `[B]` int32, steps for which it is still to be taken.
    """

    action: jax.Array
    left: jax.Array


def persist(
    obs: Obs,
    logits: jax.Array,
    held: Held,
    draws: tuple[jax.Array, jax.Array, jax.Array],
    share: jax.Array | float,
) -> tuple[jax.Array, Held]:
    """Take the policy's actions, or begin or go on with random ones that are repeated.

    A random action is begun with probability `share` where none is under way, so that of all steps
    more than that share are random. One that has become illegal is given up.

    Args:
        obs: `[B, ...]`.
        logits: `[B, A]` of the policy, over the legal actions.
        held: what is under way.
        draws: `[B]` each, a uniform for whether to begin, one for the action, and how long a
            random action is taken, at least 1.
        share: probability of beginning.

    Returns:
        Actions `[B]`, and what is under way after them.
    """
    whether, which, duration = draws
    begins = (held.left == 0) & (whether < share)
    uniform = networks.legal_logits(obs, jnp.zeros_like(logits))
    random = distributions.CATEGORICAL.sample(uniform, which)
    action = jnp.where(begins, random, held.action)
    left = jnp.where(begins, duration, held.left)
    taken = jax.nn.one_hot(action, logits.shape[-1], dtype=bool)
    goes_on = (left > 0) & jnp.any(taken & (uniform == 0.0), axis=-1)
    chosen = distributions.CATEGORICAL.sample(logits, which)
    left = jnp.where(goes_on, left - 1, 0)
    return jnp.where(goes_on, action, chosen), Held(action, left)


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
