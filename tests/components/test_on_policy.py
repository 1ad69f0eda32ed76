"""What a rollout keeps for learning: values of final observations, read only where they count."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import probes
from jaxrl_pg import envs
from jaxrl_pg.components import normalize, on_policy, rollout
from jaxrl_pg.ops import distributions
from jaxrl_pg.types import TrainState

B, T, ROLLOUTS, LIMIT = 8, 5, 12, 12


class Model(NamedTuple):
    """Falls over soon, in a way that depends on the observation and the noise."""

    env: envs.Env
    read: Callable[[jax.Array], jax.Array]
    family: distributions.Distribution = distributions.CATEGORICAL

    def policy(self, learner, obs):
        del learner
        lean = obs @ jnp.ones(obs.shape[1])
        return jnp.stack([-2.0 * lean, jnp.zeros_like(lean)], axis=1)

    def value(self, learner, obs):
        del learner
        return self.read(obs)


def value(obs):
    return 3.0 + obs @ jnp.array([1.0, -2.0, 5.0, 0.5])


def no_value(obs):
    return jnp.full(obs.shape[0], jnp.nan)


def config(num_steps):
    return SimpleNamespace(num_steps=num_steps, gamma=0.9, network=None)


def state_of(actor):
    learner = on_policy.Learner((), (), normalize.Normalizer((), ()))
    return TrainState(learner, actor, (), jax.random.key(1), jnp.zeros((), jnp.int32))


@pytest.fixture(scope="module")
def gathered():
    """The steps of consecutive rollouts, and final observations of a plain loop over them."""
    # With a limit at which some episodes fall, some are cut off, and some both at once.
    env = envs.make("CartPole-v1", {"max_steps_in_episode": LIMIT})
    gather = jax.jit(partial(on_policy.gather, config(T), Model(env, value)))
    step = jax.jit(partial(envs.step, env))
    state, rollouts, final_obs = state_of(rollout.start(env, jax.random.key(0), B)), [], []
    for _ in range(ROLLOUTS):
        experience = gather(state)
        _, _, env_key, _ = jax.random.split(state.key, 4)
        env_state = state.actor.env_state
        for t, keys in enumerate(jax.random.split(env_key, (T, 2))):
            env_state, timestep = step(*keys, env_state, experience.steps.action[t])
            assert_array_equal(experience.steps.truncated[t], timestep.truncated)
            final_obs.append(timestep.final_obs)
        rollouts.append(experience.steps)
        state = state._replace(actor=experience.actor, key=experience.next_key)
    return jax.tree.map(lambda *x: np.concatenate(x), *rollouts), np.stack(final_obs)


def test_final_value_is_the_value_of_the_final_observation_where_only_cut_off(gathered):
    steps, final_obs = gathered
    cut = steps.truncated & ~steps.terminated
    assert np.any(cut)
    assert np.any(steps.truncated & steps.terminated)
    assert np.any(~steps.truncated & steps.terminated)
    assert_allclose(steps.final_value[cut], value(final_obs[cut]), rtol=1e-5, atol=1e-5)
    assert_array_equal(steps.final_value[~cut], 0.0)


def test_the_value_is_read_nowhere_else():
    """A value that is NaN everywhere shows exactly where it was read."""
    env = envs.make(probes.Probe(), {"length": 3.0, "max_steps_in_episode": 2.0})
    start, model = rollout.start(env, jax.random.key(0), B), Model(env, no_value)
    # Environments 0 to 3 are a step ahead in their episode but terminate a step before the limit.
    state = start.env_state.replace(time=jnp.where(jnp.arange(B) < 4, 2, 0))
    start = start._replace(env_state=state)
    experience = on_policy.gather(config(1), model, state_of(start))
    steps = experience.steps
    assert_array_equal(steps.terminated[0], np.arange(B) < 4)
    assert_array_equal(steps.truncated[0], np.arange(B) < 4)
    assert_array_equal(steps.final_value, 0.0)
    assert experience.episodes["episodes"] == 4
    state = start.env_state.replace(time=jnp.where(jnp.arange(B) < 4, 1, 0))
    start = start._replace(env_state=state)
    steps = on_policy.gather(config(1), model, state_of(start)).steps
    assert_array_equal(np.isnan(steps.final_value[0]), np.arange(B) < 4)
