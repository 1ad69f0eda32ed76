"""Relative entropy policy search (REPS) on a batch of steps.

The best distribution p over states and actions with `KL(p || q) <= epsilon`, q being that of the
steps taken, is `p = w q` with `w = exp(delta / eta) / E_q exp(delta / eta)` and

    delta = r + gamma V(s') - V(s),     (eta, V) = argmin g,
    g(eta, V) = eta epsilon + eta log E_q exp(delta / eta) + (1 - gamma) E_{s0} V(s0).

An update alternates between the two arguments of g, which is convex in them, and then fits the
policy by weighted maximum likelihood:

    absorbed = reps.absorbed_mass(terminated, gamma)
    eta = reps.temperature(delta, epsilon, absorbed)  # for this V
    loss = reps.dual(delta, reward, eta, epsilon, absorbed)  # its gradient improves V
    weight = jnp.exp(reps.log_weights(delta, eta, absorbed))

Source: Peters, Mulling and Altun 2010 ("Relative entropy policy search", AAAI), here discounted.

Two things are as the sum of the whole discounted future demands, and neither needs first states or
discounted samples. First, what flows out of q comes back: `(1 - gamma) E_{s0} V` is
`E_q[V(s) - gamma V(s')] = E_q[r - delta]`. This is an identity where q is the discounted
distribution; where it is another one, it says that p is to balance as q does, so that p = q is
always allowed and `g >= E_q r`. Second, an episode that terminates stays where it ended: a state
without a future is visited ever after, with delta = 0. A terminating step has `gamma / (1 - gamma)`
such visits behind it, whose sum is `absorbed_mass`, in units of the batch.

Where the batch is split over devices, all means are means over the whole of it
(`collectives.mean`); arrays are a device's own share.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from jaxrl_pg.ops import closed_form, collectives

__all__ = ["absorbed_mass", "dual", "log_weights", "temperature", "weights_kl"]

Scalar = jax.Array | float
_SMALLEST_GAP = 1e-6  # of 1 - gamma, so that the mass is finite for every discount


def absorbed_mass(terminated: jax.Array, gamma: Scalar) -> jax.Array:
    """Return how many visits ended episodes have for each step of the batch.

    It is `gamma / (1 - gamma) mean(terminated)`, and 0 where no episode terminates.

    Args:
        terminated: `[N]` bool.
        gamma: discount, in [0, 1].

    Returns:
        `[]`, not negative.
    """
    share = collectives.mean(jnp.mean(terminated.astype(jnp.float32)))
    return gamma / jnp.maximum(1.0 - jnp.asarray(gamma), _SMALLEST_GAP) * share


def log_weights(delta: jax.Array, eta: Scalar, absorbed: Scalar = 0.0) -> jax.Array:
    """Return `log w = delta / eta - log E_q exp(delta / eta)`.

    A large eta weighs all steps alike, and a small one only the step with the largest delta. With
    `absorbed` 0 these are `closed_form.log_weights`, with the Bellman error as the advantage.

    Args:
        delta: `[N]`, Bellman errors, in units of reward.
        eta: temperature > 0 `[]`, in units of reward.
        absorbed: `[]`, from `absorbed_mass`.

    Returns:
        `[N]`.
    """
    return delta / eta - _log_partition(delta, eta, absorbed)


def weights_kl(delta: jax.Array, eta: Scalar, absorbed: Scalar = 0.0) -> jax.Array:
    """Return `KL(p || q) = E_q w log w` of the weights, in nats, `[]`; it falls in eta.

    Args:
        delta: `[N]`.
        eta: as in `log_weights`.
        absorbed: as in `log_weights`.
    """
    log_partition = _log_partition(delta, eta, absorbed)
    taken = collectives.mean(closed_form.weights_kl(delta / eta - log_partition))
    ended = jnp.where(absorbed > 0, -log_partition, 0.0)
    return (taken + absorbed * closed_form.weights_kl(ended[None])) / (1.0 + absorbed)


def temperature(delta: jax.Array, epsilon: Scalar, absorbed: Scalar = 0.0) -> jax.Array:
    """Return the eta that minimises the dual for this V: there `KL(p || q) = epsilon`.

    The derivative of g in eta is `epsilon - KL(p || q)`, so it is the C that
    `closed_form.constant_for_kl` finds for these weights.

    Args:
        delta: `[N]`.
        epsilon: bound on the KL divergence, in nats.
        absorbed: as in `log_weights`.

    Returns:
        `[]` in units of reward.
    """
    scale = collectives.mean(jnp.max(jnp.abs(delta)))
    return closed_form.constant_for_kl(lambda eta: weights_kl(delta, eta, absorbed), epsilon, scale)


def dual(
    delta: jax.Array, reward: jax.Array, eta: Scalar, epsilon: Scalar, absorbed: Scalar = 0.0
) -> jax.Array:
    """Return `g = eta epsilon + eta log E_q exp(delta / eta) + E_q[r - delta]`.

    Its gradient in V, through delta, is `E_q[(w - 1) grad delta]`, and its derivative in eta is
    `epsilon - KL(p || q)`. Its minimum is `E_p r` of the best p, and it is never below `E_q r`, as
    p = q is allowed. Like any loss it is of the rows at hand: devices average its gradients.

    Args:
        delta: `[N]`.
        reward: `[N]`.
        eta: temperature > 0 `[]`.
        epsilon: bound on the KL divergence, in nats.
        absorbed: as in `log_weights`.

    Returns:
        `[]` in units of reward per step.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([delta, reward])
    start_value = jnp.mean(reward - delta) / (1.0 + absorbed)
    own = jax.nn.logsumexp(delta / eta) - math.log(delta.shape[0])
    return eta * (epsilon + _with_absorbed(own, absorbed)) + start_value


def _log_partition(delta: jax.Array, eta: Scalar, absorbed: Scalar) -> jax.Array:
    """Return `log E_q exp(delta / eta)`: N rows of 1 / N each, and the absorbed with exp(0)."""
    own = jax.nn.logsumexp(delta / eta) - math.log(delta.shape[0])
    shift = collectives.mean(own)
    return _with_absorbed(shift + jnp.log(collectives.mean(jnp.exp(own - shift))), absorbed)


def _with_absorbed(log_partition: jax.Array, absorbed: Scalar) -> jax.Array:
    """Return the logarithm of the partition with the absorbed visits counted."""
    log_absorbed = jnp.log(jnp.asarray(absorbed, log_partition.dtype))
    return jnp.logaddexp(log_partition, log_absorbed) - jnp.log1p(absorbed)
