"""The distributions of policies, each as a record of pure functions.

Randomness comes in as *noise*, drawn beforehand and for a whole rollout in one call; sampling
is then a deterministic function of parameters and noise. (All large draws in this library are
flat and reshaped: JAX's counters compile in half the time for one axis.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["CATEGORICAL", "DIAGONAL_NORMAL", "Distribution", "Normal", "family"]

_LOG_2PI = 1.8378770664093453


class Distribution(NamedTuple):
    """A family of distributions; `params` is what the policy network returns.

    Attributes:
        noise: `(key, batch_shape, num_actions) -> noise`, for `sample`.
        sample: `(params, noise) -> action`.
        mode: `(params) -> action`, the most probable one.
        log_prob: `(params, action) -> [...]` in nats.
        entropy: `(params) -> [...]` in nats.
        kl: `(params_p, params_q) -> [...]`, `KL(p || q)` in nats.
    """

    noise: Callable[..., jax.Array]
    sample: Callable[..., jax.Array]
    mode: Callable[..., jax.Array]
    log_prob: Callable[..., jax.Array]
    entropy: Callable[..., jax.Array]
    kl: Callable[..., jax.Array]


class Normal(NamedTuple):
    """Parameters of a normal with independent coordinates: `mean`, `log_std`, both `[..., A]`."""

    mean: jax.Array
    log_std: jax.Array


def _uniform(key: jax.Array, batch_shape: tuple[int, ...], num_actions: int) -> jax.Array:
    del num_actions
    return jax.random.uniform(key, (math.prod(batch_shape),)).reshape(batch_shape)


def _categorical_sample(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    # Inverse of the cumulative distribution: the number of partial sums that the uniform, scaled
    # to the last of them, has reached. An action of no probability repeats the sum before it, so
    # it is never the answer, not even as the last one and for the largest uniform.
    peak = jnp.max(logits, axis=-1, keepdims=True)
    sums = jnp.cumsum(jnp.exp(logits - peak), axis=-1)
    reached = uniform[..., None] * sums[..., -1:] >= sums[..., :-1]
    return jnp.sum(reached, axis=-1, dtype=jnp.int32)


def _categorical_mode(logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def _categorical_log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    # A masked sum rather than an indexed read: it has a dense gradient, which is much cheaper
    # than the scatter that an indexed read turns into.
    taken = jax.nn.one_hot(action, logits.shape[-1], dtype=logits.dtype)
    return jnp.sum(jax.nn.log_softmax(logits) * taken, axis=-1)


def _categorical_entropy(logits: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)


def _categorical_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    log_p, log_q = jax.nn.log_softmax(logits_p), jax.nn.log_softmax(logits_q)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _standard_normal(key: jax.Array, batch_shape: tuple[int, ...], num_actions: int) -> jax.Array:
    shape = (*batch_shape, num_actions)
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def _normal_sample(params: Normal, noise: jax.Array) -> jax.Array:
    return params.mean + jnp.exp(params.log_std) * noise


def _normal_mode(params: Normal) -> jax.Array:
    return params.mean


def _normal_log_prob(params: Normal, action: jax.Array) -> jax.Array:
    z = (action - params.mean) * jnp.exp(-params.log_std)
    return -jnp.sum(0.5 * z * z + params.log_std + 0.5 * _LOG_2PI, axis=-1)


def _normal_entropy(params: Normal) -> jax.Array:
    return jnp.sum(params.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1)


def _normal_kl(p: Normal, q: Normal) -> jax.Array:
    scaled = jnp.square((p.mean - q.mean) * jnp.exp(-q.log_std))
    ratio = jnp.exp(2.0 * (p.log_std - q.log_std))
    return jnp.sum(q.log_std - p.log_std + 0.5 * (ratio + scaled - 1.0), axis=-1)


CATEGORICAL: Distribution = Distribution(
    _uniform,
    _categorical_sample,
    _categorical_mode,
    _categorical_log_prob,
    _categorical_entropy,
    _categorical_kl,
)
"""Over a finite action set; `params` are logits `[..., A]`, actions int32 `[...]`."""

DIAGONAL_NORMAL: Distribution = Distribution(
    _standard_normal,
    _normal_sample,
    _normal_mode,
    _normal_log_prob,
    _normal_entropy,
    _normal_kl,
)
"""Over real vectors; `params` is a `Normal`, actions `[..., A]`."""


def family(discrete: bool) -> Distribution:
    """The distribution of policies over finite action sets, or over real vectors."""
    return CATEGORICAL if discrete else DIAGONAL_NORMAL
