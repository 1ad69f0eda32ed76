"""Tasks that need a memory: a T-maze played by hand, and a CartPole with two numbers hidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg import envs

NORTH, EAST, SOUTH, WEST = range(4)
CORRIDOR, JUNCTION = [1, 0, 1], [0, 1, 0]
UP, DOWN = [0, 1, 1], [1, 1, 0]


def play(actions, seed):
    """Observations and rewards of a maze, and whether it is over after each step."""
    env = envs.make("TMaze")
    obs, state = env.core.reset_env(jax.random.key(seed), env.params)
    seen, rewards, over = [np.asarray(obs).tolist()], [], []
    for action in actions:
        obs, state, reward, terminated, _ = env.core.step_env(
            jax.random.key(0), state, jnp.int32(action), env.params
        )
        seen.append(np.asarray(obs).tolist())
        rewards.append(round(float(reward), 3))
        over.append(bool(terminated))
    return seen, rewards, over


@pytest.mark.parametrize("seed", range(4))
def test_the_sign_says_which_way_pays(seed):
    straight = [EAST] * 10
    for turn in (NORTH, SOUTH):
        seen, rewards, over = play([*straight, turn], seed)
        assert seen[0] in (UP, DOWN)
        assert seen[1:10] == [CORRIDOR] * 9
        assert seen[10] == JUNCTION
        right = (turn == NORTH) == (seen[0] == UP)
        assert rewards == [0.0] * 10 + [4.0 if right else -0.1]
        assert over == [False] * 10 + [True]


def test_both_signs_come_and_a_wall_costs_a_tenth():
    firsts = [play([], seed)[0][0] for seed in range(16)]
    assert UP in firsts
    assert DOWN in firsts
    # West, north and south at the entrance are walls; back and forth costs nothing.
    _, rewards, over = play([WEST, NORTH, SOUTH, EAST, WEST], 0)
    assert rewards == [-0.1, -0.1, -0.1, 0.0, 0.0]
    assert not any(over)
    # So is east at the junction.
    assert play([EAST] * 11, 0)[1][-1] == -0.1


def test_a_maze_is_cut_off_after_a_hundred_steps():
    env = envs.make("TMaze", {"max_steps_in_episode": 3})
    state = env.core.reset_env(jax.random.key(0), env.params)[1]
    for cut in (False, False, True):
        state = env.core.step_env(jax.random.key(0), state, jnp.int32(WEST), env.params)[1]
        assert bool(env.core.is_truncated(state, env.params)) is cut
    assert int(envs.time_limit(envs.make("TMaze"))) == 100


def test_positions_are_those_of_cart_pole():
    hidden, full = envs.make("PositionOnlyCartPole-v1"), envs.make("CartPole-v1")
    assert (hidden.spec.obs_shape, hidden.spec.num_actions) == ((2,), 2)
    assert int(envs.time_limit(hidden)) == int(envs.time_limit(full)) == 500
    key = jax.random.key(5)
    obs, state = hidden.core.reset_env(key, hidden.params)
    whole, inner = full.core.reset_env(key, full.params)
    for action in (1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1):
        np.testing.assert_array_equal(obs, np.asarray(whole)[[0, 2]])
        args = (key, state, jnp.int32(action), hidden.params)
        obs, state, reward, over, _ = hidden.core.step_env(*args)
        whole, inner, same_reward, same_over, _ = full.core.step_env(
            key, inner, jnp.int32(action), full.params
        )
        assert (float(reward), bool(over)) == (float(same_reward), bool(same_over))
    assert bool(over)


def test_a_name_is_one_object():
    assert envs.make("TMaze").core is envs.make("TMaze").core
    with pytest.raises(ValueError, match="did you mean 'TMaze'"):
        envs.make("TMaz")
