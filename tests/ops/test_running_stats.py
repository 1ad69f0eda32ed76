"""Running statistics: worked numbers, and numpy over everything at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.ops import collectives, running_stats

MERGE = jax.jit(running_stats.merge)
MOMENTS = jax.jit(running_stats.moments, static_argnums=1)
NORMALIZE = jax.jit(running_stats.normalize)
STD = jax.jit(running_stats.std)


def moments(x):
    return MOMENTS(np.asarray(x, np.float32), 1)


def moments_by_numpy(x):
    """For splits of many lengths, each of which would have to be compiled."""
    parts = len(x), x.mean(0), x.var(0) * len(x)
    return running_stats.RunningStats(*(jnp.asarray(part, jnp.float32) for part in parts))


def samples(seed, n=60, shape=(3,), offset=2.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *shape)) * np.array([0.5, 1.0, 30.0]) + offset


def assert_same(a, b, rtol=2e-5):
    assert_allclose(a.count, b.count)
    assert_allclose(a.mean, b.mean, rtol=rtol, atol=1e-6)
    assert_allclose(a.m2, b.m2, rtol=rtol)


def test_worked():
    # 1, 2, 3: mean 2, squared deviations 1 + 0 + 1. With 4, 5 (mean 4.5, .5): mean 3 and
    # 4 + 1 + 0 + 1 + 4 = 10.
    first, second = moments([1.0, 2.0, 3.0]), moments([4.0, 5.0])
    assert (first.count, first.mean, first.m2) == (3, 2, 2)
    both = MERGE(first, second)
    assert_allclose([both.count, both.mean, both.m2], [5, 3, 10], rtol=1e-6)
    assert_allclose(STD(both), np.sqrt(2.0), rtol=1e-6)
    assert_allclose(NORMALIZE(both, np.float32([3, 5])), [0.0, np.sqrt(2)])


def test_moments_of_any_leading_axes():
    batch = samples(0).reshape(5, 12, 3)
    stats = MOMENTS(np.float32(batch), 2)
    assert stats.count == 60
    assert_allclose(stats.mean, batch.mean((0, 1)), rtol=1e-5)
    assert_allclose(stats.m2, batch.var((0, 1)) * 60, rtol=1e-5)
    whole = MOMENTS(np.float32(batch), 3)
    assert (whole.count, whole.mean.shape) == (180, ())
    images = MOMENTS(np.ones((2, 3, 4, 5)), 2)
    assert (images.count, images.mean.shape) == (6, (4, 5))


def test_moments_of_integers_are_floats():
    stats = MOMENTS(np.array([[1], [2]]), 1)
    assert stats.mean.dtype == stats.m2.dtype == jnp.float32
    assert_array_equal(stats.mean, [1.5])


def test_moments_of_devices_with_equal_shares_are_those_of_the_whole():
    """Worked: 1, 2, 3 and 4, 5, 9 have means 2 and 6, m2 2 and 14; together 4 and 16 + 6 * 4."""
    shares = jax.vmap(lambda x: running_stats.moments(x, 1), axis_name=collectives.AXIS)
    stats = jax.jit(shares)(np.float32([[1, 2, 3], [4, 5, 9]]))
    for statistic, expected in zip(stats[:3], (6, 4, 40), strict=True):
        assert_array_equal(statistic, [expected, expected])
    x = samples(10)
    stats = jax.jit(shares)(np.float32(x.reshape(4, 15, 3)))
    assert_same(jax.tree.map(lambda leaf: leaf[3], stats), moments_by_numpy(x))


@pytest.mark.parametrize("cuts", [(1,), (30,), (59,), (1, 2, 3), (20, 21, 50), tuple(range(1, 60))])
def test_merging_any_split_is_numpy_over_the_whole(cuts):
    x = samples(1)
    parts = [moments_by_numpy(part) for part in np.split(x, cuts)]
    merged = functools.reduce(MERGE, parts)
    assert merged.count == 60
    assert_allclose(merged.mean, x.mean(0), rtol=2e-5)
    assert_allclose(merged.m2 / merged.count, x.var(0), rtol=2e-5)


def test_merge_is_associative_and_commutative():
    a, b, c = (moments_by_numpy(samples(i, n)) for i, n in ((2, 7), (3, 30), (4, 2)))
    assert_same(MERGE(MERGE(a, b), c), MERGE(a, MERGE(b, c)))
    assert_same(MERGE(a, b), MERGE(b, a))


def test_nothing_is_the_identity_of_merge():
    nothing, stats = running_stats.init((3,)), moments(samples(5))
    for merged in (MERGE(nothing, stats), MERGE(stats, nothing)):
        jax.tree.map(assert_array_equal, merged, stats)
    jax.tree.map(assert_array_equal, MERGE(nothing, nothing), nothing)


def test_nothing_normalises_nothing():
    nothing, x = running_stats.init((3,)), jnp.asarray(samples(6, offset=0.0) / 30, jnp.float32)
    assert_array_equal(STD(nothing), np.ones(3))
    assert_array_equal(NORMALIZE(nothing, x), x)


def test_normalize_gives_mean_zero_and_deviation_one():
    x = jnp.asarray(samples(7), jnp.float32)
    y = np.asarray(NORMALIZE(moments(x), x.reshape(6, 10, 3)), np.float64)
    assert y.shape == (6, 10, 3)
    assert_allclose(y.mean((0, 1)), 0.0, atol=1e-5)
    assert_allclose(y.std((0, 1)), 1.0, rtol=1e-5)


def test_normalize_clips():
    stats = moments([-1.0, 1.0])
    got = NORMALIZE(stats, np.float32([-50, 3, 50]))
    assert_allclose(got, [-10.0, 3.0, 10.0], rtol=1e-6)
    assert_allclose(NORMALIZE(stats, np.float32([9, -9, 3]), clip=5.0), [5, -5, 3], rtol=1e-6)


def test_a_constant_is_normalised_to_zero():
    stats = moments(np.full((10, 1), 3.0))
    assert_array_equal(NORMALIZE(stats, np.full((4, 1), 3, np.float32)), np.zeros((4, 1)))
    assert np.isfinite(NORMALIZE(stats, np.full((4, 1), 4, np.float32))).all()


def test_a_large_offset_costs_no_digits():
    # The textbook sum of squares less the squared sum has no digit left here in float32.
    x = 1e4 + np.random.default_rng(8).normal(size=(1000, 1))
    merged = functools.reduce(MERGE, [moments(part) for part in np.split(x, 4)])
    assert_allclose(STD(merged), x.std(0), rtol=1e-3)


def test_a_long_stream():
    x = np.random.default_rng(9).normal(5.0, 3.0, size=(2000, 16, 2)).astype(np.float32)

    def add(stats, batch):
        return running_stats.merge(stats, running_stats.moments(batch, 1)), None

    stats, _ = jax.jit(lambda x: jax.lax.scan(add, running_stats.init((2,)), x))(x)
    assert stats.count == 32_000
    assert_allclose(stats.mean, x.mean((0, 1), dtype=np.float64), rtol=1e-4)
    assert_allclose(STD(stats), x.std((0, 1), dtype=np.float64), rtol=1e-4)
