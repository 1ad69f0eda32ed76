"""A policy out of a run folder: the same actions, in the environment's own units."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import envs, ppo
from jaxrl_pg.config import agent_of
from jaxrl_pg.running.trained_policy import Policy

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_epochs": 1,
    "num_minibatches": 1,
    "hidden_sizes": (8, 8),
    "total_timesteps": 128,
}
PENDULUM = ppo.Config(**SIZES, env="Pendulum-v1", normalize_obs=True, learning_rate=0.01)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy") / "run"
    return jaxrl_pg.run(PENDULUM, folder, quiet=True, num_evals=2, num_eval_episodes=1)


@pytest.fixture(scope="module")
def policy(result):
    return jaxrl_pg.load(result.run_dir)


@pytest.fixture(scope="module")
def obs():
    return np.asarray(3 * jax.random.normal(jax.random.key(1), (64, 3)))


def test_a_loaded_policy_is_the_trained_one(result, policy, obs):
    trained = Policy(result.config, result.state, 2)
    assert policy.config == PENDULUM
    assert policy.step == 2
    np.testing.assert_array_equal(policy(obs), trained(obs))
    key = jax.random.key(2)
    np.testing.assert_array_equal(policy(obs, key), trained(obs, key))


def test_an_earlier_checkpoint_is_another_policy(result, policy, obs):
    first = jaxrl_pg.load(result.run_dir, step=1)
    assert first.step == int(first.state.iteration) == 1
    assert not np.array_equal(first(obs), policy(obs))
    with pytest.raises(ValueError, match=r"no checkpoint 7 in .*: choose from \[1, 2\]"):
        jaxrl_pg.load(result.run_dir, step=7)


def test_one_observation_a_batch_and_a_batch_of_batches(policy, obs):
    batch = policy(obs)
    assert (batch.shape, batch.dtype) == ((64, 1), jnp.float32)
    assert policy(obs[0]).shape == (1,)
    assert policy(list(map(float, obs[0]))).shape == (1,)
    assert policy(obs[:6].reshape(2, 3, 3)).shape == (2, 3, 1)
    np.testing.assert_allclose(policy(obs[0]), batch[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        policy(obs[:6].reshape(2, 3, 3)).reshape(6, 1), batch[:6], rtol=1e-5, atol=1e-6
    )


def test_actions_are_the_environments_and_within_its_bounds(policy, obs):
    sampled = policy(obs, jax.random.key(0))
    assert np.all(np.abs(sampled) <= 2.0)
    # A standard deviation of about 1 fills the bounds [-2, 2], which are twice the raw ones.
    assert np.max(np.abs(sampled)) == 2.0
    assert 0.5 < np.std(sampled) < 2.0
    agent, learner = agent_of(PENDULUM), policy.state.learner
    raw = agent.act(PENDULUM, learner, jnp.asarray(obs), jax.random.key(0), False)
    expected = np.clip(2.0 * np.asarray(raw), -2.0, 2.0)
    np.testing.assert_allclose(sampled, expected, rtol=1e-5, atol=1e-5)


def test_without_a_key_it_is_deterministic_and_with_one_it_samples(policy, obs):
    np.testing.assert_array_equal(policy(obs), policy(obs))
    one, other = (policy(obs, jax.random.key(seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, policy(obs, jax.random.key(0)))


def test_the_normaliser_comes_with_it(policy, obs):
    fresh = agent_of(PENDULUM).init(PENDULUM, jax.random.key(0)).learner
    forgetful = fresh._replace(params=policy.state.learner.params)
    without = Policy(PENDULUM, policy.state._replace(learner=forgetful), 2)
    assert np.max(np.abs(without(obs) - policy(obs))) > 1e-3


def test_an_image_is_one_observation_and_a_discrete_action_has_no_axis():
    config = ppo.Config(**SIZES, env="Breakout-MinAtar", conv_features=2)
    spec = envs.make("Breakout-MinAtar").spec
    policy = Policy(config, jax.jit(ppo.init)(config, jax.random.key(0)), 0)
    assert policy(jnp.zeros(spec.obs_shape)).shape == ()
    actions = policy(jnp.zeros((64, *spec.obs_shape)), jax.random.key(0))
    assert actions.shape == (64,)
    assert jnp.issubdtype(actions.dtype, jnp.integer)
    assert set(np.unique(actions)) == set(range(spec.num_actions))


@pytest.mark.parametrize("shape", [(), (2,), (4,), (3, 5), (3, 3, 1)])
def test_another_shape_is_refused(policy, shape):
    with pytest.raises(ValueError, match=r"obs has shape .*: give \(3,\) or a batch of them"):
        policy(np.zeros(shape, np.float32))


def test_what_is_no_run_is_refused(result, tmp_path):
    with pytest.raises(ValueError, match="no run in"):
        jaxrl_pg.load(tmp_path / "nothing")
    shutil.copytree(result.run_dir, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "agent": "pppo"}))
    with pytest.raises(ValueError, match=r"is a run of 'pppo': did you mean 'ppo'\?"):
        jaxrl_pg.load(tmp_path / "run")
    path.write_text(json.dumps(values))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="no checkpoint in"):
        jaxrl_pg.load(tmp_path / "run")
