"""Observations are given as the environment gives them, to whatever reads them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from lines import Cells, variant
from numpy.testing import assert_array_equal

import jaxrl_pg
from jaxrl_pg import (
    analytical_replay,
    dqn,
    envs,
    multi_agent,
    off_policy_actor_critic,
    ppo,
    pqn,
    sac,
    soft_q_learning,
)
from jaxrl_pg.running.trained_policy import Policy

SMALL = {"num_envs": 4, "num_steps": 4, "hidden_sizes": (4,)}
REPLAY = {**SMALL, "buffer_size": 16, "batch_size": 8}
CELLS = Cells()
SCALAR = variant(
    observations=spaces.Box(-9.0, 9.0, ()), get_obs=lambda self, state, _: state.position
)
CONFIGS = [
    ppo.Config(env=CELLS, num_minibatches=2, normalize_obs=True, **SMALL),
    multi_agent.Config(env=CELLS, num_minibatches=2, factors=(2,), **SMALL),
    off_policy_actor_critic.Config(env=CELLS, buffer_size=16, **SMALL),
    sac.Config(env=CELLS, **REPLAY),
    soft_q_learning.Config(env=CELLS, **REPLAY),
    pqn.Config(env=CELLS, num_minibatches=2, normalize_obs=True, **SMALL),
    dqn.Config(env=CELLS, **REPLAY),
    analytical_replay.Config(env=CELLS, **REPLAY),
]


def fresh(config):
    return jax.eval_shape(config.agent.init, config, jax.random.key(0))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.agent.name)
def test_an_agent_acts_and_values_alike_at_cells_and_at_what_a_network_reads_of_them(config):
    """The same shapes and, for the program is the same behind, the same numbers."""
    agent, learner, key = config.agent, fresh(config).learner, jax.random.key(0)
    read = jax.nn.one_hot(jnp.arange(3), 3)
    for cells in (jnp.arange(3), np.arange(3, dtype=np.int8)):
        value = jax.make_jaxpr(partial(agent.value, config))(learner, cells)
        assert [x.shape for x in value.out_avals] == [(3,)]
        acted = jax.eval_shape(lambda x, c=cells: agent.act(config, x, c, key, True), learner)
        assert acted.shape == (3,)
    assert_array_equal(envs.batch(envs.make(CELLS), jnp.arange(3)), read)
    assert envs.batch(envs.make(CELLS), read) is read
    with pytest.raises(ValueError, match=r"give a batch \[N, ...\] of a whole number from 0 to 2"):
        jax.eval_shape(lambda x: agent.value(config, x, 1), learner)


@pytest.fixture(scope="module")
def policy():
    state = jax.jit(ppo.init)(CONFIGS[0], jax.random.key(0))
    return Policy(CONFIGS[0], state, 0)


def test_one_cell_is_one_observation(policy):
    assert policy(2).shape == policy(np.int64(2)).shape == policy.value(2).shape == ()
    assert policy(jnp.arange(3)).shape == policy([0, 1, 2]).shape == (3,)
    assert (
        policy(jnp.zeros((2, 5), int)).shape == policy.value(np.zeros((2, 5), int)).shape == (2, 5)
    )
    assert jax.vmap(policy)(jnp.arange(3)).shape == (3,)


def test_all_ways_to_a_value_agree(policy):
    config, state, cells = policy.config, policy.state, jnp.arange(3)
    values = jaxrl_pg.value(config, state, cells)
    for same in (
        policy.value(cells),
        jnp.stack([jaxrl_pg.value(config, state, i) for i in range(3)]),
        ppo.value(config, state.learner, cells),
        ppo.value(config, state.learner, jnp.eye(3)),
    ):
        np.testing.assert_allclose(values, same, rtol=1e-5)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (3, r"obs=3: give a whole number from 0 to 2 or a batch of them"),
        ([[0, -1]], "obs=-1: give"),
        (1.0, r"obs is float32\[\]: give a whole number"),
        (np.eye(3), r"obs is float32\[3, 3\]: give a whole number"),
        (True, r"obs is bool\[\]: give"),
        ("left", "obs='left' is no array: give"),
        ({"cell": 1}, "is no array: give"),
        (None, "obs=None is no array"),
    ],
)
def test_what_is_no_cell_is_refused(policy, obs, message):
    for read in (policy, policy.value, partial(jaxrl_pg.value, policy.config, policy.state)):
        with pytest.raises(ValueError, match=message):
            read(obs)


def test_a_number_without_axes_is_one_observation():
    config = ppo.Config(env=SCALAR, num_minibatches=2, **SMALL)
    state = fresh(config)
    for shape in ((), (5,), (2, 1)):
        value = jax.eval_shape(partial(jaxrl_pg.value, config), state, jnp.zeros(shape))
        assert value.shape == shape
    for batch in (jnp.zeros(5), jnp.zeros((5, 1))):
        assert jax.eval_shape(partial(ppo.value, config), state.learner, batch).shape == (5,)


def test_arrays_of_another_shape_or_type_are_refused():
    env = envs.make("Pendulum-v1")
    assert envs.as_rows(env, np.zeros((7, 2, 3)))[0].shape == (14, 3)
    assert envs.as_rows(env, np.zeros(3, np.int16))[0].dtype == jnp.float32
    for obs, message in (
        (np.zeros((3, 2)), r"obs has shape \(3, 2\): give \(3,\) or a batch of them"),
        (1.0, r"obs has shape \(\): give \(3,\)"),
        (np.zeros(3, complex), r"obs is complex64\[3\]: give"),
    ):
        with pytest.raises(ValueError, match=message):
            envs.as_rows(env, obs)
