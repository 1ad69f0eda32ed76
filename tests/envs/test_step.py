"""The vectorised step against gymnax's own, and the promises of automatic reset."""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg import envs

B, T = 6, 30


class Case(NamedTuple):
    """A time limit that cuts some episodes, and what its 30 steps must have shown."""

    limit: int
    terminates: bool
    truncates: bool
    both: bool = False


# Catch ends by itself at step 9: with that limit both flags come together.
CASES = {
    "CartPole-v1": Case(12, True, True),
    "Pendulum-v1": Case(7, False, True),
    "Acrobot-v1": Case(7, False, True),
    "Breakout-MinAtar": Case(9, True, True),
    "Catch-bsuite": Case(9, True, True, both=True),
    "FrozenLake-misc": Case(6, True, True),
}
STEP_IGNORES_KEY = [name for name in CASES if name != "FrozenLake-misc"]


class Trace(NamedTuple):
    """Every step's keys, states, actions and results, `[T, ...]`, computed step by step.

    `num_traces` says how often the compiled step was traced for that.
    """

    step_key: jax.Array
    state: object
    action: jax.Array
    next_state: object
    timestep: object
    num_traces: int


def make(name):
    return envs.make(name, {"max_steps_in_episode": CASES[name].limit})


def random_action(env, key, num_envs):
    if env.spec.discrete:
        return jax.random.randint(key, (num_envs,), 0, env.spec.num_actions)
    return 2.0 * jax.random.normal(key, (num_envs, *env.spec.action_shape))


@cache
def trace(name):
    env, traces = make(name), []

    @jax.jit
    def step(*args):
        traces.append(args)
        return envs.step(env, *args)

    reset_key, keys = jax.random.key(3), jax.random.split(jax.random.key(4), (T, 3))
    state, _ = jax.jit(partial(envs.reset, env, num_envs=B))(reset_key)
    rows = []
    for step_key, again_key, action_key in keys:
        action = random_action(env, action_key, B)
        next_state, timestep = step(step_key, again_key, state, action)
        rows.append((step_key, state, action, next_state, timestep))
        state = next_state
    return Trace(*jax.tree.map(lambda *x: jnp.stack(x), *rows), len(traces))


def done(name):
    timestep = trace(name).timestep
    return np.asarray(timestep.terminated | timestep.truncated)


def flat(tree):
    """`[T, B, ...]` leaves to `[T * B, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def one_hot(name, obs):
    return np.eye(16, dtype=np.float32)[obs] if name == "FrozenLake-misc" else np.asarray(obs)


def assert_same(actual, expected, where):
    """Equal leaf by leaf: integers exactly, floats up to how XLA fused the arithmetic."""
    leaves = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    for x, y in leaves:
        assert_allclose(np.asarray(x)[where], np.asarray(y)[where], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_cases_contain_what_they_are_for(name):
    timestep = trace(name).timestep
    assert np.any(timestep.terminated & ~timestep.truncated) == (
        CASES[name].terminates and not CASES[name].both
    )
    assert np.any(timestep.terminated & timestep.truncated) >= CASES[name].both
    assert np.any(timestep.truncated) == CASES[name].truncates
    assert not done(name).all()


@pytest.mark.parametrize("name", CASES)
def test_same_as_step_env_with_the_same_key(name):
    """Next state, reward, flags and final observation; one key for each environment."""
    env, rows = make(name), trace(name)
    action = jax.vmap(partial(envs.to_env_action, env))(rows.action)
    keys = jax.vmap(lambda key: jax.random.split(key, B))(rows.step_key)
    one = jax.vmap(env.core.step_env, (0, 0, 0, None))
    obs, state, reward, terminated, _ = jax.jit(one)(*flat((keys, rows.state, action)), env.params)
    truncated = env.core.is_truncated(state, env.params)
    timestep = flat(rows.timestep)
    assert_same(flat(rows.next_state), state, ~done(name).reshape(-1))
    assert_allclose(timestep.reward, reward, rtol=2e-6, atol=2e-6)
    assert_array_equal(timestep.terminated, terminated)
    assert_array_equal(timestep.truncated, truncated)
    assert_allclose(timestep.final_obs, one_hot(name, obs), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", STEP_IGNORES_KEY)
def test_same_as_gymnax_step_where_transitions_are_deterministic(name):
    env, rows = make(name), trace(name)
    action = jax.vmap(partial(envs.to_env_action, env))(rows.action)
    keys = jax.random.split(jax.random.key(99), T * B)
    one = jax.vmap(env.core.step, (0, 0, 0, None))
    obs, state, reward, terminated, truncated, info = one(
        keys, *flat((rows.state, action)), env.params
    )
    timestep, going_on = flat(rows.timestep), ~done(name).reshape(-1)
    assert_same(flat(rows.next_state), state, going_on)
    assert_same(timestep.obs, obs, going_on)
    assert_allclose(timestep.reward, reward, rtol=2e-6, atol=2e-6)
    assert_array_equal(timestep.terminated, terminated)
    assert_array_equal(timestep.truncated, truncated)
    assert_allclose(timestep.final_obs, info["final_observation"], rtol=2e-6, atol=2e-6)


def test_a_rollout_keeps_games_of_zeros_and_ones_as_bool_and_all_else_as_it_is():
    for name, kind in (("Breakout-MinAtar", bool), ("CartPole-v1", np.float32)):
        obs = trace(name).timestep.final_obs
        kept = envs.packed(make(name), obs)
        assert kept.dtype == kind
        assert_array_equal(kept.astype(jnp.float32), obs)


@pytest.mark.parametrize("name", CASES)
def test_where_an_episode_goes_on_obs_is_the_final_obs(name):
    timestep = trace(name).timestep
    going_on = ~done(name)
    assert_array_equal(timestep.obs[going_on], timestep.final_obs[going_on])


@pytest.mark.parametrize("name", CASES)
def test_where_an_episode_ended_a_new_one_stands_at_its_start(name):
    """Time 0, and an observation that belongs to the new state and is a first one."""
    env, rows = make(name), trace(name)
    ended = done(name)
    state = jax.tree.map(lambda x: x[ended], rows.next_state)
    obs = np.asarray(rows.timestep.obs)[ended]
    assert_array_equal(state.time, 0)
    keys = jax.random.split(jax.random.key(0), len(obs))
    observe = jax.jit(jax.vmap(lambda key, state: env.core.observe(key, state, None, env.params)))
    expected = one_hot(name, observe(keys, state))
    assert_allclose(obs, expected, rtol=2e-6, atol=2e-6)
    reset = jax.jit(jax.vmap(env.core.reset_env, (0, None)))
    firsts, _ = reset(jax.random.split(jax.random.key(1), 256), env.params)
    assert_first(name, obs, one_hot(name, firsts))


def assert_first(name, obs, firsts):
    """Among 256 drawn first observations, or within their range if they are continuous."""
    if name in ("CartPole-v1", "Acrobot-v1", "Pendulum-v1"):
        slack = 0.1 * np.ptp(firsts, axis=0) + 1e-6
        assert np.all(obs >= firsts.min(0)[None] - slack[None])
        assert np.all(obs <= firsts.max(0)[None] + slack[None])
    else:
        known = {first.tobytes() for first in firsts}
        assert {row.tobytes() for row in obs} <= known


@pytest.mark.parametrize("num_envs", [1, 7, 12, 16])
@pytest.mark.parametrize("pattern", ["none", "one", "column", "last", "half", "all"])
def test_only_the_ended_are_touched(num_envs, pattern):
    """Every pattern of ends, for numbers of environments that divide in different ways.

    The cart's position is the environment's mark (standing still, it keeps it for one step) and
    3 ends the episode, so an environment that was given another's state would show.
    """
    ended = np.zeros(num_envs, bool)
    ended[
        {
            "none": [],
            "one": [num_envs // 2],
            "column": slice(0, None, 2),
            "last": [-1],
            "half": slice(0, (num_envs + 1) // 2),
            "all": slice(None),
        }[pattern]
    ] = True
    step, state = cartpole(num_envs)
    x = jnp.where(ended, 3.0, jnp.linspace(-2.0, 2.0, num_envs))
    state = state.replace(x=x, x_dot=jnp.zeros(num_envs), time=jnp.arange(num_envs))
    keys = jax.random.split(jax.random.key(1))
    next_state, timestep = step(*keys, state, jnp.zeros(num_envs, jnp.int32))
    assert_array_equal(timestep.terminated, ended)
    assert_array_equal(next_state.x[~ended], x[~ended])
    assert_array_equal(next_state.time, np.where(ended, 0, np.arange(num_envs) + 1))
    assert np.all(np.abs(timestep.obs[ended]) <= 0.05)
    assert_array_equal(timestep.final_obs[:, 0], x)
    assert len(np.unique(np.asarray(timestep.obs)[ended], axis=0)) == ended.sum()


@cache
def cartpole(num_envs):
    env = envs.make("CartPole-v1")
    return jax.jit(partial(envs.step, env)), envs.reset(env, jax.random.key(0), num_envs)[0]


def test_each_key_decides_its_own_half():
    """Another step key changes transitions only; another reset key new episodes only."""
    a, b = jax.random.split(jax.random.key(7))
    env = make("FrozenLake-misc")
    step = jax.jit(partial(envs.step, env))
    state, _ = envs.reset(env, a, 64)
    action = jnp.full(64, 2)
    here, reset_differs, step_differs = (
        step(*keys, state, action)[1].final_obs for keys in [(a, a), (a, b), (b, a)]
    )
    assert_array_equal(here, reset_differs)
    assert not np.array_equal(here, step_differs)
    env = make("Catch-bsuite")
    step = jax.jit(partial(envs.step, env))
    state, _ = envs.reset(env, a, 64)
    state = state.replace(ball_y=jnp.full(64, 8))
    here, reset_differs, step_differs = (
        step(*keys, state, action)[1].obs for keys in [(a, a), (a, b), (b, a)]
    )
    assert_array_equal(here, step_differs)
    assert not np.array_equal(here, reset_differs)


def run(env, num_envs, key):
    """Reset and 25 steps in a scan: all observations, rewards and flags."""
    reset_key, scan_key = jax.random.split(key)
    state, obs = envs.reset(env, reset_key, num_envs)

    def body(carry, key):
        step_key, again_key, action_key = jax.random.split(key, 3)
        action = random_action(env, action_key, num_envs)
        state, timestep = envs.step(env, step_key, again_key, carry[0], action)
        return (state, timestep.obs), timestep

    return jax.lax.scan(body, (state, obs), jax.random.split(scan_key, 25))


@pytest.fixture(scope="module")
def scanned():
    """CartPole, and its single and batched program."""
    env = make("CartPole-v1")
    return env, jax.jit(partial(run, env, 10)), jax.jit(jax.vmap(partial(run, env, 10)))


def test_same_vmapped_over_keys(scanned):
    _, single, batched = scanned
    keys = jax.random.split(jax.random.key(5), 3)
    together = batched(keys)
    for i, key in enumerate(keys):
        ours = jax.tree.map(lambda x, i=i: x[i], together)
        assert_same(ours, single(key), slice(None))


def test_same_without_a_scan(scanned):
    """Step by step, the first uncompiled, as in the compiled scan."""
    env, single, _ = scanned
    reset_key, scan_key = jax.random.split(jax.random.key(5))
    _, timesteps = single(jax.random.key(5))
    state, _ = envs.reset(env, reset_key, 10)
    step, compiled = partial(envs.step, env), jax.jit(partial(envs.step, env))
    for t, key in enumerate(jax.random.split(scan_key, 25)):
        step_key, again_key, action_key = jax.random.split(key, 3)
        action = random_action(env, action_key, 10)
        state, timestep = step(step_key, again_key, state, action)
        assert_same(timestep, jax.tree.map(lambda x, t=t: x[t], timesteps), slice(None))
        step = compiled


@pytest.mark.parametrize("name", CASES)
def test_states_feed_back_without_a_retrace(name):
    """A step's state has the types of a reset's, weakness included."""
    assert trace(name).num_traces == 1
