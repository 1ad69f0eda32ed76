"""Distributions over actions as arrays: logarithms, entropy, divergences.

All functions reduce over the last axis and keep the axes before it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_pg.theory.arguments import log_rows, rows
from jaxrl_pg.theory.checks import checked

__all__ = [
    "entropy",
    "kl",
    "kl_divergence",
    "log_of",
    "log_of_taken",
    "mean_over",
    "times",
    "total_variation",
]

_NEAR = 0.03  # below it, KL is summed as a series
_SERIES = (1 / 5760, 1 / 840, 1 / 144, 1 / 30, 1 / 8, 1 / 3, 1 / 2)  # (k - 1) / k!, k = 8 to 2


@checked()
def log_of(probability: jax.Array) -> jax.Array:
    """Return the elementwise logarithm of probabilities, -inf for 0, with finite derivatives."""
    possible = probability > 0
    return jnp.where(possible, jnp.log(jnp.where(possible, probability, 1.0)), -jnp.inf)


@checked(policy=rows("...A"))
def log_of_taken(policy: jax.Array) -> jax.Array:
    """Return `log pi(a|s)` of the actions that are taken and 0 for the others."""
    taken = policy > 0.0
    return jnp.where(taken, jnp.log(jnp.where(taken, policy, 1.0)), 0.0)


@checked(policy=rows("...A"))
def entropy(policy: jax.Array) -> jax.Array:
    """Return `H = -sum_a pi(a) log pi(a)` in nats, `[...]` from `[..., A]`."""
    return -jnp.sum(policy * log_of_taken(policy), axis=-1)


@checked(p=rows("...A"), q=rows("...A"))
def total_variation(p: jax.Array, q: jax.Array) -> jax.Array:
    """Return `TV(p, q) = 1/2 sum_a |p - q|`, `[...]` from `[..., A]`."""
    return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


@checked(log_p=log_rows("...A"), log_q=log_rows("...A"))
def kl_divergence(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """Return `KL(p || q) = sum_a p log(p / q)` of log-probabilities, `[...]` from `[..., A]`.

    In nats; infinite where q = 0 < p, while an action with p = q = 0 adds nothing. Summed as
    `p log(p/q) - p + q`, of which no term is negative; where p is near q by its series in
    `x = log(p/q)`,

        q (x^2/2 + x^3/3 + x^4/8 + ...),

    so that a KL of 1e-14 has correct digits.
    """
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    possible = jnp.isfinite(log_p) & jnp.isfinite(log_q)
    x = jnp.where(possible, log_p, 0.0) - jnp.where(possible, log_q, 0.0)
    far = jnp.where(possible, p * x - p + q, jnp.where(p > 0, jnp.inf, q))
    small = jnp.where(jnp.abs(x) < _NEAR, x, 0.0)
    near = q * small**2 * jnp.polyval(jnp.asarray(_SERIES, x.dtype), small)
    return jnp.sum(jnp.where(possible & (jnp.abs(x) < _NEAR), near, far), axis=-1)


@checked(p=rows("...A"), q=rows("...A"))
def kl(p: jax.Array, q: jax.Array) -> jax.Array:
    """Return `kl_divergence` of probabilities `[..., A]`."""
    return kl_divergence(log_of(p), log_of(q))


def mean_over(weight: jax.Array, x: jax.Array) -> jax.Array:
    """Return `sum_s d(s) x(s)`, `[]` from `[S]`: what has no weight does not count, infinite or
    not.

    The derivatives are finite where the counted x are.
    """
    counted = weight != 0
    return jnp.sum(weight * jnp.where(counted, x, 0.0))


def times(factor: jax.Array, x: jax.Array) -> jax.Array:
    """Return `factor * x`, and 0 where the factor is 0 and x infinite."""
    return factor * jnp.where(factor == 0, 0.0, x)
