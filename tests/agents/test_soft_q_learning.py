"""Soft Q-learning, one update at a time, from a replay of one row; the optimum is in oracle/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

import probes
from jaxrl_pg import soft_q_learning
from programs import shaken

INIT = jax.jit(soft_q_learning.init)
ITERATE = jax.jit(soft_q_learning.iterate)
PROBE = probes.Probe()
ALPHA = 0.4


def config_of(**params):
    return soft_q_learning.Config(
        env=PROBE,
        env_params=probes.params(base=1, show_cue=1, show_time=1, **params),
        num_envs=1,
        num_steps=1,
        num_updates=1,
        batch_size=4,
        buffer_size=1,
        learning_starts=10,
        hidden_sizes=(8,),
        gamma=0.9,
        alpha=ALPHA,
    )


def start(config):
    state = INIT(config, jax.random.key(0))
    params, target = (shaken(state.learner.params, seed) for seed in (1, 2))
    learner = state.learner._replace(params=params, target=target)
    return state._replace(learner=learner, iteration=jnp.int32(1000))


def q_of(config, params, obs):
    _, network = soft_q_learning.build(config)
    return np.asarray(network.apply(params, obs)[0], np.float64)


@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
def test_the_loss_worked_from_the_networks(length):
    """`(Q - r - gamma alpha log sum exp(Q' / alpha))^2 / 2`, and nothing beyond an end."""
    config = config_of(length=length)
    before = start(config)
    after, metrics = ITERATE(config, before)
    row = after.memory.data
    q_next = q_of(config, before.learner.target, row.next_obs)[0]
    future = ALPHA * np.log(np.sum(np.exp(q_next / ALPHA)))
    assert bool(row.terminated[0]) == (length == 1)
    target = 1.0 + (0.0 if length == 1 else 0.9 * future)
    q = q_of(config, before.learner.params, row.obs)[0]
    taken = q[int(row.action[0])]
    assert_allclose(metrics["loss/q"], 0.5 * (taken - target) ** 2, rtol=1e-4)
    assert_allclose(metrics["q/mean"], taken, rtol=1e-5)
    entropy = stats.entropy(special.softmax(q / ALPHA))
    assert_allclose(metrics["policy/entropy"], entropy, rtol=1e-4)
    assert_allclose(metrics["alpha"], ALPHA)
    # The step goes the way of the target, and the target network follows it by tau.
    moved = q_of(config, after.learner.params, row.obs)[0][int(row.action[0])] - taken
    assert moved * (target - taken) > 0
    for old, new, average in zip(
        *map(jax.tree.leaves, (before.learner.target, after.learner.params, after.learner.target)),
        strict=True,
    ):
        assert_allclose(average, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-6)


def test_values_and_actions_are_those_of_the_boltzmann_policy():
    config = config_of(length=5)
    learner = start(config).learner
    obs = jax.random.normal(jax.random.key(3), (5, 3))
    q = q_of(config, learner.params, obs)
    value = soft_q_learning.value(config, learner, obs)
    assert_allclose(value, ALPHA * special.logsumexp(q / ALPHA, axis=1), rtol=1e-5)
    key = jax.random.key(4)
    greedy = soft_q_learning.act(config, learner, obs, key, True)
    assert_array_equal(greedy, np.argmax(q, axis=1))
    many = jnp.repeat(obs, 2000, axis=0)
    drawn = np.asarray(soft_q_learning.act(config, learner, many, key, False)).reshape(5, 2000)
    for actions, expected in zip(drawn, special.softmax(q / ALPHA, axis=1), strict=True):
        assert stats.binomtest(int(actions.sum()), 2000, expected[1]).pvalue > 1e-6


def test_real_actions_are_refused():
    config = soft_q_learning.Config(env="Pendulum-v1")
    with pytest.raises(ValueError, match=r"sums over a finite action set and 'Pendulum-v1' has"):
        jax.eval_shape(lambda key: soft_q_learning.init(config, key), jax.random.key(0))
