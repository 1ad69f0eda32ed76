"""Relative entropy policy search on a batch of steps.

The best distribution p over states and actions with `KL(p || q) <= epsilon`, q being that of the
steps taken, is `p = w q` with `w = exp(delta / eta) / E_q exp(delta / eta)` and

    delta = r + gamma V(s') - V(s),     (eta, V) = argmin g,
    g(eta, V) = eta epsilon + eta log E_q exp(delta / eta) + (1 - gamma) E_{s0} V(s0).

Source: Peters, Mulling and Altun 2010 ("Relative entropy policy search", AAAI), here discounted.
g is convex in (eta, V).

Two things are as the sum of the whole discounted future demands, and neither needs first states or
discounted samples. First, what flows out of q comes back: `(1 - gamma) E_{s0} V` is
`E_q[V(s) - gamma V(s')] = E_q[r - delta]`. This is an identity where q is the discounted
distribution; where it is another one, it says that p is to balance as q does, so that p = q is
always allowed and `g >= E_q r`. Second, who terminates stays: a state without a future is visited
ever after, with delta = 0. A terminating step has `gamma / (1 - gamma)` of them behind it, which is
`absorbed_mass`, in units of the batch.

Means over a batch that is continued on other devices: give `mean`, which averages over devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from jaxrl_pg.ops import closed_form

__all__ = ["absorbed_mass", "dual", "log_weights", "temperature", "weights_kl"]

Scalar = jax.Array | float
Mean = Callable[[jax.Array], jax.Array]
_SMALLEST_GAP = 1e-6  # of 1 - gamma, so that the mass is finite for every discount


def _same(x: jax.Array) -> jax.Array:
    return x


def absorbed_mass(terminated: jax.Array, gamma: Scalar, mean: Mean = _same) -> jax.Array:
    """`gamma / (1 - gamma) mean(terminated)`: visits of ended episodes for one of the batch, `[]`.

    Args:
        terminated: `[N]` bool.
        gamma: discount.
        mean: of a scalar over devices.
    """
    share = mean(jnp.mean(terminated.astype(jnp.float32)))
    return gamma / jnp.maximum(1.0 - jnp.asarray(gamma), _SMALLEST_GAP) * share


def log_weights(
    delta: jax.Array, eta: Scalar, absorbed: Scalar = 0.0, mean: Mean = _same
) -> jax.Array:
    """`log w = delta / eta - log E_q exp(delta / eta)`, `[N]`.

    Args:
        delta: `[N]`, Bellman errors.
        eta: temperature > 0 `[]`, in units of reward.
        absorbed: `[]`, from `absorbed_mass`. With none, these are `closed_form.log_weights`.
        mean: of a scalar over devices.
    """
    return delta / eta - _log_partition(delta, eta, absorbed, mean)


def weights_kl(
    delta: jax.Array, eta: Scalar, absorbed: Scalar = 0.0, mean: Mean = _same
) -> jax.Array:
    """`KL(p || q) = E_q w log w` of the weights, in nats, `[]`; arguments as in `log_weights`."""
    log_partition = _log_partition(delta, eta, absorbed, mean)
    taken = mean(closed_form.weights_kl(delta / eta - log_partition))
    return (taken + absorbed * closed_form.weights_kl(-log_partition[None])) / (1.0 + absorbed)


def temperature(
    delta: jax.Array, epsilon: Scalar, absorbed: Scalar = 0.0, mean: Mean = _same
) -> jax.Array:
    """The eta `[]` that minimises the dual for this V: there `KL(p || q) = epsilon`.

    The derivative of g in eta is `epsilon - KL(p || q)`, so it is the C that
    `closed_form.constant_for_kl` finds for these weights.

    Args:
        delta: `[N]`.
        epsilon: bound on the KL divergence, in nats.
        absorbed, mean: as in `log_weights`.
    """
    divergence = partial(_divergence, delta, absorbed, mean)
    return closed_form.constant_for_kl(divergence, epsilon, mean(jnp.max(jnp.abs(delta))))


def dual(
    delta: jax.Array,
    reward: jax.Array,
    eta: Scalar,
    epsilon: Scalar,
    absorbed: Scalar = 0.0,
    mean: Mean = _same,
) -> jax.Array:
    """`g = eta epsilon + eta log E_q exp(delta / eta) + E_q[r - delta]`, `[]`.

    Its gradient in V, through delta, is `E_q[(w - 1) grad delta]`.

    Args:
        delta: `[N]`.
        reward: `[N]`.
        eta: `[]` > 0.
        epsilon: bound on the KL divergence, in nats.
        absorbed, mean: as in `log_weights`.
    """
    chex.assert_equal_shape([delta, reward])
    start_value = mean(jnp.mean(reward - delta)) / (1.0 + absorbed)
    return eta * (epsilon + _log_partition(delta, eta, absorbed, mean)) + start_value


def _log_partition(delta: jax.Array, eta: Scalar, absorbed: Scalar, mean: Mean) -> jax.Array:
    """`log E_q exp(delta / eta)`: N rows of 1 / N each, and the absorbed with exp(0)."""
    own = jax.nn.logsumexp(delta / eta) - math.log(delta.shape[0])
    shift = mean(own)
    taken = shift + jnp.log(mean(jnp.exp(own - shift)))
    return jnp.logaddexp(taken, jnp.log(jnp.asarray(absorbed, delta.dtype))) - jnp.log1p(absorbed)


def _divergence(delta: jax.Array, absorbed: Scalar, mean: Mean, eta: jax.Array) -> jax.Array:
    return weights_kl(delta, eta, absorbed, mean)
