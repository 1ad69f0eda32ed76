"""Shuffled minibatches: exactly permutations, and statistically like uniformly random ones.

Uniform here means: as a sort of random numbers gives. Each statistical test passes when its
p-value is above 1e-6 or its z-value below 5 (6e-7), the share of seeds on which true uniform
permutations would fail it; there are about fifty. Seeds are fixed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from jaxrl_pg.ops import batching

FALSE_ALARM, MAX_Z = 1e-6, 5.0
PERMUTATIONS = jax.jit(batching.permutations, static_argnums=(1, 2))

# Digits 8 x 8, 8 x 11 and 16 x 16, digits as unequal as they get, and the sort (a prime).
SIZES = [64, 88, 256, 8 * 251, 31]


@functools.cache
def rows(n, seed=0):
    return np.asarray(PERMUTATIONS(jax.random.key(seed), 512 if n > 1000 else 4096, n))


def z_value(samples, mean):
    """How many standard errors the mean of independent samples is from what it should be."""
    samples = np.float64(samples)
    return (samples.mean() - mean) / (samples.std() / np.sqrt(samples.size))


# --- exactly ------------------------------------------------------------------------------------

OTHERS = [1, 35, 104, 999, 8192]


@pytest.mark.parametrize("n", SIZES + OTHERS)
def test_every_row_is_a_permutation(n):
    order = rows(n) if n in SIZES else np.asarray(PERMUTATIONS(jax.random.key(n), 3, n))
    assert order.dtype == np.int32
    assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(n), (len(order), 1)))
    if n > 30:
        assert len({row.tobytes() for row in order}) == len(order)


def test_the_digits():
    # 8 * 8; 8 * 13 -> 8; prime -> 1 (sorted); 7 * 9 -> 7, below 8 (sorted); 10 * 12
    digits = {64: 8, 104: 8, 61: 1, 63: 7, 120: 10, 1: 1, 8192: 64, 8191: 1}
    assert {n: batching._balanced_divisor(n) for n in digits} == digits


def test_the_key_decides():
    assert_array_equal(rows(64), rows.__wrapped__(64))
    other = rows(64, seed=1)
    assert np.mean(rows(64) == other) < 0.05  # 1/64 by chance


def test_minibatches_cover_each_epoch_once():
    indices = jax.jit(batching.minibatch_indices, static_argnums=(1, 2, 3))(
        jax.random.key(0), 96, 3, 4
    )
    assert indices.shape == (12, 24)
    epochs = np.asarray(indices).reshape(3, 96)
    assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(96), (3, 1)))
    assert len({epoch.tobytes() for epoch in epochs}) == 3


def test_under_vmap():
    keys = jax.random.split(jax.random.key(1), 3)
    got = jax.jit(jax.vmap(lambda key: batching.permutations(key, 2, 64)))(keys)
    assert_array_equal(got, [PERMUTATIONS(key, 2, 64) for key in keys])


# --- piece by piece -----------------------------------------------------------------------------


def mean_square(rows):
    x, y = rows
    return {"square": jnp.mean(x * x, axis=0), "product": jnp.mean(x[:, 0] * y)}


def test_pieces_worked():
    # rows 1, 2, 3, 4 two at a time: means 1.5 and 3.5 (each the mean of a piece), together 2.5
    seen = []

    def mean(rows):
        seen.append(rows.shape)
        return jnp.mean(rows)

    assert batching.mean_over_pieces(mean, jnp.arange(1.0, 5.0), 2) == 2.5
    assert set(seen) == {(2,)}


def test_extremes_of_pieces_are_those_of_all_rows():
    # pieces 3, 1 and 4, 2: the least are 1 and 2, the largest 3 and 4, the means 2 and 3
    def extremes(rows):
        return {"x_min": jnp.min(rows), "x_max": jnp.max(rows), "x": jnp.mean(rows)}

    got = batching.mean_over_pieces(extremes, jnp.asarray([3.0, 1.0, 4.0, 2.0]), 2)
    assert got == {"x_min": 1.0, "x_max": 4.0, "x": 2.5}


# 12 rows: the largest divisor that does not exceed 5 is 4, and 7 gives 6
@pytest.mark.parametrize(("max_rows", "size"), [(0, 12), (1, 1), (4, 4), (5, 4), (7, 6), (12, 12)])
def test_the_mean_over_pieces_is_the_mean(max_rows, size):
    rng = np.random.default_rng(0)
    rows = np.float32(rng.normal(size=(12, 3))), np.float32(rng.normal(size=12))
    sizes = set()

    def counted(rows):
        sizes.add(rows[0].shape[0])
        return mean_square(rows)

    got = jax.jit(lambda rows: batching.mean_over_pieces(counted, rows, max_rows))(rows)
    assert sizes == {size}
    assert_allclose(got["square"], np.mean(rows[0] ** 2, 0), rtol=1e-5)
    assert_allclose(got["product"], np.mean(rows[0][:, 0] * rows[1]), rtol=1e-5, atol=1e-6)


# --- statistically ------------------------------------------------------------------------------


@pytest.mark.parametrize("max_rows", [0, 3, 4, 12, 99])
def test_in_pieces_every_row_is_where_it_was(max_rows):
    rows = {"a": jnp.arange(24.0).reshape(12, 2), "b": jnp.arange(12.0)}
    sizes = []

    def fn(rows):
        sizes.append(len(rows["b"]))
        return rows["a"] * 10 + rows["b"][:, None]

    got = batching.in_pieces(fn, rows, max_rows)
    assert_array_equal(got, rows["a"] * 10 + rows["b"][:, None])
    assert set(sizes) == {{0: 12, 99: 12}.get(max_rows, max_rows)}


@pytest.mark.parametrize("n", [64, 88, 31])
def test_every_element_is_everywhere_equally_often(n):
    # Counts of element i in position j have covariance (I - 1/n)(x)(I - 1/n) num/(n-1), so that
    # their squared deviations, times (n-1)/num, are chi-square with (n-1)^2 degrees.
    order = rows(n)
    num = len(order)
    counts = np.zeros((n, n))
    np.add.at(counts, (order, np.broadcast_to(np.arange(n), order.shape)), 1)
    statistic = np.sum((counts - num / n) ** 2) * (n - 1) / num
    p_value = stats.chi2.sf(statistic, (n - 1) ** 2)
    assert FALSE_ALARM < p_value < 1 - FALSE_ALARM


@pytest.mark.parametrize("pair", [(0, 1), (0, 8), (0, 9), (31, 32), (0, 63)])
def test_pairs_of_positions_are_jointly_uniform(pair):
    # 64 * 63 ordered pairs of values, about 5 of each
    order = np.concatenate([rows(64, seed) for seed in range(5)])
    first, second = order[:, pair[0]], order[:, pair[1]]
    counts = np.bincount(first * 64 + second, minlength=64**2).reshape(64, 64)
    assert np.all(np.diag(counts) == 0)
    assert stats.chisquare(counts[~np.eye(64, dtype=bool)]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("n", SIZES)
def test_samples_share_a_minibatch_as_often_as_by_chance(n):
    # A second sample falls into the minibatch of the first, of k places, with probability
    # (k - 1)/(n - 1). Neighbours in time or of one environment are a fixed lag apart.
    order = rows(n)
    batch_of_place = np.arange(n) // -(-n // 4)
    sizes = np.bincount(batch_of_place)  # equal, but for the prime
    chance = np.sum(sizes * (sizes - 1)) / (n * (n - 1))
    batch_of = batch_of_place[np.argsort(order, 1)]
    for lag in (1, 2, 7, 8, n // 8, n // 4, n // 2):
        together = np.mean(batch_of == np.roll(batch_of, lag, axis=1), axis=1)
        assert abs(z_value(together, chance)) < MAX_Z, lag


def trend_and_environment(n):
    """A value that grows with time, and one that belongs to each of 8 environments."""
    return np.arange(n) / n, np.cos(np.arange(n) % 8)


@pytest.mark.parametrize("n", SIZES)
def test_minibatch_means_have_the_moments_of_sampling_without_replacement(n):
    # mean that of the whole, variance s^2/k (n - k)/(n - 1)
    order, k = rows(n), n // 4
    for x in trend_and_environment(n):
        variance = x.var() / k * (n - k) / (n - 1)
        deviation = x[order[:, :k]].mean(1) - x.mean()
        assert abs(z_value(deviation, 0.0)) < MAX_Z
        assert abs(z_value(deviation**2, variance)) < MAX_Z


def test_minibatch_means_have_the_law_that_a_sort_gives():
    keys = jax.random.split(jax.random.key(7), 4096)
    sort = jax.jit(jax.vmap(lambda key: jax.random.permutation(key, 64)))
    theirs, ours = np.asarray(sort(keys)), rows(64)
    for x in trend_and_environment(64):
        means = [x[order[:, :16]].mean(1) for order in (ours, theirs)]
        assert stats.ks_2samp(*means).pvalue > FALSE_ALARM


@pytest.mark.parametrize("n", [64, 88, 256, 31])
def test_fixed_points_inversions_and_runs(n):
    order = rows(n)
    fixed = np.sum(order == np.arange(n), axis=1)
    assert abs(z_value(fixed, 1.0)) < MAX_Z
    assert abs(z_value((fixed - 1.0) ** 2, 1.0)) < MAX_Z
    ascents = np.sum(np.diff(order, axis=1) > 0, axis=1)  # mean (n-1)/2, variance (n+1)/12
    assert abs(z_value(ascents, (n - 1) / 2)) < MAX_Z
    assert abs(z_value((ascents - (n - 1) / 2) ** 2, (n + 1) / 12)) < MAX_Z
    some = order[:1000]
    later = np.triu(np.ones((n, n), bool), 1)
    inversions = np.sum((some[:, :, None] > some[:, None, :]) & later, axis=(1, 2))
    variance = n * (n - 1) * (2 * n + 5) / 72
    assert abs(z_value(inversions, n * (n - 1) / 4)) < MAX_Z
    assert abs(z_value((inversions - n * (n - 1) / 4) ** 2, variance)) < MAX_Z


@pytest.mark.parametrize("n", [64, 88, 256, 31])
def test_epochs_know_nothing_of_each_other(n):
    # An element keeps its place, or its distance to the next one, as often as by chance.
    order = rows(n)
    for step in (1, 2, 3):
        here, there = order[:-step], order[step:]
        assert abs(z_value(np.sum(here == there, 1), 1.0)) < MAX_Z
        gap_kept = np.diff(np.argsort(there, 1), axis=1) == np.diff(np.argsort(here, 1), axis=1)
        assert abs(z_value(np.mean(gap_kept, 1), same_gap_probability(n))) < MAX_Z


def same_gap_probability(n):
    """That two independent pairs of different places are the same (signed) gap apart."""
    gaps = n - np.abs(np.concatenate([np.arange(-n + 1, 0), np.arange(1, n)]))
    return np.sum((gaps / gaps.sum()) ** 2)
