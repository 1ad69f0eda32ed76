"""One batch on several devices: a function split over them, and what it asks of them inside.

`split` runs a function on every device, each with its share of the environments. Inside it the axis
of devices has a name, and what needs all of them asks for it by that name; where no axis is bound
there is one device, and every function here gives what one device alone would compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh

__all__ = [
    "AXIS",
    "device_keys",
    "gather",
    "mean",
    "mesh",
    "num_devices",
    "numbers_per_row",
    "rows_at_once",
    "split",
    "standardize",
]

AXIS = "devices"
_CPU_ROWS = 4096  # at most, and as many as make so many numbers: those stay in a core's own cache
_CPU_NUMBERS = 11_000_000
_WIDE = 256  # numbers in an observation


def split(
    fn: Callable[..., Any], num: int, in_specs: Any, out_specs: Any, axis: str = AXIS
) -> Callable[..., Any]:
    """Run a function on `num` devices; one device runs it as it is.

    Args:
        fn: from arrays to arrays.
        num: devices.
        in_specs: a `PartitionSpec` for each argument, or trees of them; `PartitionSpec(axis)`
            splits the first dimension over the devices, `PartitionSpec()` gives each all of it.
        out_specs: the same for the results.
        axis: the axis's name. Under another name than `AXIS` the devices do not share a batch.
    """
    if num == 1:
        return fn
    return jax.shard_map(
        fn, mesh=mesh(num, axis), in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def mesh(num: int, axis: str = AXIS) -> Mesh:
    """Return the first `num` devices as a mesh of one axis.

    Raises:
        ValueError: if JAX has fewer, saying how to get more.
    """
    have = jax.device_count()
    if have < num:
        raise ValueError(
            f"num_devices={num} but JAX has {have} ({jax.default_backend()}): give at most "
            f"{have}, or on CPU set JAX_NUM_CPU_DEVICES={num} before Python starts"
        )
    return jax.make_mesh((num,), (axis,), axis_types=(AxisType.Auto,), devices=jax.devices()[:num])


def num_devices() -> int:
    """Return how many devices share the batch at hand: 1 where no axis is bound."""
    try:
        return jax.lax.axis_size(AXIS)
    except NameError:
        return 1


def mean(tree: Any) -> Any:
    """Average a float pytree over the devices, as one message however many leaves it has."""
    if num_devices() == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, AXIS))


def gather(x: jax.Array) -> jax.Array:
    """Return the numbers of all devices' shares, flat `[num_devices x.size]`; alike on each."""
    return x.ravel() if num_devices() == 1 else jax.lax.all_gather(x.ravel(), AXIS, tiled=True)


def standardize(rows: jax.Array) -> jax.Array:
    """Give each row `[R, N]`, continued on the other devices, mean 0 and standard deviation 1.

    A row of a single number has no spread, and stays as it is: it would become 0 whatever it was.
    """
    if rows.shape[1] * num_devices() == 1:
        return rows
    average = mean(jnp.mean(rows, axis=1, keepdims=True))
    spread = mean(jnp.mean(jnp.square(rows - average), axis=1, keepdims=True))
    return (rows - average) / (jnp.sqrt(spread) + 1e-8)


def rows_at_once(networks: Callable[[Any], Any], rows: Any, obs: Any) -> int:
    """Return how many rows networks are best applied to at once; 0 stands for all.

    Where each CPU core is a device of its own, a piece that stays in its cache is faster than the
    whole minibatch. On one device pieces stand in the way of one large product, unless the
    observations are so wide that reading them takes longer. Convolutions make so many numbers of a
    row that few rows fill the cache.

    Args:
        networks: what will be applied to the rows.
        rows: what it reads, arrays of `[N, ...]`.
        obs: the observations `[N, ...]` among them, or several arrays.
    """
    width = sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(obs))
    if jax.default_backend() != "cpu" or (num_devices() == 1 and width < _WIDE):
        return 0
    return min(_CPU_ROWS, max(1, _CPU_NUMBERS // numbers_per_row(networks, rows)))


def numbers_per_row(fn: Callable[[Any], Any], rows: Any) -> int:
    """Return how many numbers a function makes on its way for each row that it is given.

    Args:
        fn: of a pytree of `[N, ...]` arrays; it is traced for one row and for two.
        rows: such a pytree.
    """

    def numbers(num: int) -> int:
        few = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape[1:]), x.dtype), rows)
        made = [var.aval for step in jax.make_jaxpr(fn)(few).eqns for var in step.outvars]
        return sum(math.prod(getattr(x, "shape", ())) for x in made)

    return max(1, numbers(2) - numbers(1))


def device_keys(keys: list[jax.Array]) -> list[jax.Array]:
    """Fold the device's number into each key, so that devices draw different numbers."""
    if num_devices() == 1:
        return keys
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return list(fold(jnp.stack(keys), jax.lax.axis_index(AXIS)))
