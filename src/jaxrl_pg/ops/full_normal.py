"""Normals with a full covariance, by their Cholesky factors.

    u = mean + L z,    L = diag(exp(log_scale)) (I + N)

with z standard normal and N strictly lower triangular; the covariance is `L L^T`. A row of N is in
units of its own scale, so that no direction is stiff when the scales are small. Everything is
written out over the few coordinates of an action (forward substitution), since triangular solvers
of a linear algebra library cost far more for many small matrices, and cannot be batched safely on
every CPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxrl_pg.ops.distributions import DIAGONAL_NORMAL, Distribution

__all__ = ["FULL_NORMAL", "FullNormal", "covariance", "factor", "make", "num_below", "solve"]

_LOG_2PI = math.log(2.0 * math.pi)


class FullNormal(NamedTuple):
    """Parameters of a normal: the mean, and its factor in two parts.

    Attributes:
        mean: `[..., A]`.
        log_scale: `[..., A]` logarithm of the factor's diagonal.
        below: `[..., A, A]` N, strictly lower triangular.
    """

    mean: jax.Array
    log_scale: jax.Array
    below: jax.Array


def num_below(size: int) -> int:
    """Return how many numbers stand below the diagonal of a `[size, size]` matrix."""
    return size * (size - 1) // 2


def make(mean: jax.Array, log_scale: jax.Array, entries: jax.Array) -> FullNormal:
    """Make a normal of plain vectors, as a network gives them.

    Entries of 0 make it `distributions.DIAGONAL_NORMAL` with `log_std = log_scale`.

    Args:
        mean: `[..., A]`.
        log_scale: `[..., A]`.
        entries: `[..., A (A - 1) / 2]` of N, row by row: N21, N31, N32, N41, ...

    Raises:
        AssertionError: if the shapes do not fit together.
    """
    size = mean.shape[-1]
    chex.assert_equal_shape([mean, log_scale])
    chex.assert_axis_dimension(entries, -1, num_below(size))
    zeros = jnp.zeros_like(mean)
    rows = [
        jnp.concatenate([entries[..., num_below(i) : num_below(i + 1)], zeros[..., i:]], axis=-1)
        for i in range(size)
    ]
    return FullNormal(mean, log_scale, jnp.stack(rows, axis=-2))


def factor(params: FullNormal) -> jax.Array:
    """Return L `[..., A, A]`, lower triangular with a positive diagonal."""
    unit = jnp.broadcast_to(jnp.eye(params.mean.shape[-1]), params.below.shape)
    return jnp.exp(params.log_scale)[..., None] * (unit + params.below)


def covariance(params: FullNormal) -> jax.Array:
    """Return the covariance `L L^T`, `[..., A, A]`."""
    lower = factor(params)
    return jnp.sum(lower[..., :, None, :] * lower[..., None, :, :], axis=-1)


def solve(params: FullNormal, x: jax.Array) -> jax.Array:
    """Return `L^-1 x` by forward substitution.

        z_i = x_i / exp(log_scale_i) - sum_{j<i} N_ij z_j

    Args:
        params: `[..., A]` and `[..., A, A]`, which broadcast against x.
        x: `[..., A, M]`, M right-hand sides.

    Returns:
        z, `[..., A, M]`.
    """
    scaled = x * jnp.exp(-params.log_scale)[..., None]
    rows: list[jax.Array] = []
    for i in range(x.shape[-2]):
        row = scaled[..., i, :]
        for j, known in enumerate(rows):
            row = row - params.below[..., i, j, None] * known
        rows.append(row)
    return jnp.stack(rows, axis=-2)


def _sample(params: FullNormal, noise: jax.Array) -> jax.Array:
    mixed = noise + jnp.sum(params.below * noise[..., None, :], axis=-1)
    return params.mean + jnp.exp(params.log_scale) * mixed


def _log_prob(params: FullNormal, action: jax.Array) -> jax.Array:
    z = solve(params, (action - params.mean)[..., None])[..., 0]
    return -jnp.sum(0.5 * z * z + params.log_scale + 0.5 * _LOG_2PI, axis=-1)


def _kl(p: FullNormal, q: FullNormal) -> jax.Array:
    """Return `log|L_q| - log|L_p| + (|L_q^-1 L_p|^2 + |L_q^-1 (mean_p - mean_q)|^2 - A) / 2`."""
    sides = jnp.concatenate([factor(p), (p.mean - q.mean)[..., None]], axis=-1)
    squares = jnp.sum(jnp.square(solve(q, sides)), axis=(-2, -1))
    logs = jnp.sum(q.log_scale - p.log_scale, axis=-1)
    return logs + 0.5 * (squares - p.mean.shape[-1])


FULL_NORMAL: Distribution = Distribution(
    noise=DIAGONAL_NORMAL.noise,
    sample=_sample,
    mode=lambda params: params.mean,
    log_prob=_log_prob,
    entropy=lambda params: jnp.sum(params.log_scale + 0.5 * (_LOG_2PI + 1.0), axis=-1),
    kl=_kl,
)
"""Over real vectors; `params` is a `FullNormal`, actions `[..., A]`."""
