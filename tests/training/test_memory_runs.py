"""Runs with a recurrent core: on two devices, killed in mid-episode, and resumed."""

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import ppo
from two_devices import CONFIG, OPTIONS, assert_same_state, numbers

# Episodes of five steps and iterations of eight: the runs stop in mid-episode.
CUT = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 5.0}}
MEMORY = CONFIG.replace(**CUT, core="gru", core_size=4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return jaxrl_pg.run(MEMORY, tmp_path_factory.mktemp("memory") / "whole", 3, **OPTIONS)


def test_the_learner_is_the_same_on_both_and_each_remembers_its_own(whole):
    for leaf in numbers(whole.state.learner):
        np.testing.assert_array_equal(*(np.asarray(x.data) for x in leaf.addressable_shards))
    (hidden,) = (np.asarray(x) for x in jax.tree.leaves(whole.state.actor.hidden))
    assert hidden.shape == (8, 4)
    assert np.all(np.any(hidden != 0, axis=1))
    np.testing.assert_array_equal(whole.state.actor.episode_length, 4 * 8 % 5)


def test_a_run_stopped_in_mid_episode_goes_on_bit_for_bit(whole, tmp_path):
    half = MEMORY.replace(total_timesteps=128)
    state = jaxrl_pg.run(half, tmp_path / "half", 3, **{**OPTIONS, "num_evals": 1}).state
    np.testing.assert_array_equal(state.actor.episode_length, 2 * 8 % 5)
    result = jaxrl_pg.resume(tmp_path / "half", total_timesteps=256, quiet=True)
    assert_same_state(result.state, whole.state)
    loaded = jaxrl_pg.load(tmp_path / "half")
    assert_same_state(loaded.state.actor.hidden, whole.state.actor.hidden)
    returns = loaded.evaluate(jax.random.key(0), 4)
    np.testing.assert_array_equal(returns, whole.policy.evaluate(jax.random.key(0), 4))


def test_a_core_is_named_on_the_command_line(tmp_path):
    from jaxrl_pg.cli import main

    args = ["train", "ppo", "--core", "lstm", "--core-size", "3", "--env", "Pendulum-v1"]
    sizes = ["--num-envs", "4", "--num-steps", "4", "--num-minibatches", "2", "--hidden-sizes", "4"]
    steps = ["--total-timesteps", "32", "--run-dir", str(tmp_path / "run"), "--quiet", "True"]
    assert main([*args, *sizes, *steps, "--num-evals", "0"]) == 0
    policy = jaxrl_pg.load(tmp_path / "run")
    assert isinstance(policy.config, ppo.Config)
    assert (policy.config.core, policy.config.core_size) == ("lstm", 3)
    assert [x.shape for x in jax.tree.leaves(policy.start(2))] == [(2, 3), (2, 3)]
