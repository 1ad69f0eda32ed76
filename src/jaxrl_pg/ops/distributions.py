"""The distributions of policies, each as a record of pure functions.

A policy network returns a distribution's parameters, and a `Distribution` says what they mean:

    family = distributions.family(discrete=True)
    noise = family.noise(key, (num_steps, num_envs), num_actions)  # once, for a whole rollout
    action = family.sample(logits, noise[t])
    log_prob = family.log_prob(logits, action)

Randomness comes in as *noise*, drawn beforehand and for a whole rollout in one call; sampling
is then a deterministic function of parameters and noise. (All large draws in this library are
flat and reshaped: JAX's counters compile in half the time for one axis.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "CATEGORICAL",
    "DIAGONAL_NORMAL",
    "ClippedNormal",
    "Distribution",
    "Normal",
    "clipped_normal_sample",
    "correlated",
    "family",
    "tanh_log_volume",
    "tanh_normal_sample",
]

_LOG_2 = math.log(2.0)
_LOG_2PI = math.log(2.0 * math.pi)


class Distribution(NamedTuple):
    """A family of distributions; `params` is what the policy network returns.

    Attributes:
        noise: `(key, batch_shape, num_actions) -> noise`, for `sample`.
        sample: `(params, noise) -> action`.
        mode: `(params) -> action`, the most probable one.
        log_prob: `(params, action) -> [...]` in nats, the logarithm of a probability or a density.
        entropy: `(params) -> [...]` in nats.
        kl: `(params_p, params_q) -> [...]`, `KL(p || q) = E_p[log p - log q]` in nats.
    """

    noise: Callable[[jax.Array, tuple[int, ...], int], jax.Array]
    sample: Callable[[Any, jax.Array], jax.Array]
    mode: Callable[[Any], jax.Array]
    log_prob: Callable[[Any, jax.Array], jax.Array]
    entropy: Callable[[Any], jax.Array]
    kl: Callable[[Any, Any], jax.Array]


class Normal(NamedTuple):
    """Parameters of a normal with independent coordinates: `mean`, `log_std`, both `[..., A]`."""

    mean: jax.Array
    log_std: jax.Array


class ClippedNormal(NamedTuple):
    """A deterministic action and the noise it is tried with: `clip(mean + std z, -1, 1)`.

    Attributes:
        mean: `[..., A]` the action, within [-1, 1].
        std: `[]` standard deviation of the noise on each coordinate.
    """

    mean: jax.Array
    std: jax.Array | float


def family(discrete: bool) -> Distribution:
    """Return the distribution of policies over finite action sets, or over real vectors."""
    return CATEGORICAL if discrete else DIAGONAL_NORMAL


def _uniform(key: jax.Array, batch_shape: tuple[int, ...], _: int) -> jax.Array:
    return jax.random.uniform(key, (math.prod(batch_shape),)).reshape(batch_shape)


def _categorical_sample(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    # Inverse of the cumulative distribution: the number of partial sums that the uniform, scaled
    # to the last of them, has reached. An action of no probability repeats the sum before it, so
    # it is never the answer, not even as the last one and for the largest uniform.
    peak = jnp.max(logits, axis=-1, keepdims=True)
    sums = jnp.cumsum(jnp.exp(logits - peak), axis=-1)
    reached = uniform[..., None] * sums[..., -1:] >= sums[..., :-1]
    return jnp.sum(reached, axis=-1, dtype=jnp.int32)


def _categorical_log_prob(logits: jax.Array, action: jax.Array) -> jax.Array:
    # A masked sum rather than an indexed read: it has a dense gradient, which is much cheaper
    # than the scatter that an indexed read turns into.
    taken = jax.nn.one_hot(action, logits.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(taken, jax.nn.log_softmax(logits), 0.0), axis=-1)


def _categorical_entropy(logits: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits)
    probs = jnp.exp(log_probs)
    return -jnp.sum(probs * jnp.where(probs > 0, log_probs, 0.0), axis=-1)  # 0 log 0 = 0


def _categorical_kl(logits_p: jax.Array, logits_q: jax.Array) -> jax.Array:
    log_p, log_q = jax.nn.log_softmax(logits_p), jax.nn.log_softmax(logits_q)
    probs = jnp.exp(log_p)
    possible = probs > 0  # the other actions add 0 log (0 / q) = 0, for q = 0 too
    log_ratio = jnp.where(possible, log_p, 0.0) - jnp.where(possible, log_q, 0.0)
    return jnp.sum(probs * log_ratio, axis=-1)


CATEGORICAL: Distribution = Distribution(
    noise=_uniform,
    sample=_categorical_sample,
    mode=lambda logits: jnp.argmax(logits, axis=-1).astype(jnp.int32),
    log_prob=_categorical_log_prob,
    entropy=_categorical_entropy,
    kl=_categorical_kl,
)
"""Over a finite action set; `params` are logits `[..., A]`, actions int32 `[...]`.

A logit of -1e9 or of -inf masks an action: it has probability 0 and is never sampled, and adds
nothing to entropies and divergences. `kl` is infinite where q has probability 0 and p has not.
"""


def _standard_normal(key: jax.Array, batch_shape: tuple[int, ...], num_actions: int) -> jax.Array:
    shape = (*batch_shape, num_actions)
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def _normal_log_prob(params: Normal, action: jax.Array) -> jax.Array:
    z = (action - params.mean) * jnp.exp(-params.log_std)
    return -jnp.sum(0.5 * z * z + params.log_std + 0.5 * _LOG_2PI, axis=-1)


def _normal_kl(p: Normal, q: Normal) -> jax.Array:
    scaled = jnp.square((p.mean - q.mean) * jnp.exp(-q.log_std))
    ratio = jnp.exp(2.0 * (p.log_std - q.log_std))
    return jnp.sum(q.log_std - p.log_std + 0.5 * (ratio + scaled - 1.0), axis=-1)


DIAGONAL_NORMAL: Distribution = Distribution(
    noise=_standard_normal,
    sample=lambda params, noise: params.mean + jnp.exp(params.log_std) * noise,
    mode=lambda params: params.mean,
    log_prob=_normal_log_prob,
    entropy=lambda params: jnp.sum(params.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1),
    kl=_normal_kl,
)
"""Over real vectors; `params` is a `Normal`, actions `[..., A]`."""


def tanh_normal_sample(params: Normal, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw `a = tanh(u)`, `u = mean + std * noise`, and return it with its log-density.

        log pi(a) = sum_i log N(u_i) - log(1 - tanh(u_i)^2)

    Given the noise, both are differentiable in the parameters: this is the reparameterised draw
    of soft actor-critic. Noise of 0 gives `tanh(mean)`, the usual action of an evaluation. Source:
    Haarnoja et al. 2018 (arXiv 1801.01290), equation 21.

    Args:
        params: of the normal of u, `[..., A]`.
        noise: `[..., A]`, standard normal.

    Returns:
        The action `[..., A]` in [-1, 1] and `log pi` `[...]` in nats.
    """
    u = params.mean + jnp.exp(params.log_std) * noise
    normal = -0.5 * noise * noise - params.log_std - 0.5 * _LOG_2PI
    return jnp.tanh(u), jnp.sum(normal, axis=-1) - tanh_log_volume(u)


def clipped_normal_sample(params: ClippedNormal, noise: jax.Array) -> jax.Array:
    """Return `a = clip(mean + std * noise, -1, 1)`, the exploration of a deterministic policy.

    Where noise would pass a bound the action is the bound itself, so the bounds have probabilities
    above 0 and there is no density. Source: Fujimoto et al. 2018 (arXiv 1802.09477), algorithm 1,
    for actions that are from -1 to 1.

    Args:
        params: the actions without noise, `[..., A]`, and its standard deviation.
        noise: `[..., A]`, standard normal.

    Returns:
        `[..., A]` in [-1, 1].
    """
    return jnp.clip(params.mean + params.std * noise, -1.0, 1.0)


def tanh_log_volume(u: jax.Array) -> jax.Array:
    """Return the log-determinant of tanh's Jacobian at u: `sum_i log(1 - tanh(u_i)^2)`.

        log(1 - tanh(u)^2) = 2 (log 2 - |u| - log(1 + exp(-2 |u|)))

    The right side is exact where the left one rounds `1 - tanh(u)^2` to 0; nothing is clipped. The
    log-density of u less this is that of tanh(u), and its mean is what tanh adds to an entropy.

    Args:
        u: `[..., A]`.

    Returns:
        `[...]`, never positive.
    """
    size = jnp.abs(u)
    return jnp.sum(2.0 * (_LOG_2 - size - jax.nn.softplus(-2.0 * size)), axis=-1)


def correlated(noise: jax.Array, correlation: jax.Array | float) -> jax.Array:
    """Correlate standard normal noise in time, for exploration that persists.

        z_t = c z_{t-1} + sqrt(1 - c^2) e_t,    z_0 = e_0

    This is the stationary first-order autoregressive process, an Ornstein-Uhlenbeck process seen
    at equal intervals: every z is standard normal, and z of `k` steps apart have correlation
    `c^k`. c = 0 is independent noise and c = 1 the first draw for ever.

    Args:
        noise: e, `[T, ...]`, independent and standard normal.
        correlation: c, from 0 to 1.

    Returns:
        z, `[T, ...]`.
    """
    correlation = jnp.asarray(correlation)
    fresh = jnp.sqrt(1.0 - correlation**2)

    def step(last: jax.Array, draw: jax.Array) -> tuple[jax.Array, jax.Array]:
        z = correlation * last + fresh * draw
        return z, z

    return jnp.concatenate([noise[:1], jax.lax.scan(step, noise[0], noise[1:])[1]])
