"""How exactly networks and products of matrices are computed: `dtype` and `matmul_precision`.

    ppo.Config(dtype="bfloat16")            # hidden layers in bfloat16, all else in float32
    ppo.Config(matmul_precision="high")     # float32 products by TF32 on an NVIDIA GPU

`dtype` is the type that hidden layers compute in, as in flax; their parameters are float32 still.
`matmul_precision` is that of float32 products, JAX's `jax_default_matmul_precision`. JAX reads it
while a program is traced, so it holds for all that is traced inside `products`: networks and their
gradients, updates, and the physics of environments.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar

import jax
import jax.numpy as jnp

__all__ = [
    "Dtype",
    "MatmulPrecision",
    "cast",
    "compute_dtype",
    "of_config",
    "products",
    "widened",
]

Dtype = Literal["float32", "bfloat16"]
MatmulPrecision = Literal["default", "high", "highest"]
Fn = TypeVar("Fn", bound=Callable[..., Any])


class Precise(Protocol):
    """A config, of which no more is known here."""

    @property
    def matmul_precision(self) -> MatmulPrecision:
        """Return the precision of its products."""


def compute_dtype(dtype: str) -> Any:
    """Return what flax's layers take as `dtype`; None for float32, the type of the parameters."""
    return None if dtype == "float32" else jnp.dtype(dtype)


def cast(dtype: str, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Return arrays in the type that a layer computes in; for float32 what is wider stays so."""
    return widened(arrays) if dtype == "float32" else tuple(x.astype(dtype) for x in arrays)


def widened(tree: Any) -> Any:
    """Return a pytree whose floats of fewer than 32 bits have become float32."""

    def wide(x: jax.Array) -> jax.Array:
        is_narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
        return x.astype(jnp.float32) if is_narrow else x

    return jax.tree.map(wide, tree)


def products(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which float32 products are traced with a precision.

    Args:
        precision: `default` leaves it to JAX and its own setting.
    """
    if precision == "default":
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)


def of_config(fn: Fn) -> Fn:
    """Return a function that traces with the precision its first argument, a config, names."""

    @functools.wraps(fn)
    def traced(config: Precise, *args: Any, **kwargs: Any) -> Any:
        with products(config.matmul_precision):
            return fn(config, *args, **kwargs)

    return traced  # type: ignore[return-value]
