"""A finite MDP as an environment: its steps are the MDP's, for many MDPs in one program."""

import math
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg import envs, ppo
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.types import EnvSpec

S, A, B = 4, 2, 20_000
# State 2 is an end; 3 stays for certain too, but is paid for it, and so is none.
TRANSITION = np.array(
    [
        [[0.5, 0.25, 0.25, 0.0], [0.0, 0.0, 0.1, 0.9]],
        [[1.0, 0.0, 0.0, 0.0], [0.0, 0.7, 0.3, 0.0]],
        [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
        [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]],
    ]
)
REWARD = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 0.0], [0.0, 3.0]])
START = np.array([0.6, 0.3, 0.0, 0.1])
MDP = SimpleNamespace(transition=TRANSITION, reward=REWARD, start=START)
ENV = from_mdp.from_mdp(MDP, max_steps_in_episode=3)
STEP = jax.jit(partial(envs.step, envs.make(ENV)))


def states_of(one_hot):
    return np.argmax(np.asarray(one_hot), axis=-1)


def assert_drawn_from(drawn, probability):
    """Nothing impossible, and each frequency within six standard errors (false alarm 2e-9)."""
    frequency = np.bincount(drawn, minlength=len(probability)) / len(drawn)
    assert np.all(frequency[probability == 0] == 0)
    error = 6.0 * np.sqrt(probability * (1 - probability) / len(drawn))
    assert np.all(np.abs(frequency - probability) <= error)


def test_the_spec_is_discrete_on_both_sides():
    env = envs.make(ENV)
    assert env.spec == EnvSpec((S,), True, A, ())
    assert env.core is ENV
    assert envs.time_limit(env) == 3
    assert ENV.name == "Tabular(4 states, 2 actions)"


def test_first_states_are_drawn_from_the_start():
    state, obs = jax.jit(partial(envs.reset, envs.make(ENV), num_envs=B))(jax.random.key(0))
    assert_array_equal(states_of(obs), state.state)
    assert_array_equal(obs.sum(axis=1), 1.0)
    assert_array_equal(state.time, 0)
    assert_drawn_from(np.asarray(state.state), START)


@pytest.mark.parametrize("state", range(S))
@pytest.mark.parametrize("action", range(A))
def test_a_step_is_the_mdps(state, action):
    before = from_mdp.State(jnp.full(B, state, jnp.int32), jnp.ones(B, jnp.int32))
    keys = jax.random.split(jax.random.key(10 * state + action))
    after, timestep = STEP(*keys, before, jnp.full(B, action, jnp.int32))
    successor = states_of(timestep.final_obs)
    assert_drawn_from(successor, TRANSITION[state, action])
    assert_array_equal(timestep.reward, np.full(B, REWARD[state, action], np.float32))
    assert_array_equal(timestep.terminated, successor == 2)
    assert not timestep.truncated.any()
    going_on = successor != 2
    assert_array_equal(after.state[going_on], successor[going_on])
    assert_array_equal(after.time[going_on], 2)
    assert_array_equal(after.time[~going_on], 0)


def test_the_time_limit_truncates_and_does_not_terminate():
    before = from_mdp.State(jnp.full(B, 3, jnp.int32), jnp.arange(B, dtype=jnp.int32) % 3)
    _, timestep = STEP(*jax.random.split(jax.random.key(1)), before, jnp.zeros(B, jnp.int32))
    assert_array_equal(timestep.truncated, np.arange(B) % 3 == 2)
    assert not timestep.terminated.any()


def test_impossible_states_are_never_drawn_whatever_sums_round_to():
    """Rows of 1,000 states, half of them impossible, that sum to a little more or less than 1."""
    weights = jax.random.uniform(jax.random.key(0), (1000,)) * (jnp.arange(1000) % 2)
    draw = jax.jit(jax.vmap(from_mdp._draw, (0, None)))
    keys = jax.random.split(jax.random.key(1), B)
    for total in (0.9999, 1.0, 1.0001):
        row = (total * weights / weights.sum()).astype(jnp.float32)
        drawn = np.asarray(draw(keys, row))
        assert np.all(drawn % 2 == 1)
        assert drawn.max() > 900
        assert drawn.min() < 100
    assert np.all(draw(keys, jnp.array([0.0, 0.0, 1e-30, 0.0])) == 2)


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.75, 1.0 - 2.0**-23])
def test_a_draw_inverts_the_distribution_at_its_edges(uniform, monkeypatch):
    """Intervals are closed below: [0, .25) is 1, [.25, .75) is 2, [.75, 1) is 4."""
    monkeypatch.setattr(jax.random, "uniform", lambda *_: jnp.float32(uniform))
    row = jnp.array([0.0, 0.25, 0.5, 0.0, 0.25, 0.0], jnp.float32)
    expected = {0.0: 1, 0.25: 2, 0.75: 4}.get(uniform, 4)
    assert int(from_mdp._draw(jax.random.key(0), row)) == expected


def test_a_partial_sum_that_rounds_upwards_makes_no_state_possible(monkeypatch):
    """Computed in parallel, a sum may exceed its neighbour where nothing was added: here in 3."""
    sums = jnp.array([0.0, 0.25, 0.75, 0.76, 1.0, 1.0], jnp.float32)
    monkeypatch.setattr(jnp, "cumsum", lambda _: sums)
    monkeypatch.setattr(jax.random, "uniform", lambda *_: jnp.float32(0.755))
    row = jnp.array([0.0, 0.25, 0.5, 0.0, 0.25, 0.0], jnp.float32)
    assert int(from_mdp._draw(jax.random.key(0), row)) == 4


# --- many MDPs ------------------------------------------------------------------------------------


def many_mdps(num):
    """Random MDPs of one shape, state 2 an end in each."""
    keys = jax.random.split(jax.random.key(5), 3)
    transition = jax.random.dirichlet(keys[0], jnp.ones(S), (num, S, A))
    transition = transition.at[:, 2].set(jnp.eye(S)[2][None, None])
    reward = jax.random.normal(keys[1], (num, S, A)).at[:, 2].set(0.0)
    start = jax.random.dirichlet(keys[2], jnp.ones(S), (num,))
    return SimpleNamespace(transition=transition, reward=reward, start=start)


def mean_return(env_params, key, num_envs=2_000, gamma=0.9):
    """The uniform policy's discounted return over the first three steps of new episodes."""
    env = envs.make(ENV, {**env_params, "max_steps_in_episode": 1e6})
    reset_key, *keys = jax.random.split(key, 10)
    state, _ = envs.reset(env, reset_key, num_envs)
    total, alive = jnp.zeros(num_envs), jnp.ones(num_envs)
    for t in range(3):
        step_key, again_key, action_key = keys[3 * t : 3 * t + 3]
        action = jax.random.randint(action_key, (num_envs,), 0, A)
        state, timestep = envs.step(env, step_key, again_key, state, action)
        total = total + gamma**t * alive * timestep.reward
        alive = alive * (1.0 - timestep.terminated)
    return total.mean(), total.std() / math.sqrt(num_envs)


def test_one_program_serves_many_mdps_and_each_has_its_own_returns():
    """50 MDPs vmapped: three-step returns as by NumPy within six standard errors."""
    batch, traces = many_mdps(50), []

    @jax.jit
    @jax.vmap
    def returns(env_params, key):
        traces.append(key)
        return mean_return(env_params, key)

    keys = jax.random.split(jax.random.key(6), 50)
    mean, error = returns(from_mdp.params_of(batch), keys)
    chain = np.asarray(batch.transition, float).mean(2)
    reward = np.asarray(batch.reward, float).mean(2)
    ahead = reward + 0.9 * np.einsum("nsk,nk->ns", chain, reward)
    ahead = reward + 0.9 * np.einsum("nsk,nk->ns", chain, ahead)
    exact = np.sum(np.asarray(batch.start) * ahead, axis=1)
    assert np.all(np.abs(mean - exact) < 6.0 * error)
    assert np.std(exact) > 10.0 * np.mean(error)  # the MDPs do differ
    returns(from_mdp.params_of(many_mdps(50)), keys)
    assert len(traces) == 1


def test_an_agents_config_takes_it_and_floats_of_the_mdp_are_leaves():
    config = ppo.Config(env=ENV, env_params=from_mdp.params_of(MDP))
    shapes = {x.shape for x in jax.tree.leaves(config) if hasattr(x, "shape")}
    assert {(S, A, S), (S, A), (S,)} <= shapes
    assert jax.tree.structure(config) == jax.tree.structure(config.replace(gamma=0.5))
    assert hash(ENV) == hash(config.env)
    other = from_mdp.from_mdp(MDP)
    assert other != ENV
    assert other.default_params.max_steps_in_episode == 1000


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"reward": REWARD[:, 0]}, {"reward": REWARD.T}, {"start": START[:2]}, {"reward": 0.0}],
)
def test_arrays_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match=r"transition, reward and start have shapes \(4, 2, 4\)"):
        from_mdp.from_mdp(SimpleNamespace(**{**vars(MDP), **change}))


def test_traced_arrays_are_refused_and_concrete_ones_may_be_taken_inside_a_trace():
    with pytest.raises(ValueError, match="give the traced ones as env_params"):
        jax.jit(
            lambda reward: from_mdp.from_mdp(SimpleNamespace(**{**vars(MDP), "reward": reward}))
        )(REWARD)
    made = []
    jax.jit(lambda x: (made.append(from_mdp.from_mdp(MDP)), x)[1])(1.0)
    assert_allclose(made[0].default_params.transition, TRANSITION)
    assert not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(made[0].default_params))


def test_unknown_parameters_are_refused_by_name():
    with pytest.raises(ValueError, match="did you mean 'reward'"):
        envs.make(ENV, {"rewards": REWARD})
