"""Finite Markov decision processes and policies on them.

A policy is an array `[S, A]` whose rows are distributions. Everything is a pytree of arrays, made
for `jax.vmap` over MDPs, policies and discounts.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.checks import checked

__all__ = ["MDP", "check", "greedy_policy", "induced", "make", "uniform_policy"]


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

    It has the precision that is switched on when it is made, float32 or float64.

    Raises:
        ValueError: for shapes that do not fit, rows that are no distributions, rewards that are
            not finite, or a gamma outside [0, 1).
    """
    mdp = MDP(*(jnp.asarray(x, float) for x in (transition, reward, start, gamma)))
    check(mdp)
    return mdp


@checked()
def check(mdp: MDP) -> None:
    """Raise for arrays that are no MDP; of traced arrays only the shapes are looked at.

    Raises:
        ValueError: see `make`.
    """


@checked()
def uniform_policy(mdp: MDP) -> jax.Array:
    """Return the policy `[S, A]` of equal probabilities."""
    return jnp.full_like(mdp.reward, 1.0 / mdp.reward.shape[1])


@checked()
def greedy_policy(q: jax.Array) -> jax.Array:
    """Return the deterministic policy `[S, A]` that takes the first best action of `q [S, A]`."""
    return jax.nn.one_hot(jnp.argmax(q, axis=1), q.shape[1], dtype=q.dtype)


@checked()
def induced(mdp: MDP, policy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the Markov chain of an MDP under a policy.

    Returns:
        `P_pi(s'|s) = sum_a pi(a|s) P(s'|s,a)` `[S, S]` and `r_pi(s)` `[S]`.
    """
    transition = jnp.sum(policy[:, :, None] * mdp.transition, axis=1)
    return transition, jnp.sum(policy * mdp.reward, axis=1)
