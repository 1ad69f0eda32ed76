"""Running mean and variance of a stream of batches, as a pytree of their own.

A float32 holds 24 bits. A sum that has grown 2^24 times as large as what is added to it would stay
where it is, so from then on each sum carries its rounding error along (Neumaier 1974): counts,
means and variances are right to six digits after 10^12 samples and more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import collectives

__all__ = ["CLIP", "Low", "RunningStats", "init", "merge", "moments", "normalize", "spread", "std"]

CLIP = 10.0  # standard deviations from the mean beyond which `normalize` cuts off
# Below both no sum loses anything that matters, and every bit is that of plain float32 sums.
_MANY_SAMPLES = 2.0**24
_SMALL_SHARE = 2.0**-18


class Low(NamedTuple):
    """What float32 sums have lost by rounding; 0 while a stream is short.

    Attributes:
        count: `[]` float32.
        mean: `[...]`.
        m2: `[...]`.
    """

    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array
    m2: jax.Array


class _Fields(NamedTuple):
    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array
    m2: jax.Array
    low: Any


class RunningStats(_Fields):
    """Mean and sum of squared deviations of all that was seen.

    Attributes:
        count: `[]` float32, samples seen; 0 at first, when `normalize` only clips.
        mean: `[...]`.
        m2: `[...]`, sum of squared deviations from the mean.
        low: what is to be added to each of these, a `Low`; zeros unless given.
    """

    __slots__ = ()

    def __new__(cls, count: Any, mean: Any, m2: Any, low: Any = None) -> RunningStats:
        """Make statistics; without `low` they are taken to be exact."""
        if low is None:
            low = Low(*map(jnp.zeros_like, (count, mean, m2)))
        return super().__new__(cls, count, mean, m2, low)


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
    mean = a.mean + shift * weight
    m2 = a.m2 + b.m2 + jnp.square(shift) * a.count * weight
    # The same with what was lost before, keeping what is lost now.
    shift = shift + (b.low.mean - a.low.mean)
    gain = b.m2 + b.low.m2 + jnp.square(shift) * a.count * weight
    careful = [
        _sum(a.count, a.low.count, b.count + b.low.count),
        _sum(a.mean, a.low.mean, shift * weight),
        _sum(a.m2, a.low.m2, gain),
    ]
    long = (count >= _MANY_SAMPLES) | (weight < _SMALL_SHARE)
    plain = (count, mean, m2)
    high = [jnp.where(long, s, x) for (s, _), x in zip(careful, plain, strict=True)]
    low = [jnp.where(long, lost, 0.0) for _, lost in careful]
    return RunningStats(high[0], high[1], high[2], Low(*low))


def _sum(high: jax.Array, low: jax.Array, more: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`high + low + more` as a float32 and what it lost by rounding (Knuth's two-sum)."""
    more = more + low
    total = high + more
    added = total - high
    return total, (high - (total - added)) + (more - added)


def std(stats: RunningStats, epsilon: float = 1e-8) -> jax.Array:
    """Return the standard deviation, `[...]`; 1 until two samples have been seen.

    A single sample has no spread, and one of about 0 would blow up whatever is divided by it.
    """
    variance = stats.m2 / jnp.maximum(stats.count, 1.0)
    return jnp.where(stats.count > 1, jnp.sqrt(variance + epsilon), 1.0)


def spread(stats: RunningStats, epsilon: float = 1e-8) -> jax.Array:
    """Return what scales are measured by, `[...]`: `std`, or 1 where all samples are alike.

    They are where the variance is not above `epsilon` times the squared mean: no more than what
    rounding makes of equal samples. Dividing by `std`, at least 1e-4, would blow them up.
    """
    variance = stats.m2 / jnp.maximum(stats.count, 1.0)
    alike = variance <= epsilon * jnp.square(stats.mean)
    return jnp.where(alike, 1.0, std(stats, epsilon))


def normalize(stats: RunningStats, x: jax.Array, clip: float = CLIP) -> jax.Array:
    """Return `clip((x - mean) / std, -clip, clip)` for samples `x` with any leading axes."""
    lead = tuple(range(x.ndim - stats.mean.ndim))
    mean, scale = jnp.expand_dims(stats.mean, lead), jnp.expand_dims(std(stats), lead)
    return jnp.clip((x - mean) / scale, -clip, clip)
