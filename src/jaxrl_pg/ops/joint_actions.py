"""Joint actions of several players, each of whom has a policy of its own.

    pi(a|s) = prod_i pi_i(a_i|s),    A_i(s, a_i) = E_{a_-i ~ pi_-i} A(s, a)

A joint action is one number: the players' own actions as digits, the first player's the most
significant, in the mixed radix of `factors`, the numbers of actions that the players have. With
`factors = (2, 3)`, the first player's action 1 and the second one's action 2 are the joint action
`1 * 3 + 2 = 5`:

    joint_actions.digits(jnp.array(5), (2, 3))  # [1, 2]
    joint_actions.index(jnp.array([1, 2]), (2, 3))  # 5

Policies are stacked, `[I, N, K]` for I players and K the largest number of actions that one has; a
player with fewer has the rest at `NEVER` (`only_own`).
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

__all__ = ["NEVER", "RARE", "digits", "index", "joint_log_policy", "marginals", "only_own"]

NEVER = -1e6  # logarithm of no probability; finite, so that 0 times it is 0
RARE = 0.5 * NEVER  # a log-probability below it is of an action that the player does not have


def digits(action: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """Return each player's own action `[..., I]`, of joint ones `[...]` int32."""
    weights = [math.prod(factors[i + 1 :]) for i in range(len(factors))]
    each = [action // w % k for w, k in zip(weights, factors, strict=True)]
    return jnp.stack(each, axis=-1)


def index(own: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """Return the joint action `[...]` of the players' own `[..., I]`: the inverse of `digits`."""
    action = jnp.zeros(own.shape[:-1], own.dtype)
    for i, num in enumerate(factors):
        action = action * num + own[..., i]
    return action


def only_own(logits: jax.Array, num_own: jax.Array) -> jax.Array:
    """Return log-policies over the actions that each player has.

    Args:
        logits: `[..., N, K]`, of one player or of a stack of them.
        num_own: `[...]` int32, how many actions a player has.

    Returns:
        `[..., N, K]`, normalised, and about `NEVER` from action `num_own` on.
    """
    action = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jax.nn.log_softmax(jnp.where(action < num_own[..., None, None], logits, NEVER))


def joint_log_policy(log_policies: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """Return the joint log-policy, `log pi(a|s) = sum_i log pi_i(a_i|s)`.

    Args:
        log_policies: `[I, N, K]`.
        factors: how many actions each player has.

    Returns:
        `[N, prod(factors)]`.

    Raises:
        AssertionError: if the shape does not fit the factors.
    """
    chex.assert_shape(log_policies, (len(factors), None, max(factors)))
    joint = jnp.zeros((log_policies.shape[1], 1), log_policies.dtype)
    for log_policy, num in zip(log_policies, factors, strict=True):
        joint = (joint[:, :, None] + log_policy[:, None, :num]).reshape(joint.shape[0], -1)
    return joint


def marginals(values: jax.Array, log_policies: jax.Array, factors: tuple[int, ...]) -> jax.Array:
    """Return `A_i(s, a_i)`, the mean value of a player's action while the others follow theirs.

    Of advantages of joint actions, these are the advantages of the player's own ones, with which
    it would update its policy if it were alone and the others a part of the environment.

    Args:
        values: `[N, prod(factors)]`, of joint actions: advantages or q-values.
        log_policies: `[I, N, K]`; a player's own has no part in its own marginal.
        factors: how many actions each player has.

    Returns:
        `[I, N, K]`, 0 where a player has no such action.

    Raises:
        AssertionError: if the shapes do not fit the factors.
    """
    chex.assert_shape(values, (log_policies.shape[1], math.prod(factors)))
    widest = max(factors)
    each = [_marginal(values, log_policies, factors, i) for i in range(len(factors))]
    return jnp.stack([jnp.pad(x, ((0, 0), (0, widest - x.shape[1]))) for x in each])


def _marginal(
    values: jax.Array, log_policies: jax.Array, factors: tuple[int, ...], player: int
) -> jax.Array:
    """Return one player's, `[N, K_i]`: the last digits are averaged out first, then the first."""
    num_rows, policies = values.shape[0], jnp.exp(log_policies)
    for other in reversed(range(player + 1, len(factors))):
        values = values.reshape(num_rows, -1, factors[other])
        values = jnp.sum(values * policies[other][:, None, : factors[other]], axis=2)
    for other in range(player):
        values = values.reshape(num_rows, factors[other], -1)
        values = jnp.sum(values * policies[other][:, : factors[other], None], axis=1)
    return values.reshape(num_rows, factors[player])
