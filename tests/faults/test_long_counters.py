"""Counters and sums of runs that are longer than 32 bits would count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blank import state_of

import jaxrl_pg
from jaxrl_pg import checkpoint
from jaxrl_pg.agents import ppo
from jaxrl_pg.ops import running_stats
from jaxrl_pg.ops.running_stats import RunningStats
from jaxrl_pg.training import program

MERGE = jax.jit(running_stats.merge)


@jax.jit
def merge_all(stats, batches):
    return jax.lax.scan(lambda s, b: (running_stats.merge(s, b), None), stats, batches)[0]


def drawn(rng, rows, num, mean, std):
    """Statistics of `num` batches of normal rows, without drawing the rows."""
    means = mean + std * rng.normal(size=num) / np.sqrt(rows)
    squares = std**2 * rng.chisquare(rows - 1, size=num) if rows > 1 else np.zeros(num)
    return RunningStats(*(jnp.float32(x) for x in (np.full(num, rows), means, squares)))


def long_stats(count, mean, std):
    return RunningStats(*(jnp.float32(x) for x in (count, mean, count * std**2)))


def total(stats):
    return float(stats.count) + float(stats.low.count)


@pytest.mark.parametrize(("rows", "count"), [(1, 2**24), (3, 2**26), (100, 3e9), (1000, 1e12)])
def test_statistics_go_on_where_float32_would_stand_still(rows, count):
    """Half a million batches of another distribution move them as much as they should."""
    num, parts = 2**19, 4
    rng = np.random.default_rng(0)
    stats = long_stats(count, 0.0, 1.0)
    for _ in range(parts):
        stats = merge_all(stats, drawn(rng, rows, num, 3.0, 2.0))
    new = rows * num * parts
    share = new / (count + new)
    mean = 3.0 * share
    variance = (1 - share) * (1.0 + mean**2) + share * (4.0 + (3.0 - mean) ** 2)
    np.testing.assert_allclose(total(stats), count + new, rtol=1e-6)
    np.testing.assert_allclose(stats.mean, mean, rtol=3e-3)  # of the draws themselves
    np.testing.assert_allclose(running_stats.std(stats), np.sqrt(variance), rtol=1e-3)


def test_single_rows_of_one_distribution_keep_their_spread():
    stats = long_stats(2**24, 5.0, 1.0)
    rng = np.random.default_rng(1)
    for _ in range(8):
        stats = merge_all(stats, drawn(rng, 1, 2**20, 5.0, 1.0))
    assert total(stats) == 2**24 + 2**23
    np.testing.assert_allclose(running_stats.std(stats), 1.0, rtol=1e-3)


def test_two_long_streams_are_merged_exactly():
    stats = MERGE(long_stats(5e11, 0.0, 1.0), long_stats(5e11, 2.0, 1.0))
    np.testing.assert_allclose(total(stats), 1e12, rtol=1e-6)
    np.testing.assert_allclose([stats.mean, running_stats.std(stats)], [1.0, 2**0.5], rtol=1e-6)


def test_short_streams_are_plain_float32_sums():
    rng = np.random.default_rng(2)
    stats, plain = running_stats.init(()), (np.float32(0), np.float32(0))
    for _ in range(50):
        batch = drawn(rng, 64, 1, 1.0, 2.0)
        one = jax.tree.map(lambda x: x[0], batch)
        count = np.float32(plain[0] + one.count)
        mean = plain[1] + (one.mean - plain[1]) * np.float32(one.count / count)
        stats, plain = MERGE(stats, one), (count, np.float32(mean))
        assert not any(np.asarray(x).any() for x in stats.low)
    np.testing.assert_allclose([stats.count, stats.mean], plain, rtol=1e-6)


def test_checkpoints_from_before_the_sums_were_long_are_read(tmp_path):
    stats = long_stats(128, np.ones(3), 2.0)
    old = {"learner": {"count": stats.count, "mean": stats.mean, "m2": stats.m2}}
    checkpoint.save_tree(tmp_path / "old", old, {})
    restored = checkpoint.load_tree(tmp_path / "old", {"learner": stats})["learner"]
    assert isinstance(restored, RunningStats)
    for given, read in zip(jax.tree.leaves(stats), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(given, read)


def test_timesteps_never_become_negative():
    config = ppo.Config(num_envs=64, num_steps=32)
    for done, expected in ((10, 11 * 2048), (2**20 - 2, 2**31 - 2048), (2**22, 2**31 - 2048)):
        counted = program._timesteps(config, jnp.int32(done), 1)
        assert counted.dtype == jnp.int32
        assert counted[0] == expected
    longer = config.replace(total_timesteps=10**10)
    counted = program._timesteps(longer, longer.num_iterations - 1, 1)
    np.testing.assert_allclose(counted, 1e10, rtol=1e-6)


def test_a_run_of_ten_billion_steps_can_be_asked_for():
    config = ppo.Config(total_timesteps=10**10)
    assert config.num_iterations == -(-(10**10) // 2048)
    metrics = jax.eval_shape(lambda: jaxrl_pg.iterate(config, state_of(config), 2))[1]
    assert metrics["timesteps"].dtype == jnp.float32
