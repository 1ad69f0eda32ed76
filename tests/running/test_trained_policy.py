"""A policy out of a run folder: the same actions, in the environment's own units."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import (
    analytical_replay,
    checkpoint,
    ddpg,
    dqn,
    envs,
    multi_agent,
    ppo,
    pqn,
    sac,
    soft_q_learning,
)
from jaxrl_pg.config import agent_of
from jaxrl_pg.running import trained_policy
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import devices
from jaxrl_pg.types import TrainState
from programs import SMALL, SMALL_REPLAY, shaken

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_epochs": 1,
    "num_minibatches": 1,
    "hidden_sizes": (8, 8),
    "total_timesteps": 128,
}
PENDULUM = ppo.Config(**SIZES, env="Pendulum-v1", normalize_obs=True, learning_rate=0.01)

PLAYERS = multi_agent.Config(env="CartPole-v1", factors=(1, 2), normalize_obs=True, **SMALL)


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


def test_values_are_the_critics_for_one_observation_and_for_batches(policy, obs):
    agent = agent_of(PENDULUM)
    expected = agent.value(PENDULUM, policy.state.learner, jnp.asarray(obs))
    values = policy.value(obs)
    assert (values.shape, values.dtype) == ((64,), jnp.float32)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    assert policy.value(obs[0]).shape == ()
    np.testing.assert_allclose(policy.value(obs[0]), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        policy.value(obs[:6].reshape(2, 3, 3)), expected[:6].reshape(2, 3), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match=r"obs has shape \(2,\): give \(3,\) or a batch of them"):
        policy.value(np.zeros(2))


def test_evaluating_a_policy_is_evaluating_its_state(policy):
    key = jax.random.key(5)
    for how in (True, False):
        expected = jaxrl_pg.evaluate(PENDULUM, policy.state, key, 3, how)
        np.testing.assert_array_equal(policy.evaluate(key, 3, how), expected)
    returns = policy.evaluate(key)
    assert returns.shape == (128,)
    np.testing.assert_array_equal(policy.evaluate(key, 128, True), returns)


def test_a_policy_may_be_traced(policy, obs):
    np.testing.assert_allclose(jax.jit(policy)(obs), policy(obs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(policy)(obs), policy(obs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(policy.value)(obs), policy.value(obs), rtol=1e-5, atol=1e-6)


def test_a_second_call_makes_no_environment_and_traces_nothing(policy, obs, monkeypatch):
    """Both take milliseconds, and acting takes microseconds."""
    calls = (
        lambda: policy(obs),
        lambda: policy(obs[0]),
        lambda: policy(obs, jax.random.key(2)),
        lambda: policy.value(obs),
    )
    before = [np.asarray(call()) for call in calls]

    def refuse(*_, **__):
        raise AssertionError

    for place, name in ((jax, "eval_shape"), (envs, "of"), (jax, "make_jaxpr")):
        monkeypatch.setattr(place, name, refuse)
    programs = trained_policy._act._cache_size(), trained_policy._value._cache_size()
    for call, expected in zip(calls, before, strict=True):
        np.testing.assert_array_equal(call(), expected)
    assert programs == (trained_policy._act._cache_size(), trained_policy._value._cache_size())


def test_a_config_that_is_changed_is_heeded(policy, obs):
    other = Policy(PENDULUM, policy.state, 0)
    other(obs)
    other.config = ppo.Config(**SIZES, env="CartPole-v1")
    with pytest.raises(ValueError, match=r"obs has shape \(64, 3\): give \(4,\)"):
        other(obs)


@pytest.fixture(scope="module")
def saved(policy, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "new" / "policy"
    policy.save(path)
    return path


def test_a_saved_policy_acts_values_and_evaluates_as_before(policy, saved, obs):
    again, key = jaxrl_pg.load(saved), jax.random.key(2)
    assert (again.config, again.step) == (PENDULUM, 2)
    np.testing.assert_array_equal(again(obs), policy(obs))
    np.testing.assert_array_equal(again(obs, key), policy(obs, key))
    np.testing.assert_array_equal(again.value(obs), policy.value(obs))
    np.testing.assert_array_equal(again.evaluate(key, 3), policy.evaluate(key, 3))


def test_it_holds_the_parameters_and_the_normaliser_and_nothing_else(policy, saved):
    leaves = set(checkpoint.manifest.read(saved)["leaves"])
    learner = policy.state.learner
    expected = {"learner": {"params": learner.params, "normalizer": learner.normalizer}}
    assert leaves == {*checkpoint.spec(expected), "iteration"}
    assert jaxrl_pg.load(saved).state.actor == ()


def test_a_saved_policy_can_be_saved_again(saved, tmp_path):
    jaxrl_pg.load(saved).save(tmp_path / "again")
    both = [checkpoint.manifest.read(path)["leaves"] for path in (saved, tmp_path / "again")]
    assert both[0] == both[1]


def test_nothing_is_overwritten(policy, saved):
    with pytest.raises(ValueError, match=r"policy exists: choose another path, or remove it first"):
        policy.save(saved)


def test_a_saved_policy_that_is_damaged_or_is_something_else_is_refused(saved, result, tmp_path):
    with pytest.raises(ValueError, match=r"step=3 but .* is a single policy: leave step out"):
        jaxrl_pg.load(saved, step=3)
    with pytest.raises(ValueError, match=r"is one checkpoint of a run: load the run's folder"):
        jaxrl_pg.load(result.run_dir / "checkpoints" / "2")
    for name, damaged in (("_CHECKPOINT_METADATA", "manifest"), ("state/manifest.ocdbt", "leaf")):
        copied = shutil.copytree(saved, tmp_path / damaged)
        data = bytearray((copied / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copied / name).write_bytes(data)
        with pytest.raises(
            ValueError, match=rf"{damaged} is damaged \({damaged}.*\): save it again"
        ):
            jaxrl_pg.load(copied)


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (sac.Config(env="Pendulum-v1", **SMALL_REPLAY), ["params"]),
        (ddpg.Config(**SMALL_REPLAY), ["params"]),
        (soft_q_learning.Config(env="CartPole-v1", **SMALL_REPLAY), ["params"]),
        (soft_q_learning.Config(env="Pendulum-v1", **SMALL_REPLAY), ["params", "sampler"]),
        (analytical_replay.Config(env="CartPole-v1", **SMALL_REPLAY), ["params"]),
        (dqn.Config(env="CartPole-v1", **SMALL_REPLAY), ["params"]),
        (pqn.Config(env="CartPole-v1", normalize_obs=True, **SMALL), ["params", "normalizer"]),
        (PLAYERS, ["params", "normalizer"]),
        # Acting asks the normaliser, but reads no statistics of rewards.
        (ppo.Config(env="CartPole-v1", normalize_reward=True, **SMALL), ["params"]),
    ],
    ids=[
        "sac",
        "ddpg",
        "soft_q_learning",
        "soft_q_learning-box",
        "analytical_replay",
        "dqn",
        "pqn",
        "multi_agent",
        "ppo",
    ],
)
def test_other_agents_policies_are_saved_without_what_only_learning_needs(config, fields, tmp_path):
    shapes = devices.state_shapes(config)
    learner = shaken(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes.learner), 0)
    policy = Policy(config, TrainState(learner, (), (), (), jnp.int32(7)), 7)
    policy.save(tmp_path / "policy")
    again = jaxrl_pg.load(tmp_path / "policy")
    kept = again.state.learner._asdict()
    assert [name for name, part in kept.items() if jax.tree.leaves(part)] == fields
    obs = jnp.ones((5, *envs.make(config.env, config.env_params).spec.obs_shape))
    np.testing.assert_array_equal(again(obs, jax.random.key(1)), policy(obs, jax.random.key(1)))
    np.testing.assert_array_equal(again.value(obs), policy.value(obs))


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


def test_a_checkpoint_is_asked_for_by_name_or_number(result):
    directory, run = (
        result.run_dir / "checkpoints",
        json.loads((result.run_dir / "config.json").read_text())["run"],
    )
    metrics = {
        step: checkpoint.manifest.read(directory / str(step))["metric"]
        for step in checkpoint.steps(directory)
    }
    best = max(metrics, key=lambda step: (metrics[step], step))
    assert jaxrl_pg.load(result.run_dir, step="best").step == best
    assert checkpoint.step_of(directory, "latest", run) is None
    assert checkpoint.step_of(directory, 1, run) == checkpoint.step_of(directory, "1", run) == 1
    for wrong in ("newest", -1, 1.5, True):
        with pytest.raises(ValueError, match=r"give latest, best, or one of \[1, 2\]"):
            jaxrl_pg.load(result.run_dir, step=wrong)


def test_without_an_evaluation_no_checkpoint_is_the_best(tmp_path):
    with checkpoint.Checkpoints(tmp_path / "saves") as saves:
        for step, metric in ((1, None), (2, 3.0), (3, 3.0), (4, 2.0)):
            saves.save(step, {"x": np.float32(step)}, {}, metric)
            if step == 1:
                saves.wait()
                with pytest.raises(
                    ValueError, match=r"was evaluated: give latest, or one of \[1\]"
                ):
                    checkpoint.step_of(tmp_path / "saves", "best")
    assert checkpoint.step_of(tmp_path / "saves", "best") == 3  # the newest of equal ones
