"""Joint actions of several agents, each of whom has a policy of its own.

    pi(a|s) = prod_i pi_i(a_i|s),    A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)

A joint action is one number: the agents' own as digits, the first one's the most significant, in
the mixed radix of `factors`, how many actions each has. Policies are stacked, `[I, N, K]` for I
agents and K the most actions that one has; an agent with fewer has the rest at `NEVER`
(`only_own`).
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

__all__ = ["NEVER", "RARE", "digits", "index", "joint_log_policy", "marginals", "only_own"]

NEVER = -1e6  # logarithm of no probability; finite, so that 0 times it is 0
RARE = 0.5 * NEVER  # an action below it is none of an agent's


def digits(action: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """Each agent's own action `[..., I]` of joint ones `[...]` int32."""
    weights = [math.prod(factors[i + 1 :]) for i in range(len(factors))]
    each = [action // w % k for w, k in zip(weights, factors, strict=True)]
    return jnp.stack(each, axis=-1)


def index(own: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """The joint action `[...]` of the agents' own `[..., I]`: the inverse of `digits`."""
    action = jnp.zeros(own.shape[:-1], own.dtype)
    for i, num in enumerate(factors):
        action = action * num + own[..., i]
    return action


def only_own(logits: jax.Array, num_own: jax.Array) -> jax.Array:
    """Log-policies `[..., N, K]` of logits `[..., N, K]`, `NEVER` from action `num_own` on.

    Args:
        logits: of one agent or of a stack of them.
        num_own: `[...]` int32, how many actions an agent has.
    """
    action = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jax.nn.log_softmax(jnp.where(action < num_own[..., None, None], logits, NEVER))


def joint_log_policy(log_policies: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """`log pi(a|s) = sum_i log pi_i(a_i|s)`, `[N, prod(factors)]`.

    Args:
        log_policies: `[I, N, K]`.
        factors: actions of each agent.
    """
    chex.assert_shape(log_policies, (len(factors), None, max(factors)))
    joint = jnp.zeros((log_policies.shape[1], 1), log_policies.dtype)
    for log_policy, num in zip(log_policies, factors, strict=True):
        joint = (joint[:, :, None] + log_policy[:, None, :num]).reshape(joint.shape[0], -1)
    return joint


def marginals(values: jax.Array, log_policies: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """`A_i(s, a_i)`, what joint actions are worth to each agent while the others act as they do.

    Args:
        values: `[N, prod(factors)]`, of joint actions.
        log_policies: `[I, N, K]`; an agent's own has no part in its own marginal.
        factors: actions of each agent.

    Returns:
        `[I, N, K]`, 0 where an agent has no such action.
    """
    chex.assert_shape(values, (log_policies.shape[1], math.prod(factors)))
    widest = max(factors)
    each = [_marginal(values, log_policies, factors, i) for i in range(len(factors))]
    return jnp.stack([jnp.pad(x, ((0, 0), (0, widest - x.shape[1]))) for x in each])


def _marginal(
    values: jax.Array, log_policies: jax.Array, factors: tuple[int, ...], agent: int
) -> jax.Array:
    """One agent's, `[N, K_i]`: the last digits are averaged out first, then the first ones."""
    num_rows, policies = values.shape[0], jnp.exp(log_policies)
    for other in reversed(range(agent + 1, len(factors))):
        values = values.reshape(num_rows, -1, factors[other])
        values = jnp.sum(values * policies[other][:, None, : factors[other]], axis=2)
    for other in range(agent):
        values = values.reshape(num_rows, factors[other], -1)
        values = jnp.sum(values * policies[other][:, : factors[other], None], axis=1)
    return values.reshape(num_rows, factors[agent])
