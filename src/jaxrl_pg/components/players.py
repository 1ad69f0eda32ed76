"""Several players in one environment: a policy network each, and a critic of joint actions."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks, normalize
from jaxrl_pg.components.critics import Critics
from jaxrl_pg.ops import distributions, joint_actions

__all__ = ["Players"]


class Players(NamedTuple):
    """An environment and the networks of its players; an `on_policy.Model` of joint actions.

    Attributes:
        env: the environment.
        family: the distribution of joint actions.
        player: one player's network, with as many actions as the one who has most.
        critic: V in front, then q-values of every joint action, up to a shift in each state.
        factors: actions of each player.
        views: how much each sees, as in the config.
    """

    env: envs.Env
    family: distributions.Distribution
    player: networks.Policy
    critic: Critics
    factors: tuple[int, ...]
    views: tuple[int, ...]

    def policy(self, learner: Any, obs: jax.Array) -> jax.Array:
        """Return the joint policy's logits at raw observations `[N, ...]`."""
        obs = normalize.observe(learner.normalizer, obs)
        log_policies = self.log_policies(learner.params.policies, obs)
        return joint_actions.joint_log_policy(log_policies, self.factors)

    def value(self, learner: Any, obs: jax.Array) -> jax.Array:
        """Return the critic's values `[N]` of raw observations `[N, ...]`."""
        obs = normalize.observe(learner.normalizer, obs)
        return self.critic.apply(learner.params.critic, obs)[0][:, 0]

    def log_policies(self, policies: Any, obs: jax.Array) -> jax.Array:
        """Return every player's log-policy, `[I, N, K]`."""
        if self.views:
            logits = jax.vmap(self.player.apply)(policies, self.seen(obs))
        else:
            logits = jax.vmap(lambda params: self.player.apply(params, obs))(policies)
        return joint_actions.only_own(logits, jnp.array(self.factors))

    def seen(self, obs: jax.Array) -> jax.Array:
        """Return each player's view `[I, N, W]` of observations `[N, D]`, with zeros at the end."""
        widest, ends = max(self.views), list(itertools.accumulate(self.views))
        parts = [obs[:, end - num : end] for end, num in zip(ends, self.views, strict=True)]
        return jnp.stack([jnp.pad(x, ((0, 0), (0, widest - x.shape[1]))) for x in parts])
