"""Environments whose parameters are arrays, of an MDP say, in all functions of the front door."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import config, ppo
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.theory import builders
from programs import TINY


@pytest.fixture(scope="module")
def given():
    first, second = (builders.random_mdp(jax.random.key(i), 3, 2, 0.9) for i in range(2))
    params = from_mdp.params_of(second)
    env = from_mdp.from_mdp(first, 5)
    return ppo.Config(env=env, env_params=params, total_timesteps=32, **TINY)


def test_it_is_trained_evaluated_and_trained_on(given):
    state, _ = jaxrl_pg.train(given, jax.random.key(0))
    further, _ = jaxrl_pg.iterate(given, state, 1)
    assert int(further.iteration) == 3
    assert jnp.all(jnp.isfinite(jaxrl_pg.evaluate(given, state, jax.random.key(1), 2)))
    adopted = jaxrl_pg.init(given, jax.random.key(2), initial_policy=state.learner)
    assert adopted.iteration == 0


def test_a_run_of_it_goes_on_with_the_same_numbers(given, tmp_path):
    jaxrl_pg.run(given, tmp_path / "run", quiet=True, num_eval_episodes=1)
    jaxrl_pg.resume(tmp_path / "run", 64, env=given.env, quiet=True)
    policy = jaxrl_pg.load(tmp_path / "run", env=given.env)
    assert policy.step == 4
    for name, value in given.env_params.items():
        assert np.array_equal(policy.config.env_params[name], value)


def test_lists_that_are_no_arrays_are_refused(given):
    with pytest.raises(ValueError, match="give an array of numbers"):
        given.replace(env_params={"reward": [[1.0], [2.0, 3.0]]})
    written = config.to_dict(given)
    assert isinstance(written["env_params"]["reward"], list)
    assert config.from_dict(ppo.Config, {**written, "env": given.env}).env_params.keys()
