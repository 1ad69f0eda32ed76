"""A stochastic policy and its critics, asked together: actions, and what they are worth."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.components import networks
from jaxrl_pg.ops import distributions, soft
from jaxrl_pg.types import Obs

__all__ = ["SoftNetworks"]


class SoftNetworks(NamedTuple):
    """An environment, and the networks of a stochastic policy and its critics.

    Attributes:
        env: the environment.
        policy: from observations to a distribution of actions.
        critics: from observations to q-values of all actions, or of a given one.
        value: from observations to values; None where there is none.
    """

    env: envs.Env
    policy: Any
    critics: Any
    value: Any

    def actions(self, policy: Any, critics: Any, obs: Obs, noise: jax.Array) -> soft.ActionValues:
        """Return all actions of a finite set, or one draw, with the least of their q-values."""
        params = self.policy.apply(policy, obs)
        if isinstance(params, distributions.Normal):
            action, log_prob = distributions.tanh_normal_sample(params, noise)
            q = self.critics.apply(critics, obs, action)
            return soft.ActionValues(jnp.ones_like(q[0]), log_prob[:, None], jnp.min(q, axis=0))
        q = self.critics.apply(critics, obs)
        log_prob = jax.nn.log_softmax(params)
        # Masked for the normaliser of `kl_projection`; expectations do not read it there.
        return soft.ActionValues(
            jnp.exp(log_prob), log_prob, networks.legal_logits(obs, jnp.min(q, axis=0))
        )

    def state_value(self, value: Any, obs: Obs) -> jax.Array:
        """Return the value network's `V(s)` `[N]`."""
        return self.value.apply(value, obs)[0, :, 0]
