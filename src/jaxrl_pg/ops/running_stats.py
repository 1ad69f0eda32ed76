"""Running mean and variance of a stream of batches, as a pytree of their own."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import collectives

__all__ = ["RunningStats", "init", "merge", "moments", "normalize", "std"]


class RunningStats(NamedTuple):
    """Mean and sum of squared deviations of all that was seen.

    Attributes:
        count: `[]` float32, samples seen; 0 at first, when `normalize` only clips.
        mean: `[...]`.
        m2: `[...]`, sum of squared deviations from the mean.
    """

    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array
    m2: jax.Array


def init(shape: tuple[int, ...]) -> RunningStats:
    """Return the statistics of nothing yet, for samples of `shape`."""
    return RunningStats(jnp.zeros(()), jnp.zeros(shape), jnp.zeros(shape))


def moments(batch: jax.Array, num_batch_axes: int) -> RunningStats:
    """Return the statistics of one batch, of which the other devices have equal shares.

    Args:
        batch: this device's share.
        num_batch_axes: axes in front that index the samples.
    """
    axes = tuple(range(num_batch_axes))
    batch = batch.astype(jnp.float32)
    mean = jnp.mean(batch, axis=axes)
    m2 = jnp.sum(jnp.square(batch - jnp.expand_dims(mean, axes)), axis=axes)
    count = jnp.asarray(batch.size // max(mean.size, 1), jnp.float32)
    devices = collectives.num_devices()
    if devices == 1:
        return RunningStats(count, mean, m2)
    average = collectives.mean(mean)
    m2 = m2 + count * jnp.square(mean - average)
    return RunningStats(count * devices, average, collectives.mean(m2) * devices)


def merge(a: RunningStats, b: RunningStats) -> RunningStats:
    """Return the statistics of both streams together (Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    weight = b.count / jnp.maximum(count, 1.0)
    shift = b.mean - a.mean
    return RunningStats(
        count, a.mean + shift * weight, a.m2 + b.m2 + jnp.square(shift) * a.count * weight
    )


def std(stats: RunningStats, epsilon: float = 1e-8) -> jax.Array:
    """Return the standard deviation, `[...]`; 1 while nothing has been seen."""
    variance = stats.m2 / jnp.maximum(stats.count, 1.0)
    return jnp.where(stats.count > 0, jnp.sqrt(variance + epsilon), 1.0)


def normalize(stats: RunningStats, x: jax.Array, clip: float = 10.0) -> jax.Array:
    """Return `clip((x - mean) / std, -clip, clip)` for samples `x` with any leading axes."""
    lead = tuple(range(x.ndim - stats.mean.ndim))
    mean, scale = jnp.expand_dims(stats.mean, lead), jnp.expand_dims(std(stats), lead)
    return jnp.clip((x - mean) / scale, -clip, clip)
