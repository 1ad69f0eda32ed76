"""Orthonormal columns without LAPACK.

`jnp.linalg.qr` cannot be used inside a training program that may be vmapped: on CPU its batched
form waits, inside a worker thread, for other workers of the same pool, and two of them at once
on two cores wait for each other for ever (jaxlib 0.10.2).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["orthonormal_columns"]


def orthonormal_columns(a: jax.Array) -> jax.Array:
    """Orthonormalise the columns of each matrix, from left to right (Gram-Schmidt, done twice).

    The result is the Q of a QR decomposition whose R has a positive diagonal, so that Gaussian
    entries give the uniform (Haar) distribution over orthonormal frames (Mezzadri 2007,
    arXiv math-ph/0609050). The second pass restores the orthogonality that rounding took from
    the first (Giraud et al. 2005). Columns of zeros stay zero, so matrices of different shapes
    can be padded into one stack.

    Args:
        a: `[L, n, k]`, `L` matrices with `k <= n` columns.

    Returns:
        `[L, n, k]`.
    """

    def add_column(q: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        j, column = row
        for _ in range(2):
            overlap = jnp.sum(q * column[:, :, None], axis=1, keepdims=True)
            column = column - jnp.sum(q * overlap, axis=2)
        norm = jnp.linalg.norm(column, axis=1, keepdims=True)
        column = jnp.where(norm > 0, column / jnp.where(norm > 0, norm, 1.0), 0.0)
        here = (jnp.arange(a.shape[2]) == j)[None, None, :]
        return jnp.where(here, column[:, :, None], q), None

    columns = jnp.arange(a.shape[2]), jnp.moveaxis(a, 2, 0)
    return jax.lax.scan(add_column, jnp.zeros_like(a), columns)[0]
