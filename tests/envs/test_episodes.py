"""New episodes where others ended: round after round, or all drawn at once as on a GPU.

The two are compiled otherwise, which may change the last digit of a scaled random number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg import envs
from jaxrl_pg.envs import episodes

ENVS = ["CartPole-v1", "Breakout-MinAtar", "Asterix-MinAtar", "DeepSea-bsuite", "Pong-misc"]
ODD = {"one column": 8, "no rounds": 7, "five columns": 40}


def started(env, done, key, backend, monkeypatch):
    """Where an environment goes on, and whether the program that says so has a loop."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    current = envs.reset(env, jax.random.key(3), len(done))
    fn = jax.jit(lambda done, key, current: episodes.start_where(env, done, key, current))
    return fn(done, key, current), "while[" in str(jax.make_jaxpr(fn)(done, key, current))


@pytest.mark.parametrize("num", ODD.values(), ids=ODD)
@pytest.mark.parametrize("name", ENVS)
def test_without_a_loop_the_same_episodes_begin(name, num, monkeypatch):
    env = envs.make(name)
    for i, share in enumerate((0.0, 0.3, 0.7, 1.0)):
        key = jax.random.key(i)
        done = jax.random.uniform(key, (num,)) < share
        loop, has_loop = started(env, done, key, "cpu", monkeypatch)
        straight, _ = started(env, done, key, "gpu", monkeypatch)
        assert has_loop
        for a, b in zip(jax.tree.leaves(loop), jax.tree.leaves(straight), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)


def test_keys_made_ahead_begin_the_same_episodes(monkeypatch):
    env, done = envs.make("CartPole-v1"), jnp.arange(40) % 3 > 0
    keys = jax.random.split(jax.random.key(1), 3)
    assert episodes.keys_of_rounds(keys, 40) is keys  # on a CPU they are made when they are due
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    ahead = episodes.keys_of_rounds(keys, 40)
    assert ahead.shape == (3, 8)
    current = envs.reset(env, jax.random.key(3), 40)
    for key, rounds in zip(keys, ahead, strict=True):
        a = episodes.start_where(env, done, key, current)
        b = episodes.start_where(env, done, rounds, current)
        assert all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_no_two_environments_get_the_same_episode(monkeypatch):
    done = jnp.arange(40) % 3 > 0
    (_, obs), has_loop = started(
        envs.make("CartPole-v1"), done, jax.random.key(0), "gpu", monkeypatch
    )
    assert not has_loop
    assert len(np.unique(np.asarray(obs), axis=0)) == 40
    before = envs.reset(envs.make("CartPole-v1"), jax.random.key(3), 40)[1]
    assert np.array_equal(np.all(obs == before, axis=1), ~done)


def test_an_episode_that_costs_more_than_a_step_is_drawn_where_it_is_due(monkeypatch):
    """Of 64 x 64 x 20 random numbers; a step makes none."""
    env = envs.make("CartPole-v1")

    class Dear:
        def __getattr__(self, name):
            return getattr(env.core, name)

        def reset_env(self, key, params):
            obs, state = env.core.reset_env(key, params)
            noise = jax.random.normal(key, (20, 64, 64))
            return obs + 0 * jnp.sum(noise), state

    dear = env._replace(core=Dear())
    done = jnp.ones(8, bool)
    assert started(dear, done, jax.random.key(0), "gpu", monkeypatch)[1]
    key = jax.random.key(0)
    rounds = episodes.keys_of_rounds(key[None], 8)[0]
    (_, a), (_, b) = (started(dear, done, key, "gpu", monkeypatch)[0] for key in (key, rounds))
    assert np.array_equal(a, b)
    assert not started(env, done, jax.random.key(0), "gpu", monkeypatch)[1]
