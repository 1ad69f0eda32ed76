"""Finite Markov decision processes and policies on them.

A policy is an array `[S, A]` whose rows are distributions. Everything is a pytree of arrays, made
for `jax.vmap` over MDPs, policies and discounts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["MDP", "check", "greedy_policy", "induced", "make", "uniform_policy"]

_SUM_TOLERANCE = 1e-5


class MDP(NamedTuple):
    """A finite MDP.

    Attributes:
        transition: `[S, A, S]`, P(s'|s,a).
        reward: `[S, A]`, expected reward of an action.
        start: `[S]`, distribution of the first state (rho).
        gamma: `[]`, discount in [0, 1).

    An episode that ends is one that reaches an absorbing state without reward.
    """

    transition: jax.Array
    reward: jax.Array
    start: jax.Array
    gamma: jax.Array


def make(
    transition: jax.typing.ArrayLike,
    reward: jax.typing.ArrayLike,
    start: jax.typing.ArrayLike,
    gamma: jax.typing.ArrayLike,
) -> MDP:
    """Return a validated MDP from array-likes.

    Args:
        transition: `[S, A, S]`.
        reward: `[S, A]`.
        start: `[S]`.
        gamma: `[]`.

    Raises:
        ValueError: for shapes that do not fit, rows that are no distributions, rewards that are
            not finite, or a gamma outside [0, 1).
    """
    arrays = (jnp.asarray(x, float) for x in (transition, reward, start, gamma))
    mdp = MDP(*arrays)
    check(mdp)
    return mdp


def check(mdp: MDP) -> None:
    """Raise for arrays that are no MDP; traced arrays are not supported.

    Raises:
        ValueError: see `make`.
    """
    shape = mdp.transition.shape
    if len(shape) != 3 or shape[0] != shape[2] or 0 in shape:
        raise ValueError(f"transition has shape {shape}: give [S, A, S]")
    for name, array, expected in (
        ("reward", mdp.reward, shape[:2]),
        ("start", mdp.start, shape[:1]),
        ("gamma", mdp.gamma, ()),
    ):
        if array.shape != expected:
            raise ValueError(
                f"{name} has shape {array.shape}: give {expected}, as transition is {shape}"
            )
    if not bool(jnp.all(jnp.isfinite(mdp.reward))):
        raise ValueError("reward has entries that are not finite: give finite rewards")
    if not 0.0 <= float(mdp.gamma) < 1.0:
        raise ValueError(f"gamma is {float(mdp.gamma)}: give a number in [0, 1)")
    _check_rows("start", mdp.start[None])
    _check_rows("transition", mdp.transition.reshape(-1, shape[2]))


def uniform_policy(mdp: MDP) -> jax.Array:
    """Return the policy `[S, A]` of equal probabilities."""
    return jnp.full_like(mdp.reward, 1.0 / mdp.reward.shape[1])


def greedy_policy(q: jax.Array) -> jax.Array:
    """Return the deterministic policy `[S, A]` that takes the first best action of `q [S, A]`."""
    return jax.nn.one_hot(jnp.argmax(q, axis=1), q.shape[1], dtype=q.dtype)


def induced(mdp: MDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the Markov chain of an MDP under a policy.

    Returns:
        `P_pi(s'|s) = sum_a pi(a|s) P(s'|s,a)` `[S, S]` and `r_pi(s)` `[S]`.
    """
    transition = jnp.sum(policy[:, :, None] * mdp.transition, axis=1)
    return transition, jnp.sum(policy * mdp.reward, axis=1)


def _check_rows(name: str, rows: jax.Array) -> None:
    """Raise for rows that are no distributions."""
    sums = jnp.sum(rows, axis=1)
    worst = jnp.argmax(jnp.abs(sums - 1.0))
    if not bool(jnp.all(rows >= 0)) or not bool(abs(sums[worst] - 1.0) < _SUM_TOLERANCE):
        raise ValueError(
            f"{name} is no distribution: smallest entry {float(jnp.min(rows)):g}, "
            f"row {int(worst)} sums to {float(sums[worst]):g}; give rows that are at least 0 and "
            "sum to 1"
        )
