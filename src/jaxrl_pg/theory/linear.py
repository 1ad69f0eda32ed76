"""Solving `(I - gamma P) x = b`, for one large chain or for thousands of small ones.

The factorisations are LAPACK's. On a CPU they run one matrix at a time also under `vmap`: jaxlib's
batched calls wait inside XLA's own thread pool, and on few cores they can deadlock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from jaxrl_pg.theory.arguments import rows
from jaxrl_pg.theory.checks import checked

__all__ = ["Factor", "factorize", "solve"]

_FLOAT32 = (
    "values are float32, with about six digits, and fewer for gamma near 1: for float64 call "
    'jax.config.update("jax_enable_x64", True) before the MDP is made'
)
_warned: list[str] = []  # what this process has been told


class Factor(NamedTuple):
    """A matrix and its triangular factors.

    Attributes:
        matrix: `[S, S]`, M.
        lu: `[S, S]`, L and U with `M[order] = L U`, in one array.
        order: `[S]` int32, the permutation of the rows.
    """

    matrix: jax.Array
    lu: jax.Array
    order: jax.Array


@checked(transition=rows("SS"))
def factorize(transition: jax.Array, gamma: jax.Array) -> Factor:
    """Factorise `M = I - gamma P` of a chain `P [S, S]`.

    No derivative passes through the factors: `solve` differentiates the equation instead.

    Warns:
        UserWarning: once in a process, where the chain is float32.
    """
    if transition.dtype == jnp.float32 and not _warned:
        warnings.warn(_FLOAT32, UserWarning, stacklevel=2)
        _warned.append(_FLOAT32)

    def lu_and_order(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
        lu, _, order = jax.lax.linalg.lu(matrix)
        return lu, order

    matrix = jnp.eye(transition.shape[0], dtype=transition.dtype) - gamma * transition
    return Factor(matrix, *_one_at_a_time(lu_and_order)(jax.lax.stop_gradient(matrix)))


def solve(factor: Factor, rhs: jax.Array, transpose: bool = False) -> jax.Array:
    """Return `x` with `M x = rhs`, or `M^T x = rhs`; rhs and x are `[S]`.

    Differentiable by the implicit function theorem, to any order, in both modes.
    """
    plain, transposed = _one_at_a_time(_substitute), _one_at_a_time(_substitute_transposed)
    forth, back = (transposed, plain) if transpose else (plain, transposed)
    matrix = factor.matrix.T if transpose else factor.matrix
    return jax.lax.custom_linear_solve(
        lambda x: jnp.matmul(matrix, x),
        rhs,
        solve=lambda _, b: forth(factor.lu, factor.order, b),
        transpose_solve=lambda _, b: back(factor.lu, factor.order, b),
    )


def _substitute(lu: jax.Array, order: jax.Array, rhs: jax.Array) -> jax.Array:
    half = triangular_solve(lu, rhs[order, None], left_side=True, lower=True, unit_diagonal=True)
    return triangular_solve(lu, half, left_side=True)[:, 0]


def _substitute_transposed(lu: jax.Array, order: jax.Array, rhs: jax.Array) -> jax.Array:
    transposed = {"left_side": True, "transpose_a": True}
    half = triangular_solve(lu, rhs[:, None], **transposed)
    permuted = triangular_solve(lu, half, lower=True, unit_diagonal=True, **transposed)[:, 0]
    return jnp.zeros_like(rhs).at[order].set(permuted, unique_indices=True)


def _one_at_a_time(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with `vmap` as a loop where the backend is a CPU."""
    if jax.default_backend() == "cpu":
        return jax.custom_batching.sequential_vmap(fn)
    return fn
