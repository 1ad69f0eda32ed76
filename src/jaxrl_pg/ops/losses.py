"""Policy and value losses, and the diagnostics that go with them.

Each takes arrays of any one shape and returns a scalar mean over all of them.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

__all__ = [
    "approx_kl",
    "clip_fraction",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "explained_variance",
    "policy_gradient_loss",
    "surrogate_loss",
    "value_loss",
]


def policy_gradient_loss(log_prob: jax.Array, weight: jax.Array) -> jax.Array:
    """The score function's, to be minimised: `-mean(log pi(a|s) * weight)`.

    Its gradient is minus the policy gradient where the weight estimates a return or an advantage
    (Williams 1992; Sutton et al. 2000), which is held constant.

    Args:
        log_prob: `log pi(a|s)` of the actions taken.
        weight: the same shape.
    """
    chex.assert_equal_shape([log_prob, weight])
    return -jnp.mean(log_prob * jax.lax.stop_gradient(weight))


def surrogate_loss(log_ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Importance-sampled surrogate, to be minimised: `-mean(ratio * A)`.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 6.

    Args:
        log_ratio: `log pi_new(a|s) - log pi_old(a|s)`.
        advantage: the same shape.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    return -jnp.mean(jnp.exp(log_ratio) * advantage)


def clipped_surrogate_loss(
    log_ratio: jax.Array, advantage: jax.Array, clip_eps: jax.Array | float
) -> jax.Array:
    """PPO's objective, to be minimised: `-mean(min(ratio A, clip(ratio, 1-eps, 1+eps) A))`.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.

    Args:
        log_ratio: `log pi_new(a|s) - log pi_old(a|s)`.
        advantage: the same shape.
        clip_eps: half-width of the band around ratio 1.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.mean(jnp.minimum(ratio * advantage, clipped * advantage))


def value_loss(value: jax.Array, target: jax.Array) -> jax.Array:
    """Half the mean squared error of a value estimate: `mean((V - target)^2) / 2`."""
    chex.assert_equal_shape([value, target])
    return 0.5 * jnp.mean(jnp.square(value - target))


def clipped_value_loss(
    value: jax.Array, old_value: jax.Array, target: jax.Array, clip_eps: jax.Array | float
) -> jax.Array:
    """Value loss that stops rewarding moves beyond `clip_eps` from the old estimate.

    `mean(max((V - target)^2, (V_old + clip(V - V_old, -eps, eps) - target)^2)) / 2`, as in the
    authors' code of PPO (OpenAI baselines, `ppo2/model.py`).

    Args:
        value: current estimates.
        old_value: the estimates made when the data were collected.
        target: lambda-returns.
        clip_eps: half-width of the band, in units of value.
    """
    chex.assert_equal_shape([value, old_value, target])
    clipped = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    error = jnp.maximum(jnp.square(value - target), jnp.square(clipped - target))
    return 0.5 * jnp.mean(error)


def approx_kl(log_ratio: jax.Array) -> jax.Array:
    """Estimate of `KL(pi_old || pi_new)` from old-policy samples: `mean(ratio - 1 - log ratio)`.

    Unbiased and never negative. Source: Schulman 2020, "Approximating KL divergence", k3.
    """
    return jnp.mean(jnp.expm1(log_ratio) - log_ratio)


def clip_fraction(log_ratio: jax.Array, clip_eps: jax.Array | float) -> jax.Array:
    """Share of the samples whose ratio lies outside `[1 - eps, 1 + eps]`."""
    return jnp.mean(jnp.abs(jnp.expm1(log_ratio)) > clip_eps)


def explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """`1 - Var(target - V) / Var(target)`: 1 is perfect, 0 no better than a constant.

    A constant target has no variance to explain: 0 is returned.
    """
    total = jnp.var(target)
    varies = (jnp.max(target) > jnp.min(target)) & (total > 0)
    return jnp.where(varies, 1.0 - jnp.var(target - value) / jnp.where(varies, total, 1.0), 0.0)
