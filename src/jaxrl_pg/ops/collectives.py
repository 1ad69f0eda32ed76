"""Averages over the devices that share a batch, and what else they have to agree on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxrl_pg.ops.running_stats import RunningStats

__all__ = ["AXIS", "device_keys", "mean", "merge_moments", "standardize"]

AXIS = "devices"


def mean(tree: Any, num_devices: int) -> Any:
    """Average a float pytree over devices, as one message however many leaves it has."""
    if num_devices == 1:
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, AXIS))


def merge_moments(stats: RunningStats, num_devices: int) -> RunningStats:
    """Statistics of all devices' equally large batches together."""
    if num_devices == 1:
        return stats
    average = mean(stats.mean, num_devices)
    m2 = stats.m2 + stats.count * jnp.square(stats.mean - average)
    return RunningStats(stats.count * num_devices, average, mean(m2, num_devices) * num_devices)


def standardize(rows: jax.Array, num_devices: int) -> jax.Array:
    """Give each row, continued on the other devices, mean 0 and standard deviation 1."""
    average = mean(jnp.mean(rows, axis=1, keepdims=True), num_devices)
    spread = mean(jnp.mean(jnp.square(rows - average), axis=1, keepdims=True), num_devices)
    return (rows - average) / (jnp.sqrt(spread) + 1e-8)


def device_keys(keys: list[jax.Array], num_devices: int) -> list[jax.Array]:
    """This device's own streams of keys that are the same on all of them."""
    if num_devices == 1:
        return keys
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return list(fold(jnp.stack(keys), jax.lax.axis_index(AXIS)))
