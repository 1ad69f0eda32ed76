"""Games: what they pay, where they lead, when they end; and JaxMARL's, by a stand-in."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg import envs
from jaxrl_pg.envs import games
from jaxrl_pg.envs.adapters import jaxmarl
from jaxrl_pg.theory import mdp, solve

KEYS = jax.random.key(0), jax.random.key(1)


@partial(jax.jit, static_argnums=0)
def stepped(name, action):
    env = envs.make(name)
    state, obs = envs.reset(env, jax.random.key(3), action.shape[0])
    return obs, envs.step(env, *KEYS, state, action)[1]


@pytest.mark.parametrize(
    ("name", "payoff"),
    [
        ("Overshoot-matrix", [0, 1, 1, -2]),
        ("Climbing-matrix", [11, -30, 0, -30, 7, 6, 0, 0, 5]),
    ],
)
def test_a_matrix_game_pays_and_is_over(name, payoff):
    obs, step = stepped(name, jnp.arange(len(payoff)))
    assert_array_equal(obs, np.ones((len(payoff), 1)))
    assert_array_equal(step.reward, payoff)
    assert np.all(step.terminated)
    assert not np.any(step.truncated)


def test_a_matrix_game_of_three_agents_with_other_payoffs():
    payoff = np.arange(12.0).reshape(2, 3, 2)
    game = games.MatrixGame(payoff)
    assert game.factors == (2, 3, 2)
    env = envs.make(game, {"payoff": jnp.asarray(-payoff, jnp.float32)})
    assert env.spec.num_actions == 12
    state, _ = envs.reset(env, KEYS[0], 12)
    assert_array_equal(envs.step(env, *KEYS, state, jnp.arange(12))[1].reward, -np.arange(12.0))


def test_games_go_by_their_names():
    assert envs.make("Crossing-grid").core is envs.make("Crossing-grid").core
    with pytest.raises(ValueError, match="did you mean 'Crossing-grid'"):
        envs.make("Crosing-grid")
    with pytest.raises(ValueError, match="did you mean 'CartPole-v1'"):
        envs.make("CartPole-v0")


# --- the crossing ---------------------------------------------------------------------------------

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def crossing():
    return jax.tree.map(lambda x: np.asarray(x, float), games.crossing())


def test_the_crossing_is_an_mdp():
    game = crossing()
    assert game.transition.shape == (37, 25, 37)
    assert_allclose(game.transition.sum(2), 1.0, atol=1e-6)
    assert_array_equal(np.flatnonzero(game.start), [2])  # cells 0 and 2
    assert_array_equal(game.transition[36], np.eye(37)[np.full(25, 36)])
    assert_array_equal(game.reward[36], 0.0)


@pytest.mark.parametrize(
    ("cells", "moves", "want"),
    [
        # (0, 2): both inwards meet in cell 1, unless one of them slips.
        ((0, 2), (RIGHT, LEFT), {(0, 2): 0.81 + 0.01, (1, 2): 0.09, (0, 1): 0.09}),
        # (0, 2): one goes below, the other inwards.
        ((0, 2), (DOWN, LEFT), {(3, 1): 0.81, (3, 2): 0.09, (0, 1): 0.09, (0, 2): 0.01}),
        # (0, 1): they would pass through each other; if one slips they would meet.
        ((0, 1), (RIGHT, LEFT), {(0, 1): 1.0}),
        # (4, 5): the edges hold.
        ((4, 5), (DOWN, RIGHT), {(4, 5): 1.0}),
        # (3, 0) from the left edge, and up from the first row.
        ((3, 0), (LEFT, UP), {(3, 0): 1.0}),
        # A follower takes the cell that is left, unless the other one slips.
        ((0, 1), (RIGHT, RIGHT), {(1, 2): 0.81, (0, 2): 0.09, (0, 1): 0.09 + 0.01}),
    ],
)
def test_moves_by_hand(cells, moves, want):
    game = crossing()
    row = game.transition[6 * cells[0] + cells[1], 5 * moves[0] + moves[1]]
    expected = np.zeros(37)
    for (p, q), chance in want.items():
        expected[6 * p + q] = chance
    assert_allclose(row, expected, atol=1e-6)
    assert_array_equal(game.reward[6 * cells[0] + cells[1], 5 * moves[0] + moves[1]], 0.0)


def test_both_in_their_places_pays_one_and_ends():
    game = crossing()
    # (5, 0): the second is there, the first moves up and slips one time in ten.
    row = game.transition[30, 5 * UP + STAY]
    assert_allclose(row[[36, 30]], [0.9, 0.1], atol=1e-6)
    assert_allclose(game.reward[30, 5 * UP + STAY], 0.9, atol=1e-6)
    _, step = stepped("Crossing-grid", jnp.zeros(1, jnp.int32))
    assert_array_equal(np.flatnonzero(step.obs[0]), [2])
    # Four moves are the fewest, as one must go around: without slips gamma^3 = .857 at .95.
    with jax.enable_x64(True):
        best = solve.policy_iteration(mdp.make(*crossing(), 0.95))
        assert 0.70 < float(best.value[2]) < 0.95**3


# --- JaxMARL --------------------------------------------------------------------------------------


class StandIn:
    """JaxMARL's interface: two agents with 2 and 3 actions, and done at the third step or at 7."""

    agents = ("a", "b")

    def action_space(self, agent):
        return spaces.Discrete(2 if agent == "a" else 3)

    def observation_space(self, agent):
        return SimpleNamespace(shape=(2, 2) if agent == "a" else (1,))

    def _obs(self, state):
        return {"b": state[1:].astype(float), "a": jnp.full((2, 2), state[0])}

    def reset(self, key):
        state = jnp.zeros(2, jnp.int32)
        return self._obs(state), state

    def step_env(self, key, state, actions):
        state = state + jnp.stack([jnp.ones((), jnp.int32), 10 * actions["a"] + actions["b"]])
        done = (state[0] >= 3) | (state[1] == 7)
        rewards = {"a": actions["a"] * 1.0, "b": actions["b"] * 1.0}
        return self._obs(state), state, rewards, {"__all__": done, "a": done, "b": done}, {}


def test_a_jaxmarl_environment_has_joint_actions_and_observations_and_a_mean_reward():
    game = jaxmarl.from_jaxmarl(StandIn(), max_steps_in_episode=3)
    assert (game.factors, game.views) == ((2, 3), (4, 1))
    env = envs.make(game)
    assert (env.spec.obs_shape, env.spec.num_actions) == ((5,), 6)
    state, obs = envs.reset(env, KEYS[0], 6)
    assert_array_equal(obs, np.zeros((6, 5)))
    _, step = jax.jit(partial(envs.step, env))(*KEYS, state, jnp.arange(6))
    assert_array_equal(step.reward, [0.0, 0.5, 1.0, 0.5, 1.0, 1.5])
    assert_array_equal(step.obs[:, :4], np.ones((6, 4)))  # the first agent's comes first
    assert_array_equal(step.obs[:, 4], [0, 1, 2, 10, 11, 12])


def test_a_jaxmarl_end_at_the_limit_is_a_truncation_and_an_earlier_one_a_termination():
    env = envs.make(jaxmarl.from_jaxmarl(StandIn(), max_steps_in_episode=3))
    take = jax.jit(partial(envs.step, env, *KEYS))
    first, _ = state, _ = envs.reset(env, KEYS[0], 2)
    for count in (1, 2, 3):
        state, step = take(state, jnp.array([0, 0]))
        assert_array_equal(step.truncated, [count == 3] * 2)
        assert not np.any(step.terminated)
    state = first._replace(inner=jnp.array([[0, 6], [0, 5]]))
    _, step = take(state, jnp.array([1, 1]))
    assert_array_equal(step.terminated, [True, False])
    assert not np.any(step.truncated)


@jax.numpy_rank_promotion("allow")  # JaxMARL promotes ranks
def test_an_environment_of_jaxmarl_itself_runs_to_its_time_limit():
    pytest.importorskip("jaxmarl")
    game = jaxmarl.make("MPE_simple_spread_v3", max_steps_in_episode=2)
    assert (game.factors, game.views) == ((5, 5, 5), (18, 18, 18))
    env = envs.make(game)
    assert (env.spec.obs_shape, env.spec.num_actions) == ((3 * 18,), 5**3)
    state, obs = jax.jit(partial(envs.reset, env, num_envs=2))(KEYS[0])
    assert obs.shape == (2, 3 * 18)
    take = jax.jit(partial(envs.step, env, *KEYS))
    for count in (1, 2):
        state, step = take(state, jnp.array([0, 124]))
        assert_array_equal(step.truncated, [count == 2] * 2)
        assert not np.any(step.terminated)
        assert np.all(step.reward < 0)  # no landmark has an agent on it yet


def test_what_jaxmarl_cannot_serve_is_refused(monkeypatch):
    class Real(StandIn):
        def action_space(self, agent):
            return spaces.Box(-1.0, 1.0, (1,))

    with pytest.raises(ValueError, match=r"Real: the actions of a are Box: .* Discrete"):
        jaxmarl.from_jaxmarl(Real(), 10)
    monkeypatch.setattr(jaxmarl, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "jaxrl-pg\[marl\]"'):
        jaxmarl.make("MPE_simple_spread_v3", 25)
