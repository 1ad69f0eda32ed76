"""New episodes start from independent draws of the environment's own start distribution."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl_pg import envs

START = stats.uniform(-0.05, 0.1)


@cache
def program(num_envs, num_steps, limit):
    """CartPole under random actions: `num_steps` of observations and ends, `[T, B, ...]`."""
    env = envs.make("CartPole-v1", {"max_steps_in_episode": limit})
    return jax.jit(partial(play, env, num_envs, num_steps))


def play(env, num_envs, num_steps, key):
    reset_key, scan_key = jax.random.split(key)

    def body(state, key):
        step_key, again_key, action_key = jax.random.split(key, 3)
        action = jax.random.randint(action_key, (num_envs,), 0, 2)
        state, timestep = envs.step(env, step_key, again_key, state, action)
        return state, (timestep.obs, timestep.terminated | timestep.truncated)

    state, _ = envs.reset(env, reset_key, num_envs)
    return jax.lax.scan(body, state, jax.random.split(scan_key, num_steps))[1]


def starts(num_envs, num_steps, limit, seed):
    """First observations of new episodes, `[N, 4]`; with limit 1, `N = T * B` in order."""
    obs, done = program(num_envs, num_steps, limit)(jax.random.key(seed))
    return np.asarray(obs)[np.asarray(done)]


# Every environment ended at once, each round taking one of a column; a number of environments
# that does not divide (one round for all); a single one; ends of every kind, mixed.
SITUATIONS = {
    "all at once": (64, 40, 1),
    "prime": (61, 40, 1),
    "single": (1, 2000, 1),
    "mixed": (16, 2000, 500),
    "mixed, prime": (7, 4000, 500),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_start_states_are_uniform(situation):
    """Kolmogorov-Smirnov for each of the four coordinates.

    False alarms: 1e-4 a situation (2.5e-5 a coordinate); the seed is fixed.
    """
    drawn = starts(*SITUATIONS[situation], seed=11)
    assert len(drawn) > 1000
    for i in range(4):
        assert stats.kstest(drawn[:, i], START.cdf).pvalue > 1e-4 / 4


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_start_state_occurs_twice(situation):
    """Between environments, rounds and steps.

    False alarms: below 1e-15, with four coordinates of 2^23 values and a few thousand draws.
    """
    drawn = starts(*SITUATIONS[situation], seed=12)
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    assert len(np.unique(drawn[:, 0])) > 0.99 * len(drawn)


@pytest.mark.parametrize("num_envs", [8, 7])
def test_start_states_are_uncorrelated(num_envs):
    """Between environments at one step, between steps of one environment, between coordinates.

    A sample correlation of independent draws is normal with variance 1/T for large T.
    False alarms: 1e-4 a case, shared out over all pairs; the seed is fixed.
    """
    steps = 4000 // num_envs
    drawn = starts(num_envs, steps, 1, seed=13).reshape(steps, num_envs * 4)
    columns = np.concatenate([drawn[1:], drawn[:-1]], axis=1)
    correlation = np.corrcoef(columns, rowvar=False)
    # Within a step, and from any column of one step to any of the next.
    width = num_envs * 4
    pairs = np.concatenate(
        [
            correlation[:width, :width][np.triu_indices(width, 1)],
            correlation[:width, width:].ravel(),
        ]
    )
    bound = stats.norm.isf(0.5e-4 / len(pairs)) / np.sqrt(steps - 1)
    assert np.abs(pairs).max() < bound


def test_the_first_reset_is_uniform_too():
    """False alarms: 1e-4 (2.5e-5 a coordinate); the seed is fixed."""
    first = np.asarray(envs.reset(envs.make("CartPole-v1"), jax.random.key(14), 2000)[1])
    assert len(np.unique(first, axis=0)) == 2000
    for i in range(4):
        assert stats.kstest(first[:, i], START.cdf).pvalue > 1e-4 / 4


def test_catch_starts_in_every_column_equally_often():
    """A start distribution with few values, all environments at once: chi-squared.

    False alarms: 1e-4; the seed is fixed.
    """
    env = envs.make("Catch-bsuite", {"max_steps_in_episode": 1})
    state, _ = envs.reset(env, jax.random.key(15), 2000)
    keys = jax.random.split(jax.random.key(16))
    state, _ = jax.jit(partial(envs.step, env))(*keys, state, jnp.zeros(2000, jnp.int32))
    counts = np.bincount(state.ball_x, minlength=5)
    assert stats.chisquare(counts).pvalue > 1e-4
