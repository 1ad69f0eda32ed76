"""Actions that stand for a policy: all of a finite set, or draws from it, with their q-values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.ops import distributions
from jaxrl_pg.types import Obs

__all__ = ["Model", "Sampled", "for_each_draw"]


class Sampled(NamedTuple):
    """Actions that stand for a policy, and their q-values.

    Attributes:
        dist: parameters of the policy's distributions, `[N, ...]`.
        noise: `[N, K, A]` that the draws were made of, or `()` where they are all of a finite set.
        draws: `[N, K, A]` before tanh, or `()`.
        log_prior: `[N, K]` logarithm of each one's share of the policy.
        q: `[N, K]`, the least of the critics'.
    """

    dist: Any
    noise: Any
    draws: Any
    log_prior: jax.Array
    q: jax.Array


class Model(NamedTuple):
    """An environment, a policy, Q networks, and the distribution of actions before tanh."""

    env: envs.Env
    family: distributions.Distribution
    policy: Any
    critics: Any

    def actions(self, policy: Any, critics: Any, obs: Obs, noise: jax.Array) -> Sampled:
        """Return all actions of a finite set, or draws `[N, K, A]`, with their q-values."""
        dist = self.policy.apply(policy, obs)
        if self.env.spec.discrete:
            q = self.critics.apply(critics, obs)
            return Sampled(dist, (), (), jax.nn.log_softmax(dist), jnp.min(q, axis=0))
        draws = self.family.sample(for_each_draw(dist), noise)
        num, times, size = draws.shape
        actions = jnp.tanh(draws).reshape(num * times, size)
        each = jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), obs)
        q = self.critics.apply(critics, each, actions)
        prior = jnp.full((num, times), -math.log(times))
        return Sampled(dist, noise, draws, prior, jnp.min(q, axis=0).reshape(num, times))

    def log_prob(self, dist: Any, actions: Sampled) -> jax.Array:
        """Return `log pi` `[N, K]` of the actions, of densities before tanh."""
        if self.env.spec.discrete:
            return jax.nn.log_softmax(dist)
        return self.family.log_prob(for_each_draw(dist), actions.draws)


def for_each_draw(dist: Any) -> Any:
    """Return parameters `[N, ...]` as `[N, 1, ...]`."""
    return jax.tree.map(lambda x: x[:, None], dist)
