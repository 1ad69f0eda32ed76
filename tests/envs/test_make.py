"""Making environments: parameters, errors, one's own, and the stretching of actions."""

import os
import subprocess
import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg import envs
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.types import EnvSpec


@struct.dataclass
class WalkState(environment.EnvState):
    position: jax.Array
    key: jax.Array


class Walk(environment.Environment):
    """One's own environment, as a user would write it: a walk on a line, +1 beyond 3.

    Its state holds a random key, its observation is a scalar, its reward an integer and its
    flag a NumPy-like boolean array.
    """

    def __init__(self, actions: Any = None, observations: Any = None) -> None:
        self.actions = actions or spaces.Box(-1.0, 3.0, (1,))
        self.observations = observations or spaces.Box(-jnp.inf, jnp.inf, ())

    @property
    def default_params(self) -> environment.EnvParams:
        return environment.EnvParams(max_steps_in_episode=4)

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, WalkState]:
        state = WalkState(time=0, position=jnp.zeros(()), key=key)
        return state.position, state

    def step_env(self, key: jax.Array, state: WalkState, action: Any, params: Any) -> Any:
        position = state.position + jnp.sum(action)
        state = state.replace(time=state.time + 1, position=position)
        beyond = position > 3.0
        return position, state, jnp.where(beyond, 1, 0), beyond, {}

    def action_space(self, params: Any) -> Any:
        return self.actions

    def observation_space(self, params: Any) -> Any:
        return self.observations


@struct.dataclass
class Unlimited:
    """Parameters without a time limit."""

    size: float = 1.0


class Plane(Walk):
    """Three action dimensions with bounds of their own: finite, half-finite, infinite."""

    def __init__(self) -> None:
        super().__init__(
            spaces.Box(jnp.array([-4.0, 0.0, -jnp.inf]), jnp.array([2.0, jnp.inf, jnp.inf]), (3,))
        )

    @property
    def default_params(self) -> Any:
        return Unlimited()

    def is_truncated(self, state: WalkState, params: Any) -> jax.Array:
        return jnp.array(False)


def jitted(env):
    return jax.jit(partial(envs.step, env))


def test_a_time_limit_of_five_truncates_after_five():
    env = envs.make("Pendulum-v1", {"max_steps_in_episode": 5})
    assert envs.time_limit(env) == 5
    state, _ = envs.reset(env, jax.random.key(0), 3)
    step, truncated = jitted(env), []
    for key in jax.random.split(jax.random.key(1), (11, 2)):
        state, timestep = step(*key, state, jnp.zeros((3, 1)))
        truncated.append(timestep.truncated)
        assert not timestep.terminated.any()
    expected = np.array([False, False, False, False, True] * 3)[:11]
    assert_array_equal(np.stack(truncated), np.tile(expected[:, None], (1, 3)))


def test_a_traced_parameter_counts():
    """One compiled program serves several time limits, whole or float."""
    state, _ = envs.reset(envs.make("CartPole-v1"), jax.random.key(0), 4)
    traces = []

    @jax.jit
    def truncated(limit):
        traces.append(limit)
        env = envs.make("CartPole-v1", {"max_steps_in_episode": limit})
        keys = jax.random.split(jax.random.key(1))
        return envs.step(env, *keys, state, jnp.zeros(4, jnp.int32))[1].truncated.all()

    assert [bool(truncated(float(n))) for n in (1, 2, 3)] == [True, False, False]
    assert len(traces) == 1


def test_the_default_parameters_stay():
    changed = envs.make("CartPole-v1", {"gravity": 1.0})
    assert (changed.params.gravity, changed.params.length) == (1.0, 0.5)
    assert envs.make("CartPole-v1").params.gravity == 9.8
    assert changed.core is envs.make("CartPole-v1").core


def test_torque_changes_the_bounds_and_the_motion():
    """At rest and hanging, omega' = 3 u dt / (m l^2) for a torque u."""
    for torque in (0.5, 5.0):
        env = envs.make("Pendulum-v1", {"max_torque": torque})
        raw = jnp.array([[-1.0], [0.0], [1.0], [9.0]])
        expected = torque * np.array([[-1.0], [0.0], [1.0], [1.0]])
        assert_allclose(envs.to_env_action(env, raw), expected, rtol=1e-6)
        state, _ = envs.reset(env, jax.random.key(0), 4)
        state = state.replace(theta=jnp.zeros(4), theta_dot=jnp.zeros(4))
        _, timestep = jitted(env)(*jax.random.split(jax.random.key(1)), state, raw)
        assert_allclose(timestep.final_obs[:, 2], 3.0 * expected[:, 0] * 0.05, rtol=1e-5)


@pytest.mark.parametrize(
    ("env", "params", "message"),
    [
        ("CartPol-v1", {}, "unknown environment 'CartPol-v1': did you mean 'CartPole-v1'"),
        ("breakout-minatar", {}, "did you mean 'Breakout-MinAtar'"),
        ("CartPole-v1", {"gravty": 1.0}, "'gravty'.*CartPole-v1.*did you mean 'gravity'"),
        ("Pendulum-v1", {"max_step_in_episodes": 9}, "did you mean 'max_steps_in_episode'"),
        (Plane(), {"sise": 1.0}, "did you mean 'size'"),
        (Walk(spaces.Tuple([spaces.Discrete(2)])), {}, "Walk: actions must be a Box or Discrete"),
        (Walk(spaces.Box(-1, 1, (2, 2))), {}, r"Walk: Box actions must be vectors.*\(2, 2\)"),
        (Walk(None, spaces.Dict({})), {}, r"Walk: observations have the parts \[\]"),
    ],
)
def test_refusals_name_the_value_and_the_remedy(env, params, message):
    with pytest.raises(ValueError, match=message):
        envs.make(env, params)


def test_specs():
    assert envs.make("CartPole-v1").spec == EnvSpec((4,), True, 2, ())
    assert envs.make("PointRobot-misc").spec == EnvSpec((6,), False, 2, (2,))
    assert envs.make("FrozenLake-misc").spec == EnvSpec((16,), True, 4, ())
    assert envs.make("Breakout-MinAtar").spec == EnvSpec((10, 10, 4), True, 3, ())
    assert envs.make(Walk()).spec == EnvSpec((1,), False, 1, (1,))
    assert hash(envs.make("CartPole-v1").spec) == hash(envs.make("CartPole-v1").spec)


def test_ones_own_environment():
    """Worked by hand: raw 0.5 is +2 on the line, so the second step is beyond 3; raw -1 is -1."""
    env = envs.make(Walk())
    state, obs = envs.reset(env, jax.random.key(0), 2)
    assert_array_equal(obs, np.zeros((2, 1)))
    action = jnp.array([[0.5], [-1.0]])
    expected = [
        # final_obs, obs, reward, terminated, truncated of both environments
        ([2, -1], [2, -1], [0, 0], [0, 0], [0, 0]),
        ([4, -2], [0, -2], [1, 0], [1, 0], [0, 0]),
        ([2, -3], [2, -3], [0, 0], [0, 0], [0, 0]),
        ([4, -4], [0, 0], [1, 0], [1, 0], [0, 1]),
        ([2, -1], [2, -1], [0, 0], [0, 0], [0, 0]),
    ]
    step = jitted(env)
    for key, (final_obs, obs, reward, terminated, truncated) in zip(
        jax.random.split(jax.random.key(1), (5, 2)), expected, strict=True
    ):
        state, timestep = step(*key, state, action)
        assert_array_equal(timestep.final_obs[:, 0], final_obs)
        assert_array_equal(timestep.obs[:, 0], obs)
        assert_array_equal(timestep.reward, reward)
        assert_array_equal(timestep.terminated, terminated)
        assert_array_equal(timestep.truncated, truncated)
        assert timestep.reward.dtype == jnp.float32
        assert jnp.issubdtype(state.key.dtype, jax.dtypes.prng_key)


def test_two_objects_of_one_class_stay_apart():
    narrow, wide = envs.make(Walk(spaces.Box(-1, 1, (1,)))), envs.make(Walk(spaces.Discrete(5)))
    assert (narrow.spec.discrete, wide.spec.discrete) == (False, True)
    assert wide.spec.num_actions == 5


def test_no_time_limit_among_the_parameters():
    assert envs.time_limit(envs.make(Plane())) == 100_000
    assert envs.time_limit(envs.make(Walk())) == 4


def test_discrete_actions_pass_through():
    action = jnp.array([1, 0, 1])
    assert envs.to_env_action(envs.make("CartPole-v1"), action) is action


def test_actions_are_stretched_where_both_bounds_are_finite():
    """Onto [-4, 2] in the first dimension; else clipped at a bound, if there is one."""
    raw = jnp.array([-3.0, -1.0, -0.5, 0.0, 1.0, 7.0])
    action = envs.to_env_action(envs.make(Plane()), jnp.tile(raw[:, None], (1, 3)))
    assert_allclose(action[:, 0], [-4.0, -4.0, -2.5, -1.0, 2.0, 2.0], rtol=1e-6)
    assert_array_equal(action[:, 1], np.maximum(raw, 0.0))
    assert_array_equal(action[:, 2], raw)


@pytest.mark.parametrize("env_id", ["PointRobot-misc", "Reacher-misc", "MountainCarContinuous-v0"])
def test_actions_meet_the_bounds_of_registered_boxes(env_id):
    env = envs.make(env_id)
    space, ones = env.core.action_space(env.params), jnp.ones((1, *env.spec.action_shape))
    low, high = (np.broadcast_to(x, ones.shape) for x in (space.low, space.high))
    assert_allclose(envs.to_env_action(env, -ones), low, rtol=1e-6)
    assert_allclose(envs.to_env_action(env, 0.0 * ones), 0.5 * (low + high), atol=1e-6)
    assert_allclose(envs.to_env_action(env, ones), high, rtol=1e-6)
    assert_allclose(envs.to_env_action(env, 5.0 * ones), high, rtol=1e-6)


FIRST_MADE_INSIDE_JIT = """
import functools, jax
from jaxrl_pg import envs
from jaxrl_pg.envs.adapters import gymnax

@functools.partial(jax.jit, static_argnums=(0, 1))
def first_step(env_id, num_envs):
    env, key = envs.make(env_id), jax.random.key(0)
    state, _ = envs.reset(env, key, num_envs)
    return envs.step(env, key, key, state, jax.numpy.zeros(num_envs, int))[1].obs

for env_id in ("FourRooms-misc", "DeepSea-bsuite", "FrozenLake-misc", "MetaMaze-misc"):
    for num_envs in (1, 2):
        first_step(env_id, num_envs)
"""


def test_an_environment_may_first_be_made_inside_a_compiled_program():
    """In a fresh process, where gymnax is first imported during that compilation too.

    gymnax computes arrays when it is imported and when some environments are constructed. Kept
    as tracers of the first program they would break the second.
    """
    command = [sys.executable, "-c", FIRST_MADE_INSIDE_JIT]
    on_cpu = {**os.environ, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=on_cpu)
    assert result.returncode == 0, result.stderr[-2000:]


def test_an_environment_first_made_inside_a_trace_holds_no_tracer():
    gymnax.make.cache_clear()
    for num_envs in (2, 3):
        assert np.all(np.isfinite(step_breakout(num_envs)))


@partial(jax.jit, static_argnums=0)
def step_breakout(num_envs):
    env, key = envs.make("Breakout-MinAtar"), jax.random.key(0)
    state, _ = envs.reset(env, key, num_envs)
    return envs.step(env, key, key, state, jnp.zeros(num_envs, jnp.int32))[1].obs
