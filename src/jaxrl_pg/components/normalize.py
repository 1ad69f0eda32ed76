"""Running normalisation of observations and rewards; its statistics belong to the learner."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxrl_pg.envs import observations
from jaxrl_pg.ops import returns, running_stats
from jaxrl_pg.ops.running_stats import RunningStats
from jaxrl_pg.types import ACTION_MASK, EnvSpec, Obs, Transition

__all__ = ["Normalizer", "init", "observe", "update"]


class Normalizer(NamedTuple):
    """What is normalised, and by which statistics.

    Attributes:
        obs: running statistics of observations, or of each array of structured ones but the mask;
            `()` where they stay as they are.
        reward: running statistics of discounted returns, `()` where rewards stay as they are.
    """

    obs: Any
    reward: Any


def init(spec: EnvSpec, obs: bool, reward: bool) -> Normalizer:
    """Return statistics of nothing yet, for what is to be normalised."""
    stats: Any = {
        name: running_stats.init(shape)
        for name, shape in observations.shapes(spec.obs_shape).items()
        if name != ACTION_MASK
    }
    return Normalizer(stats.get("", stats) if obs else (), running_stats.init(()) if reward else ())


def observe(normalizer: Normalizer, obs: Obs) -> Obs:
    """Return observations `[..., *obs_shape]` as the networks see them."""
    if isinstance(normalizer.obs, dict):
        seen = {name: running_stats.normalize(x, obs[name]) for name, x in normalizer.obs.items()}
        return {**obs, **seen}
    if isinstance(normalizer.obs, RunningStats):
        return running_stats.normalize(normalizer.obs, obs)
    return obs


def update(
    normalizer: Normalizer, steps: Transition, discounted: jax.Array, gamma: jax.Array | float
) -> tuple[Normalizer, jax.Array, jax.Array]:
    """Take in a rollout, of all devices.

    Rewards are divided by the standard deviation of the discounted return collected so far in
    each episode, this rollout's included (as Gymnasium's NormalizeReward does), and stay as they
    are while all such returns are alike.

    Args:
        normalizer: before the rollout.
        steps: the rollout.
        discounted: `[B]` discounted return of the episodes in progress at its start.
        gamma: discount.

    Returns:
        The normaliser after, `discounted` at the rollout's end, and rewards `[T, B]`.
    """
    obs_stats, reward_stats, reward = normalizer.obs, normalizer.reward, steps.reward
    if isinstance(obs_stats, dict):
        obs_stats = {
            name: running_stats.merge(x, running_stats.moments(steps.obs[name], 2))
            for name, x in obs_stats.items()
        }
    elif isinstance(obs_stats, RunningStats):
        obs_stats = running_stats.merge(obs_stats, running_stats.moments(steps.obs, 2))
    if isinstance(reward_stats, RunningStats):
        done = steps.terminated | steps.truncated
        collected, discounted = returns.discounted_returns(reward, done, discounted, gamma)
        reward_stats = running_stats.merge(reward_stats, running_stats.moments(collected, 2))
        reward = reward / running_stats.spread(reward_stats)
    return Normalizer(obs_stats, reward_stats), discounted, reward
