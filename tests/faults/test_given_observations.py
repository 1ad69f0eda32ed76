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


def image(dtype, **changes):
    """A line that is seen as an image of bytes (or of another type), whatever its space says."""
    looks = {"observations": spaces.Box(0, 255, (3, 3, 1)), **changes}
    get_obs = lambda self, state, *_: jnp.full((3, 3, 1), state.position, dtype)  # noqa: E731
    return envs.make(variant(get_obs=get_obs, **looks))


BYTES = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1) * 31


@pytest.mark.parametrize(
    "env",
    [
        image(jnp.uint8),
        image(jnp.uint8, observations=spaces.Box(0, 255, (3, 3, 1), jnp.uint8)),
        envs.of(ppo.Config(env=image(jnp.uint8).core, frame_stack=2)),
    ],
    ids=["undeclared", "declared", "stacked"],
)
def test_an_image_of_bytes_is_one_in_whatever_type_it_is_given(env):
    seen = np.concatenate([BYTES] * env.spec.obs_shape[-1], axis=-1)
    for same in (seen, seen.astype(int), seen.tolist(), seen.astype(np.float32), jnp.int32(seen)):
        rows, _ = envs.as_rows(env, same)
        assert rows.dtype == jnp.uint8
        assert_array_equal(rows, seen)
    read = lambda x: envs.as_rows(env, x)[0]  # noqa: E731
    assert jax.eval_shape(read, seen.astype(np.int32)).dtype == jnp.uint8
    for wrong, said in ((seen + 0.5, "0.5"), (seen - 1.0, "-1.0"), (seen * np.nan, "nan")):
        message = rf"obs is float32\[.*\] \({said}\), and the environment gives bytes: give uint8"
        with pytest.raises(ValueError, match=message):
            read(wrong)
    with pytest.raises(ValueError, match=r"\(256\), and the environment gives bytes"):
        read(seen.astype(int) + 256 * (seen == 0))
    with pytest.raises(ValueError, match=r"obs is float32\[.*\] \(traced\), and the environment"):
        jax.eval_shape(read, seen.astype(np.float32))


def test_other_images_stay_as_they_are_given():
    """A space may promise bytes where training has seen floats, which nothing divides by 255."""
    env = image(jnp.float32, observations=spaces.Box(0, 255, (3, 3, 1), jnp.uint8))
    for given in (BYTES + 0.5, BYTES.astype(int)):
        rows, _ = envs.as_rows(env, given)
        assert rows.dtype == jnp.float32
        assert_array_equal(rows, given)
