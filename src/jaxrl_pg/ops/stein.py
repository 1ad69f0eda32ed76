"""Stein variational gradient descent: particles that are moved towards a density, on arrays.

The density is known up to a constant, by its score, the gradient of its logarithm. Of all ways to
move particles in the unit ball of a kernel's function space, the direction here lowers their KL
divergence from the density the fastest. Soft Q-learning trains a sampler by it, whose target is
`exp(Q / alpha)`.

Source: Liu and Wang 2016 (arXiv 1608.04471), and for the sampler Wang and Liu 2016 (arXiv
1611.01722) and Haarnoja et al. 2017 (arXiv 1702.08165), equation 13.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

__all__ = ["bandwidth", "direction"]

_LEAST = 1e-6  # of a bandwidth, where all particles are at one place


def direction(x: jax.Array, score: jax.Array) -> jax.Array:
    """Return the direction in which each particle is to move.

        phi(x_i) = mean_j [k(x_j, x_i) score_j + grad_{x_j} k(x_j, x_i)],
        k(x, y) = exp(-|x - y|^2 / h)

    The first term pulls particles to where the density is high, and the second pushes them apart.
    One particle follows its own score, up the density.

    Args:
        x: `[..., K, D]` particles; each set of K is moved by itself.
        score: `[..., K, D]` gradient of the logarithm of the density at each.

    Returns:
        `[..., K, D]`, without a gradient.

    Raises:
        AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([x, score])
    difference = x[..., :, None, :] - x[..., None, :, :]  # x_i - x_j
    squared = jnp.sum(difference**2, axis=-1)
    h = bandwidth(squared)[..., None, None]
    kernel = jnp.exp(-squared / h)
    pull = jnp.einsum("...ij,...jd->...id", kernel, score)
    push = jnp.sum(2.0 / h[..., None] * kernel[..., None] * difference, axis=-2)
    return jax.lax.stop_gradient((pull + push) / x.shape[-2])


def bandwidth(squared: jax.Array) -> jax.Array:
    """Return Liu and Wang's bandwidth, `median / log(K + 1)` of squared distances `[..., K, K]`.

    With it the kernel's sum over the other particles is about 1. The median is over all pairs, each
    particle's with itself among them.
    """
    num = squared.shape[-1]
    median = jnp.median(squared.reshape(*squared.shape[:-2], num * num), axis=-1)
    return jnp.maximum(median / jnp.log(num + 1.0), _LEAST)
