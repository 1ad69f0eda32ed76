"""Running normalisation of observations and rewards; its statistics belong to the learner."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxrl_pg.ops import returns, running_stats
from jaxrl_pg.ops.running_stats import RunningStats
from jaxrl_pg.types import EnvSpec, Transition

__all__ = ["Normalizer", "init", "observe", "update"]


class Normalizer(NamedTuple):
    """What is normalised, and by which statistics.

    Attributes:
        obs: running statistics of observations, `()` where they stay as they are.
        reward: running statistics of discounted returns, `()` where rewards stay as they are.
    """

    obs: Any
    reward: Any


def init(spec: EnvSpec, obs: bool, reward: bool) -> Normalizer:
    """Return statistics of nothing yet, for what is to be normalised."""
    return Normalizer(
        running_stats.init(spec.obs_shape) if obs else (),
        running_stats.init(()) if reward else (),
    )


def observe(normalizer: Normalizer, obs: jax.Array) -> jax.Array:
    """Return observations `[..., *obs_shape]` as the networks see them."""
    if isinstance(normalizer.obs, RunningStats):
        return running_stats.normalize(normalizer.obs, obs)
    return obs


def update(
    normalizer: Normalizer, steps: Transition, discounted: jax.Array, gamma: jax.Array | float
) -> tuple[Normalizer, jax.Array, jax.Array]:
    """Take in a rollout, of all devices.

    Rewards are divided by the standard deviation of the discounted return collected so far in
    each episode, this rollout's included (as Gymnasium's NormalizeReward does).

    Args:
        normalizer: before the rollout.
        steps: the rollout.
        discounted: `[B]` discounted return of the episodes in progress at its start.
        gamma: discount.

    Returns:
        The normaliser after, `discounted` at the rollout's end, and rewards `[T, B]`.
    """
    obs_stats, reward_stats, reward = normalizer.obs, normalizer.reward, steps.reward
    if isinstance(obs_stats, RunningStats):
        obs_stats = running_stats.merge(obs_stats, running_stats.moments(steps.obs, 2))
    if isinstance(reward_stats, RunningStats):
        done = steps.terminated | steps.truncated
        collected, discounted = returns.discounted_returns(reward, done, discounted, gamma)
        reward_stats = running_stats.merge(reward_stats, running_stats.moments(collected, 2))
        reward = reward / running_stats.std(reward_stats)
    return Normalizer(obs_stats, reward_stats), discounted, reward
