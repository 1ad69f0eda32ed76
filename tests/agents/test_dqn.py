"""DQN, one update at a time, from a replay of one row; its target network, and how it explores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import probes
from jaxrl_pg import dqn
from jaxrl_pg.components import networks
from programs import shaken

INIT, ITERATE = jax.jit(dqn.init), jax.jit(dqn.iterate)
PROBE = probes.Probe()


def config_of(**values):
    params = {"length": values.pop("length", 5)}
    return dqn.Config(
        **{
            "env": PROBE,
            "env_params": probes.params(base=1, show_cue=1, show_time=1, **params),
            "num_envs": 1,
            "num_steps": 1,
            "num_updates": 1,
            "batch_size": 4,
            "buffer_size": 1,
            "learning_starts": 10,
            "hidden_sizes": (8,),
            "gamma": 0.9,
            "target_period": 2,
            "tau": 0.5,
            **values,
        }
    )


def start(config):
    state = INIT(config, jax.random.key(0))
    params, target = (shaken(state.learner.params, seed) for seed in (1, 6))
    learner = state.learner._replace(params=params, target=target)
    return state._replace(learner=learner, iteration=jnp.int32(1000))


def q_of(config, params, obs):
    _, network = dqn.build(config)
    return np.asarray(network.apply(params, obs)[0], np.float64)


@pytest.mark.parametrize("double_q", [False, True])
@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
def test_the_loss_worked_from_the_networks(length, double_q, rlax):
    """`(Q - r - gamma Q'(s', a'))^2 / 2`; a' is the best by Q' or, doubled, by Q."""
    config = config_of(length=length, double_q=double_q)
    before = start(config)
    after, metrics = ITERATE(config, before)
    row = after.memory.data
    by_target, by_network = (
        q_of(config, params, row.next_obs)[0]
        for params in (before.learner.target, before.learner.params)
    )
    assert np.argmax(by_target) != np.argmax(by_network)  # or both would be the same
    assert bool(row.terminated[0]) == (length == 1)
    best = np.argmax(by_network if double_q else by_target)
    target = 1.0 + (0.0 if length == 1 else 0.9 * by_target[best])
    q, taken = q_of(config, before.learner.params, row.obs)[0], int(row.action[0])
    assert_allclose(metrics["loss/q"], 0.5 * (q[taken] - target) ** 2, rtol=1e-4)
    assert_allclose(metrics["q/mean"], q[taken], rtol=1e-5)
    discount = 0.0 if length == 1 else 0.9
    given = (jnp.asarray(q), taken, 1.0, discount, jnp.asarray(by_target))
    error = rlax.double_q_learning(*given, by_network) if double_q else rlax.q_learning(*given)
    assert_allclose(metrics["loss/q"], 0.5 * error**2, rtol=1e-4)
    moved = q_of(config, after.learner.params, row.obs)[0][taken] - q[taken]
    assert moved * (target - q[taken]) > 0


def test_the_target_network_moves_when_its_time_has_come():
    config = config_of()
    states = [start(config)]
    for _ in range(4):
        states.append(ITERATE(config, states[-1])[0])
    assert [int(state.learner.age) for state in states] == [0, 1, 0, 1, 0]
    for i, moves in enumerate([False, True, False, True]):
        before, after = states[i].learner, states[i + 1].learner
        for old, new, found in zip(
            *map(jax.tree.leaves, (before.target, after.params, after.target)), strict=True
        ):
            assert_allclose(found, 0.5 * (old + new) if moves else old, rtol=1e-5, atol=1e-6)


def test_it_acts_by_its_best_action_and_when_it_samples_by_others_too():
    config = config_of(epsilon_end=0.4)
    learner = start(config).learner
    obs = jax.random.normal(jax.random.key(3), (4, 3))
    q = q_of(config, learner.params, obs)
    assert_allclose(dqn.value(config, learner, obs), q.max(axis=1), rtol=1e-5)
    key = jax.random.key(4)
    assert_array_equal(dqn.act(config, learner, obs, key, True), q.argmax(axis=1))
    many = jnp.repeat(obs, 2000, axis=0)
    drawn = np.asarray(dqn.act(config, learner, many, key, False)).reshape(4, 2000)
    for actions, best in zip(drawn, q.argmax(axis=1), strict=True):
        # 0.6 and a half of 0.4; four tests at 1e-6 each
        assert stats.binomtest(int((actions == best).sum()), 2000, 0.8).pvalue > 1e-6


def test_it_explores_by_its_schedule():
    """In the replay: uniform in the warm-up, and greedy but for epsilon after it."""
    config = config_of(
        num_envs=64, num_steps=16, buffer_size=1024, learning_starts=1024, total_timesteps=40 * 1024
    )
    config = config.replace(epsilon_start=0.9, epsilon_end=0.2, exploration_fraction=0.25)
    before = start(config)._replace(iteration=jnp.int32(0))
    for iteration, share, reported in ((0, 1.0, 0.9), (4, 0.62, 0.62), (20, 0.2, 0.2)):
        # 0.9 - 0.7 * 4 / 10 = 0.62
        after, metrics = ITERATE(config, before._replace(iteration=jnp.int32(iteration)))
        assert_allclose(metrics["epsilon"], reported, rtol=1e-5)
        row = after.memory.data
        best = q_of(config, before.learner.params, row.obs).argmax(axis=1)
        greedy = int((np.asarray(row.action) == best).sum())
        # three tests at 1e-6 each
        assert stats.binomtest(greedy, 1024, 1.0 - share / 2).pvalue > 1e-6


def test_a_fresh_target_network_is_the_network():
    learner = INIT(config_of(), jax.random.key(0)).learner
    for one, other in zip(*map(jax.tree.leaves, (learner.params, learner.target)), strict=True):
        assert_array_equal(one, other)
    assert isinstance(dqn.build(config_of())[1], networks.Network)


def test_real_actions_are_refused():
    config = dqn.Config(env="Pendulum-v1")
    message = r"dqn takes the best of a finite action set and 'Pendulum-v1' has none: .* use sac"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: dqn.init(config, key), jax.random.key(0))
