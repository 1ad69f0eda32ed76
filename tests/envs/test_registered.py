"""Every environment that gymnax registers: it makes, resets and steps as declared."""

from functools import cache, partial

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from jaxrl_pg import envs

B, T = 3, 3
# Downloads its images when it is made, and decodes their pixels wrongly.
UNUSABLE = {"MNISTBandit-bsuite"}
USABLE = [env_id for env_id in gymnax.registered_envs if env_id not in UNUSABLE]


@pytest.fixture(autouse=True)
def _ranks_of_gymnax():
    """Swimmer's own code promotes ranks."""
    with jax.numpy_rank_promotion("allow"):
        yield


def run(env, key):
    """Reset and `T` steps of random actions: first observations, last state and all steps."""
    reset_key, scan_key = jax.random.split(key)

    def body(state, key):
        step_key, again_key, action_key = jax.random.split(key, 3)
        if env.spec.discrete:
            action = jax.random.randint(action_key, (B,), 0, env.spec.num_actions)
        else:
            action = jax.random.normal(action_key, (B, *env.spec.action_shape))
        return envs.step(env, step_key, again_key, state, action)

    start, obs = envs.reset(env, reset_key, B)
    state, timesteps = jax.lax.scan(body, start, jax.random.split(scan_key, T))
    return start, obs, state, timesteps


@cache
def program_of(env_id):
    """Return the environment and its `run`, so that what is traced for shapes is what is run."""
    env = envs.make(env_id)
    return env, jax.jit(partial(run, env))


def test_the_list_is_complete():
    assert len(USABLE) >= 25
    assert set(gymnax.registered_envs) >= UNUSABLE


@pytest.mark.parametrize("env_id", USABLE)
def test_shapes_and_types(env_id):
    """As the spec says, without compiling anything; a step's types are those of a reset."""
    env, compiled = program_of(env_id)
    start, obs, state, timesteps = compiled.eval_shape(jax.random.key(0))
    assert obs.shape == (B, *env.spec.obs_shape)
    assert timesteps.obs.shape == timesteps.final_obs.shape == (T, B, *env.spec.obs_shape)
    assert timesteps.obs.dtype == timesteps.final_obs.dtype == obs.dtype
    for flag in (timesteps.terminated, timesteps.truncated):
        assert (flag.shape, flag.dtype) == ((T, B), jnp.bool_)
    assert (timesteps.reward.shape, timesteps.reward.dtype) == ((T, B), jnp.float32)
    signature = partial(jax.tree.map, lambda x: (x.shape, x.dtype, x.weak_type))
    assert signature(start) == signature(state)
    assert not any(x.weak_type for x in jax.tree.leaves((start, obs)))


@pytest.mark.parametrize("env_id", USABLE)
def test_the_spec_is_the_declared_space(env_id):
    env = envs.make(env_id)
    obs_space, action_space = (
        space(env.params) for space in (env.core.observation_space, env.core.action_space)
    )
    discrete_obs = isinstance(obs_space, spaces.Discrete)
    assert env.spec.obs_shape == ((obs_space.n,) if discrete_obs else obs_space.shape)
    assert env.spec.discrete == isinstance(action_space, spaces.Discrete)
    assert env.spec.action_shape == action_space.shape
    expected = action_space.n if env.spec.discrete else action_space.shape[0]
    assert env.spec.num_actions == expected


@pytest.mark.parametrize("env_id", USABLE)
def test_three_steps_are_finite(env_id):
    env, compiled = program_of(env_id)
    _, obs, _, timesteps = compiled(jax.random.key(1))
    for x in (obs, timesteps.obs, timesteps.final_obs, timesteps.reward):
        assert np.all(np.isfinite(np.asarray(x, np.float32)))
    if isinstance(env.core.observation_space(env.params), spaces.Discrete):
        assert np.all(obs.sum(-1) == 1)
        assert np.all(timesteps.final_obs.sum(-1) == 1)
