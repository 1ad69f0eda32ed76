"""One notion of an episode's end: where the environment says so, in training and evaluation."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from lines import variant
from numpy.testing import assert_array_equal

from jaxrl_pg import envs, ppo, reinforce
from jaxrl_pg.components import rollout
from jaxrl_pg.training import evaluation


def later(steps):
    """An environment that truncates later than its parameter says, and pays 1 a step."""

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        return self.get_obs(state), state, 1.0, jnp.array(False), {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode + steps

    return variant(step_env=step_env, is_truncated=is_truncated)


def episodes(env):
    def idle(obs, key, hidden):
        return jnp.zeros(obs.shape[0], jnp.int32), hidden

    return jax.jit(partial(rollout.whole_episodes, env, idle, num_episodes=3))(jax.random.key(0))


@pytest.mark.parametrize("steps", [1, 40])
def test_an_episode_is_played_until_the_environment_ends_it(steps):
    played = episodes(envs.make(later(steps), {"max_steps_in_episode": 3}))
    assert_array_equal(played.lengths, [3 + steps] * 3)
    assert_array_equal(played.returns, [3.0 + steps] * 3)
    assert played.finished.all()


def test_one_that_never_ends_is_given_up_and_said_to_be(monkeypatch):
    monkeypatch.setattr(envs.vector, "NO_LIMIT", 7)
    sizes = {"num_envs": 2, "num_steps": 2, "num_minibatches": 2, "hidden_sizes": (2,)}
    config = ppo.Config(env=later(10**6), env_params={"max_steps_in_episode": 5}, **sizes)
    state = jax.jit(ppo.init)(config, jax.random.key(0))
    played = evaluation.evaluate_episodes(config, state, jax.random.key(1), 2, True)
    assert_array_equal(played.lengths, [10, 10])  # twice the limit, which is more than 7
    assert not played.finished.any()
    returns = evaluation.evaluate(config, state, jax.random.key(1), 2)
    assert jnp.isnan(returns).all()
    metrics = evaluation.evaluation_metrics(config, state, 2)
    assert metrics["eval/finished"] == 0.0
    assert jnp.isnan(metrics["eval/return_mean"])
    assert jnp.isnan(metrics["eval/length_mean"])


def test_given_up_after_twice_the_limit_or_100_000_steps():
    for limit, most in ((500, 100_000), (60_000, 120_000), (2**30, 2**31 - 2)):
        env = envs.make("CartPole-v1", {"max_steps_in_episode": limit})
        assert rollout.most_steps(env) == most


def test_reinforce_leaves_a_late_truncation_its_time():
    """An episode counts if it had the time to end, the environment's and not its parameter's."""
    assert envs.time_limit(envs.make(later(0))) == 4
    assert envs.time_limit(envs.make(later(2))) == 6
    assert envs.time_limit(envs.make(later(10**6))) == 4  # not within the steps that are looked at
    limit = jax.jit(lambda x: envs.time_limit(envs.make(later(1), {"max_steps_in_episode": x})))
    assert limit(9.0) == 10
    config = reinforce.Config(env=later(1), num_steps=4)
    with pytest.raises(ValueError, match=r"num_steps=4 and an episode of .* may take 5"):
        jax.eval_shape(reinforce.init, config, jax.random.key(0))
    jax.eval_shape(reinforce.init, config.replace(num_steps=5), jax.random.key(0))
