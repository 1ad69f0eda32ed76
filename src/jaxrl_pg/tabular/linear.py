"""Solving `(I - gamma P) x = b`, for one large chain or for thousands of small ones.

The matrix is strictly diagonally dominant, so elimination needs no pivoting (Higham 2002,
"Accuracy and Stability of Numerical Algorithms", section 9.5). Written as array operations it
vectorises over a batch, where LAPACK would be called once a matrix. Large matrices go to LAPACK,
one at a time also under `vmap`.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Factor", "factorize", "solve"]

_LARGEST_OWN = 128
_STAGE = 8


class Factor(NamedTuple):
    """`M = L U` in one array, as LAPACK keeps it.

    Attributes:
        matrix: `[S, S]`, `M` itself.
        lu: `[S, S]`, `U` in the upper triangle and `L` below it, its diagonal of ones left out.
        pivots: `[S]` rows exchanged.
    """

    matrix: jax.Array
    lu: jax.Array
    pivots: jax.Array


def factorize(transition: jax.Array, gamma: jax.Array) -> Factor:
    """`I - gamma P` for a chain `P [S, S]`, ready to be solved with.

    Derivatives do not pass through the elimination: `solve` differentiates the equation.
    """
    n = transition.shape[0]
    matrix = jnp.eye(n, dtype=transition.dtype) - gamma * transition
    fixed = jax.lax.stop_gradient(matrix)
    if n <= _LARGEST_OWN:
        return Factor(matrix, _eliminate(fixed), jnp.arange(n))
    return Factor(matrix, *_lapack_factor(fixed))


def solve(factor: Factor, rhs: jax.Array, transpose: bool = False) -> jax.Array:
    """`x` with `M x = rhs`, or `M^T x = rhs`; rhs and x are `[S]`.

    Differentiable by the implicit function theorem, as often as wanted, in both modes.
    """
    matrix = factor.matrix.T if transpose else factor.matrix
    return jax.lax.custom_linear_solve(
        partial(jnp.matmul, matrix),
        rhs,
        solve=partial(_substitute, factor, transpose),
        transpose_solve=partial(_substitute, factor, not transpose),
    )


def _substitute(factor: Factor, transpose: bool, _: object, rhs: jax.Array) -> jax.Array:
    if factor.lu.shape[0] > _LARGEST_OWN:
        lapack = _lapack_solve_transposed if transpose else _lapack_solve
        return lapack(factor.lu, factor.pivots, rhs)
    lu = factor.lu
    if transpose:
        return _backward(lu.T, _forward(lu.T, rhs, jnp.diagonal(lu)), jnp.ones_like(rhs))
    return _backward(lu, _forward(lu, rhs, jnp.ones_like(rhs)), jnp.diagonal(lu))


def _eliminate(matrix: jax.Array) -> jax.Array:
    """`L U` without pivoting, in stages that work on what is left of the matrix."""
    for first in range(0, matrix.shape[0], _STAGE):
        rest = matrix[first:, first:]
        rest = jax.lax.fori_loop(0, min(_STAGE, rest.shape[0]), _eliminate_column, rest)
        matrix = matrix.at[first:, first:].set(rest)
    return matrix


def _eliminate_column(k: jax.Array, matrix: jax.Array) -> jax.Array:
    index = jnp.arange(matrix.shape[0])
    row, below = matrix[k], index > k
    column = jnp.where(below, matrix[:, k] / row[k], 0.0)
    matrix = matrix - column[:, None] * jnp.where(below, row, 0.0)[None]
    return jnp.where(below[:, None] & (index == k)[None], column[:, None], matrix)


def _forward(lower: jax.Array, rhs: jax.Array, diagonal: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, rhs.shape[0], partial(_forward_step, lower, diagonal), rhs)


def _forward_step(
    lower: jax.Array, diagonal: jax.Array, k: jax.Array, x: jax.Array
) -> jax.Array:
    index = jnp.arange(x.shape[0])
    known = x[k] / diagonal[k]
    x = jnp.where(index > k, x - lower[:, k] * known, x)
    return jnp.where(index == k, known, x)


def _backward(upper: jax.Array, rhs: jax.Array, diagonal: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, rhs.shape[0], partial(_backward_step, upper, diagonal), rhs)


def _backward_step(
    upper: jax.Array, diagonal: jax.Array, i: jax.Array, x: jax.Array
) -> jax.Array:
    index = jnp.arange(x.shape[0])
    k = x.shape[0] - 1 - i
    known = x[k] / diagonal[k]
    x = jnp.where(index < k, x - upper[:, k] * known, x)
    return jnp.where(index == k, known, x)


# jaxlib's batched LAPACK calls wait inside XLA's own thread pool and can stop each other for good
# on few cores; one matrix at a time cannot.
@jax.custom_batching.sequential_vmap
def _lapack_factor(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.scipy.linalg.lu_factor(matrix)


@jax.custom_batching.sequential_vmap
def _lapack_solve(lu: jax.Array, pivots: jax.Array, rhs: jax.Array) -> jax.Array:
    return jax.scipy.linalg.lu_solve((lu, pivots), rhs)


@jax.custom_batching.sequential_vmap
def _lapack_solve_transposed(lu: jax.Array, pivots: jax.Array, rhs: jax.Array) -> jax.Array:
    return jax.scipy.linalg.lu_solve((lu, pivots), rhs, trans=1)
