"""Solving `(I - gamma P) x = b`, for one large chain or for thousands of small ones.

LAPACK does the work. On a CPU it does one matrix at a time also under `vmap`: jaxlib's batched
calls wait inside XLA's own thread pool, and on few cores they can stop each other for good.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

__all__ = ["Factor", "factorize", "solve"]


class Factor(NamedTuple):
    """A matrix and its triangular factors.

    Attributes:
        matrix: `[S, S]`, M.
        lu: `[S, S]`, L and U with `M[order] = L U`, in one array.
        order: `[S]` int32, of the rows.
    """

    matrix: jax.Array
    lu: jax.Array
    order: jax.Array


def factorize(transition: jax.Array, gamma: jax.Array) -> Factor:
    """`M = I - gamma P` for a chain `P [S, S]`, ready to be solved with.

    No derivative passes through the factors: `solve` differentiates the equation instead.
    """
    matrix = jnp.eye(transition.shape[0], dtype=transition.dtype) - gamma * transition
    return Factor(matrix, *_one_at_a_time(_lu)(jax.lax.stop_gradient(matrix)))


def solve(factor: Factor, rhs: jax.Array, transpose: bool = False) -> jax.Array:
    """`x` with `M x = rhs`, or `M^T x = rhs`; rhs and x are `[S]`.

    Differentiable by the implicit function theorem, as often as wanted, in both modes.
    """
    return jax.lax.custom_linear_solve(
        partial(jnp.matmul, factor.matrix.T if transpose else factor.matrix),
        rhs,
        solve=partial(_substitute, factor, transpose),
        transpose_solve=partial(_substitute, factor, not transpose),
    )


def _lu(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    lu, _, order = jax.lax.linalg.lu(matrix)
    return lu, order


def _substitute(factor: Factor, transpose: bool, _: Any, rhs: jax.Array) -> jax.Array:
    substitute = _one_at_a_time(_substitute_transposed if transpose else _substitute_plain)
    return substitute(factor.lu, factor.order, rhs)


def _substitute_plain(lu: jax.Array, order: jax.Array, rhs: jax.Array) -> jax.Array:
    half = triangular_solve(lu, rhs[order, None], left_side=True, lower=True, unit_diagonal=True)
    return triangular_solve(lu, half, left_side=True)[:, 0]


def _substitute_transposed(lu: jax.Array, order: jax.Array, rhs: jax.Array) -> jax.Array:
    solve_half = partial(triangular_solve, lu, left_side=True, transpose_a=True)
    half = solve_half(rhs[:, None])
    permuted = solve_half(half, lower=True, unit_diagonal=True)[:, 0]
    return jnp.zeros_like(rhs).at[order].set(permuted, unique_indices=True)


def _one_at_a_time(fn: Callable[..., Any]) -> Callable[..., Any]:
    if jax.default_backend() == "cpu":
        return jax.custom_batching.sequential_vmap(fn)
    return fn
