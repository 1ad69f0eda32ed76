"""Builders against worked optima, their own definitions, and gymnax's environments themselves."""

from functools import cache, partial
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnax.environments.bsuite import catch, deep_sea
from gymnax.environments.misc import frozen_lake, rooms
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.theory import builders, solve

GAMMA = 0.9
FAST = {"xla_backend_optimization_level": 0}  # most of the time is compilation
BUILDERS = {
    "bandit": lambda gamma: builders.bandit((1.0, 0.0, 0.5), gamma),
    "chain": partial(builders.chain, 5),
    "sure_chain": partial(builders.chain, 5, slip=0.0),
    "two_state_plateau": builders.two_state_plateau,
    "grid": partial(builders.grid, ["SG#", "S.H"], slip=0.25, paid=(1.0, -1.0, -0.1)),
    "wall": partial(builders.grid, ["S#G"]),
    "cliff_walk": builders.cliff_walk,
    "frozen_lake": builders.frozen_lake,
    "frozen_lake_8x8": partial(builders.frozen_lake, lake="8x8"),
    "sure_lake": partial(builders.frozen_lake, slip=0.0),
    "four_rooms": builders.four_rooms,
    "sure_rooms": partial(builders.four_rooms, fail=0.0),
    "sure_rooms_elsewhere": partial(builders.four_rooms, fail=0.0, goal=(11, 11), start=(1, 1)),
    "deep_sea": partial(builders.deep_sea, 8),
    "scrambled_sea": lambda gamma: builders.deep_sea(8, gamma, SCRAMBLE),
    "slippery_sea": partial(builders.deep_sea, 8, slip=0.125),
    "gymnax_sea": lambda gamma: gymnax_sea(8, 0.0, gamma),
    "slippery_gymnax_sea": lambda gamma: gymnax_sea(5, 0.2, gamma),
    "catch": builders.catch,
    "small_catch": partial(builders.catch, rows=5, columns=3),
}
SCRAMBLE = np.arange(64).reshape(8, 8) % 3 % 2


def gymnax_sea(size, slip, gamma):
    key = jax.random.key(0)  # the one of gymnax's registered environment
    right = jax.random.bernoulli(key, jnp.float32(0.5), (size, size)).astype(jnp.int32)
    return builders.deep_sea(size, gamma, right, slip)


@cache
def programs(double):
    """Return every MDP for two discounts, out of one compiled program a precision."""
    del double
    build = jax.vmap(lambda gamma: {name: make(gamma) for name, make in BUILDERS.items()})
    return jax.tree.map(np.asarray, jax.jit(build, compiler_options=FAST)(GAMMAS))


GAMMAS = np.array([GAMMA, 0.5])


def built(name, gamma=GAMMA):
    """Return one MDP as NumPy arrays, in float64, with any discount."""
    mdp = jax.tree.map(lambda x: x[0], programs(double=True)[name])
    return mdp._replace(gamma=np.float64(gamma))


def value(mdp, policy):
    """Return V of a policy by NumPy."""
    transition = np.einsum("sa,sak->sk", policy, mdp.transition)
    system = np.eye(len(transition)) - mdp.gamma * transition
    return np.linalg.solve(system, np.sum(policy * mdp.reward, axis=1))


def optimum(mdp):
    """Return J of the best policy, by policy iteration in NumPy."""
    actions = mdp.reward.shape[1]
    policy = np.full(mdp.reward.shape, 1.0 / actions)
    for _ in range(1_000):
        old = value(mdp, policy)
        q = mdp.reward + mdp.gamma * mdp.transition @ old
        if np.max(q - old[:, None]) < 1e-12 * np.max(np.abs(q)):
            return mdp.start @ old
        policy = np.eye(actions)[np.argmax(q, axis=1)]
    raise AssertionError("policy iteration goes on")


def ends(mdp):
    """Return states that every action stays in for certain and without reward, `[S]`."""
    stays = np.einsum("sas->sa", mdp.transition) == 1.0
    return np.all(stays, axis=1) & np.all(mdp.reward == 0.0, axis=1)


# --- what all of them promise ---------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_makes_mdps_in_both_precisions_and_under_vmap(name):
    batch = programs(double=True)[name]
    assert_array_equal(batch.gamma, GAMMAS)
    with jax.enable_x64(False):
        rough = programs(double=False)[name]
    for exact, single in zip(batch, rough, strict=True):
        assert (exact.dtype, single.dtype) == (np.float64, np.float32)
        assert_allclose(single, exact, rtol=1e-6, atol=1e-7)
    for mdp, tolerance in ((batch, 1e-15), (rough, 1e-6)):
        assert_allclose(mdp.transition.sum(-1), 1.0, rtol=0, atol=tolerance)
        assert_allclose(mdp.start.sum(-1), 1.0, rtol=0, atol=tolerance)
        assert np.all(mdp.transition >= 0)
        assert np.all(mdp.start >= 0)
        assert np.all(np.isfinite(mdp.reward))
    assert_array_equal(batch.transition[0], batch.transition[1])


def test_probabilities_and_rewards_may_be_traced():

    def build(slip, rewards, paid):
        lake, arms = builders.frozen_lake(GAMMA, slip=slip), builders.bandit(rewards)
        return lake, arms, builders.chain(5, GAMMA, slip, paid)

    args = (jnp.array([0.0, 0.5]), jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([[5.0, 1.0]] * 2))
    lakes, arms, chains = jax.jit(jax.vmap(build), compiler_options=FAST)(*args)
    assert_array_equal(lakes.transition[0], built("sure_lake").transition)
    assert_allclose(lakes.transition[1, 0, 1], np.eye(16)[[0, 1, 4]].T @ [0.25, 0.25, 0.5])
    assert_array_equal(arms.reward[:, 0], [[1.0, 2.0], [3.0, 0.0]])
    assert_allclose(chains.reward[:, 4], [[5.0, 1.0], [3.0, 3.0]])


# --- random MDPs ----------------------------------------------------------------------------------

GARNETS = [(2, 2, 1, 10_000), (5, 3, 2, 10_000), (10, 4, 10, 2_000), (20, 5, 3, 1_000)]


@pytest.mark.parametrize(("states", "actions", "branching", "num"), GARNETS)
def test_a_garnet_has_as_many_successors_as_asked(states, actions, branching, num):
    """All different, each state as often as others, with the moments of uniform pieces.

    False alarms: 1e-6 for the chi-square, 6e-7 for each of the deviations; the key is fixed.
    """
    build = jax.vmap(partial(builders.garnet, gamma=0.5), (0, None, None, None))
    keys = jax.random.split(jax.random.key(0), num)
    build = jax.jit(build, static_argnums=(1, 2, 3), compiler_options=FAST)
    batch = build(keys, states, actions, branching)
    batch = jax.tree.map(np.asarray, batch)
    assert_array_equal((batch.transition > 0).sum(-1), branching)
    assert_allclose(batch.transition.sum(-1), 1.0, atol=1e-14)
    # With b of S a draw, counts vary by 1 - b/S of what a chi-square has.
    draws = num * states * actions
    hits, expected = (batch.transition > 0).sum((0, 1, 2)), draws * branching / states
    spread = max((1.0 - branching / states) * states / (states - 1), 1e-9)
    chi_square = np.sum((hits - expected) ** 2 / expected) / spread
    assert scipy.stats.chi2.sf(chi_square, states - 1) > 1e-6
    assert len(np.unique(np.argmax(batch.transition, axis=-1))) == states
    # Pieces are Dirichlet(1, ..., 1): the sum of their squares has mean 2 / (b + 1).
    squares = np.sum(batch.transition**2, axis=-1)
    close(squares, 2.0 / (branching + 1))
    close(batch.reward, 0.0)
    close(batch.reward**2, 1.0)


def close(samples, mean):
    """Assert that the mean is within five standard errors, and 1e-12 of rounding."""
    error = 5.0 * np.std(samples) / np.sqrt(samples.size)
    assert abs(np.mean(samples) - mean) <= error + 1e-12


def test_random_mdps_are_dirichlet():
    """For S states and concentration c, E sum p^2 = (c + 1) / (S c + 1); false alarm 6e-7 each."""
    keys = jax.random.split(jax.random.key(1), 500)
    build = jax.vmap(lambda key, alpha: builders.random_mdp(key, 5, 3, 0.9, alpha), (0, None))
    build = jax.jit(build, compiler_options=FAST)
    for alpha in (0.2, 1.0, 5.0):
        batch = jax.tree.map(np.asarray, build(keys, alpha))
        for p in (batch.transition.reshape(-1, 5), batch.start):
            assert_allclose(p.sum(1), 1.0, atol=1e-12)
            close(np.sum(p**2, axis=1), (alpha + 1) / (5 * alpha + 1))
            for state in range(5):
                close(p[:, state], 0.2)
        close(batch.reward**2, 1.0)
        assert np.unique(batch.reward).size == batch.reward.size


# --- textbook problems: worked optima -------------------------------------------------------------


GRADIENT = jax.jit(solve.policy_gradient, compiler_options=FAST)


def test_a_bandit_is_its_mean_reward_and_its_gradient():
    """With p = (1/2, 1/4, 1/4): J = p . r = 1/2 + 0 + 1/8, dJ/dtheta_a = p_a (r_a - J)."""
    policy = np.array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    for gamma in (0.0, 0.9):
        mdp = built("bandit", gamma)
        assert_allclose(mdp.start @ value(mdp, policy), 0.625, atol=1e-14)
        gradient = GRADIENT(jax.tree.map(jnp.asarray, mdp), jnp.log(policy))
        assert_allclose(gradient[0], [0.1875, -0.15625, -0.03125], atol=1e-14)
        assert_allclose(gradient[1], 0.0, atol=1e-14)


def test_the_chain():
    """Without slipping, going on pays gamma^4 10 / (1 - gamma), going back 2 / (1 - gamma).

    With a slip of 0.2 the literature's optimum is 3677 over 1,000 steps, 3.677 a step.
    """
    for gamma, best in ((0.9, 0.9**4 * 10 / 0.1), (0.5, 2 / 0.5)):
        assert_allclose(optimum(built("sure_chain", gamma)), best, rtol=1e-12)
    assert_allclose(1e-7 * optimum(built("chain", 1 - 1e-7)), 3.677, atol=6e-4)
    slipping = built("chain")
    assert_allclose(slipping.transition[3], [[0.2, 0, 0, 0, 0.8], [0.8, 0, 0, 0, 0.2]])
    assert_allclose(slipping.transition[4], slipping.transition[3])
    assert_allclose(slipping.reward, [[0.4, 1.6]] * 4 + [[8.4, 3.6]])


def test_the_plateau():
    """The optimum goes to state 1 and stays; 1,000 steps of the gradient stay at half of it.

    Going is worth gamma 2 / (1 - gamma) in state 0, staying 2 / (1 - gamma) in state 1.
    """
    mdp = jax.tree.map(jnp.asarray, built("two_state_plateau", 0.99))
    assert_allclose(optimum(mdp), (0.8 * 0.99 + 0.2) * 2 / 0.01, rtol=1e-12)

    def ascend(logits, _):
        return logits + 0.01 * solve.policy_gradient(mdp, logits), None

    # Staying in state 0 and leaving state 1 with probability 0.9.
    start = jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]]))
    climb = jax.jit(partial(jax.lax.scan, ascend, length=1_000), compiler_options=FAST)
    logits, _ = climb(start, None)
    policy = np.asarray(jax.nn.softmax(logits))
    assert 0.98 / 0.01 < mdp.start @ value(mdp, policy) < 1.02 / 0.01
    assert policy[0, 0] > 0.99  # what little it learned was to stay


def test_the_cliff():
    """Thirteen steps along the edge: -(1 - gamma^13) / (1 - gamma); three states by hand."""
    mdp = built("cliff_walk")
    assert_allclose(optimum(mdp), -(1 - GAMMA**13) / 0.1, rtol=1e-12)
    assert_array_equal(np.flatnonzero(mdp.start), [36])
    assert_array_equal(np.flatnonzero(ends(mdp)), [47])
    assert_array_equal(np.argmax(mdp.transition[36], axis=1), [24, 36, 36, 36])
    assert_array_equal(mdp.reward[36], [-1.0, -100.0, -1.0, -1.0])
    assert_array_equal(np.argmax(mdp.transition[30], axis=1), [18, 31, 36, 29])
    assert_array_equal(mdp.reward[30], [-1.0, -1.0, -100.0, -1.0])
    assert_array_equal(np.argmax(mdp.transition[35], axis=1), [23, 35, 47, 34])
    assert_array_equal(mdp.reward[35], [-1.0, -1.0, -1.0, -1.0])


def test_a_grid_by_hand():
    """`SG#` over `S.H`, slip 1/4: from state 0, right moves right 3/4, up or down 1/8 each."""
    mdp, right = built("grid"), 2
    assert_array_equal(mdp.start, [0.5, 0, 0, 0.5, 0, 0])
    assert_array_equal(np.flatnonzero(ends(mdp)), [1, 5])
    assert_allclose(mdp.transition[0, right], [0.125, 0.75, 0, 0.125, 0, 0])
    assert_allclose(mdp.reward[0, right], 0.75 - 0.1 * 0.25)
    # From state 4: right is the hole, up the goal, down stays.
    assert_allclose(mdp.transition[4, right], [0, 0.125, 0, 0, 0.125, 0.75])
    assert_allclose(mdp.reward[4, right], -0.75 + 0.125 - 0.1 * 0.125)
    assert_array_equal(built("wall").transition[0], np.eye(3)[[0, 0, 0, 0]])


def test_an_unknown_lake_is_refused():
    with pytest.raises(ValueError, match="lake '5x5' is unknown: give one of 4x4, 8x8"):
        builders.frozen_lake(lake="5x5")


# --- optima of the converted environments ---------------------------------------------------------


def test_the_frozen_lakes_have_their_known_optima():
    """0.542 and 0.4146 are the textbook values at 0.99; undiscounted, 14/17 reach the goal."""
    assert_allclose(optimum(built("frozen_lake", 0.99)), 0.542026, atol=1e-6)
    assert_allclose(optimum(built("frozen_lake_8x8", 0.99)), 0.414640, atol=1e-6)
    assert_allclose(optimum(built("frozen_lake", 1 - 1e-9)), 14 / 17, atol=1e-6)
    assert_allclose(optimum(built("sure_lake")), GAMMA**5, rtol=1e-12)


def test_deep_sea_is_paid_on_one_path():
    """Always right: gamma^7 - 0.01/8 (1 + gamma + ... + gamma^7)."""
    cost = 0.01 / 8 * (1 - GAMMA**8) / (1 - GAMMA)
    for name in ("deep_sea", "scrambled_sea", "gymnax_sea"):
        assert_allclose(optimum(built(name)), GAMMA**7 - cost, rtol=1e-12)
    # Uniformly: 1/256 reach it, and half of all moves are right.
    mdp = built("scrambled_sea")
    uniform = np.full((65, 2), 0.5)
    assert_allclose(mdp.start @ value(mdp, uniform), GAMMA**7 / 256 - cost / 2, rtol=1e-12)
    # Slipping once loses the reward: (1 - slip)^7 keep it, the last step's does not matter.
    mdp, always = built("slippery_sea", 1 - 1e-9), np.tile([[0.0, 1.0]], (65, 1))
    assert_allclose(mdp.start @ value(mdp, always), 0.875**7 - 0.01, atol=1e-7)


def test_a_ball_can_always_be_caught():
    """Ten rows: nine steps, the last of which pays 1."""
    mdp = built("catch")
    assert_allclose(optimum(mdp), GAMMA**8, rtol=1e-12)
    # Standing still catches the middle one of five: (1 - 4) / 5.
    still = np.tile([[0.0, 1.0, 0.0]], (226, 1))
    assert_allclose(mdp.start @ value(mdp, still), -0.6 * GAMMA**8, rtol=1e-12)


def breadth_first(drawing, start, goal):
    """Return the steps of the shortest path, in plain Python."""
    frontier, seen, steps = {start}, {start}, 0
    while goal not in frontier:
        around = {
            (r + i, c + j) for r, c in frontier for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))
        }
        frontier = {(r, c) for r, c in around - seen if drawing[r][c] == " "}
        seen, steps = seen | frontier, steps + 1
    return steps


@pytest.mark.parametrize(
    ("name", "start", "goal"),
    [("sure_rooms", (4, 1), (8, 9)), ("sure_rooms_elsewhere", (1, 1), (11, 11))],
)
def test_the_shortest_way_through_the_rooms(name, start, goal):
    drawing = rooms.four_rooms_map.split("\n")[1:]
    steps = breadth_first(drawing, start, goal)
    assert_allclose(optimum(built(name)), GAMMA ** (steps - 1), rtol=1e-12)


# --- gymnax's environments: every transition ------------------------------------------------------


class Conversion(NamedTuple):
    """A gymnax environment beside its MDP.

    Attributes:
        mdp: which of `BUILDERS` it is.
        state_of: `(env, gymnax state) -> index`.
        env: the gymnax object.
        params: its parameters.
        states: all its states that are no ends, `[S', ...]` leaves.
        noise: the deviation of the noise on some rewards.
    """

    mdp: str
    state_of: Any
    env: Any
    params: Any
    states: Any
    noise: float = 0.0


def lake(**options):
    env = frozen_lake.FrozenLake(**options)
    position = np.flatnonzero(np.asarray(env.desc).ravel() < frozen_lake.HOLE)
    states = frozen_lake.EnvState(position=jnp.asarray(position, jnp.int32), time=zeros(position))
    return env, env.default_params, states


def all_rooms(**params):
    env = rooms.FourRooms()
    pos = np.array([p for p in np.asarray(env.coords).tolist() if p != [8, 9]])
    goal = jnp.tile(jnp.array([[8, 9]]), (len(pos), 1))
    states = rooms.EnvState(pos=jnp.asarray(pos, jnp.int32), goal=goal, time=zeros(pos))
    return env, env.default_params.replace(**params), states


def all_sea(size, **params):
    env, cells = deep_sea.DeepSea(size), jnp.arange(size * size, dtype=jnp.int32)
    params = env.default_params.replace(**params)
    _, state = env.reset_env(jax.random.key(0), params)
    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (size * size, *jnp.shape(x))), state)
    return env, params, many.replace(row=cells // size, column=cells % size)


def all_catch(rows, columns):
    env = catch.Catch(rows, columns)
    grids = np.meshgrid(range(rows - 1), range(columns), range(columns), indexing="ij")
    y, x, paddle = (jnp.asarray(g.ravel(), jnp.int32) for g in grids)
    states = catch.EnvState(
        ball_x=x,
        ball_y=y,
        paddle_x=paddle,
        paddle_y=jnp.full_like(y, rows - 1),
        prev_done=jnp.zeros_like(y, bool),
        time=zeros(y),
    )
    return env, env.default_params, states


def zeros(like):
    return jnp.zeros(len(like), jnp.int32)


def by_position(env, state):
    return state.position


def by_cell(env, state):
    return builders.four_rooms_state(state.pos)


def by_row_and_column(env, state):
    return builders.deep_sea_state(state.row, state.column, env.size)


def by_ball_and_paddle(env, state):
    return builders.catch_state(state.ball_x, state.ball_y, state.paddle_x, env.rows, env.columns)


CONVERSIONS = {
    "FrozenLake-misc": lambda: Conversion("frozen_lake", by_position, *lake()),
    "FrozenLake 8x8": lambda: Conversion("frozen_lake_8x8", by_position, *lake(map_name="8x8")),
    "FrozenLake, sure": lambda: Conversion("sure_lake", by_position, *lake(is_slippery=False)),
    "FourRooms-misc": lambda: Conversion("four_rooms", by_cell, *all_rooms()),
    "FourRooms, sure": lambda: Conversion("sure_rooms", by_cell, *all_rooms(fail_prob=0.0)),
    "DeepSea-bsuite": lambda: Conversion("gymnax_sea", by_row_and_column, *all_sea(8)),
    "DeepSea, stochastic": lambda: Conversion(
        "slippery_gymnax_sea", by_row_and_column, *all_sea(5, deterministic=False), noise=1.0
    ),
    "Catch-bsuite": lambda: Conversion("catch", by_ball_and_paddle, *all_catch(10, 5)),
    "Catch 5x3": lambda: Conversion("small_catch", by_ball_and_paddle, *all_catch(5, 3)),
}
SURE = ["FrozenLake, sure", "FourRooms, sure", "DeepSea-bsuite", "Catch-bsuite", "Catch 5x3"]
REGISTERED = [name for name in CONVERSIONS if "-" in name]
DRAWS = 256


@cache
def converted(name):
    return CONVERSIONS[name]()


def observe(conversion, draws):
    """Take every action in every state `draws` times; return results `[draws, S', A]`."""
    env, params, num_actions = conversion.env, conversion.params, conversion.env.num_actions

    def one(key, state, action):
        _, successor, reward, terminated, _ = env.step_env(key, state, action, params)
        return conversion.state_of(env, successor), reward, terminated

    step = jax.vmap(one, (0, None, 0))  # actions
    step = jax.vmap(step, (0, 0, None))  # states
    step = jax.jit(jax.vmap(step, (0, None, None)), compiler_options=FAST)  # draws
    num = len(jax.tree.leaves(conversion.states)[0])
    keys = jax.random.split(jax.random.key(7), (draws, num, num_actions))
    happened = step(keys, conversion.states, jnp.arange(num_actions, dtype=jnp.int32))
    index = jax.vmap(partial(conversion.state_of, env))(conversion.states)
    return np.asarray(index), *(np.asarray(x) for x in happened)


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_transition_of_gymnax_is_the_mdps(name):
    """Each state, each action, exhaustively; 256 draws each where chance takes part.

    Frequencies: a chi-square and a likelihood over all states and actions, false alarm 2e-6 a case
    (the key is fixed). Successors, rewards and ends are compared exactly.
    """
    with jax.enable_x64(False):  # as gymnax is used
        conversion = converted(name)
        draws = 1 if name in SURE else DRAWS
        index, successor, reward, terminated = observe(conversion, draws)
    mdp = built(conversion.mdp)
    num_states, num_actions = mdp.reward.shape
    # Nothing is left out: what is no state here is an end.
    assert_array_equal(np.sort(index), np.flatnonzero(~ends(mdp)))
    assert num_actions == conversion.env.num_actions
    counts = np.zeros((num_states, num_actions, num_states))
    np.add.at(counts, (index[None, :, None], np.arange(num_actions)[None, None], successor), 1)
    probability = np.where(counts.sum(2, keepdims=True) > 0, mdp.transition, 0.0)
    assert np.all(probability[counts > 0] > 0)
    if draws == 1:
        assert_array_equal(counts, probability)
    else:
        possible, expected = probability > 0, draws * probability
        terms = (counts - expected) ** 2 / np.where(possible, expected, 1.0)
        degrees = np.sum(np.maximum(possible.sum(2) - 1, 0))
        assert scipy.stats.chi2.sf(terms[possible].sum(), degrees) > 1e-6
        # The likelihood of all draws together sees a small error that all states share.
        surprise = np.log(np.where(possible, probability, 1.0))
        mean = np.sum(probability * surprise, axis=2, keepdims=True)
        deviation = np.sqrt(np.sum(expected * (surprise - mean) ** 2))
        assert abs(np.sum((counts - expected) * surprise)) < 5.0 * deviation
        assert np.max(np.abs(counts - expected)) > 0  # chance did take part
    assert_array_equal(terminated, ends(mdp)[successor])
    expect_rewards(conversion, mdp, index, successor, reward)


def expect_rewards(conversion, mdp, index, successor, reward):
    """Assert that a transition has one reward, and that the MDP has its mean over transitions."""
    if conversion.noise:
        error = reward.mean(0) - mdp.reward[index]
        assert np.all(np.abs(error) < 6.0 * conversion.noise / np.sqrt(len(reward)) + 1e-6)
        assert np.any(np.abs(error) > 1e-3)
        return
    where = (index[None, :, None], np.arange(reward.shape[2])[None, None], successor)
    shape = mdp.transition.shape
    lowest, highest = np.full(shape, np.inf), np.full(shape, -np.inf)
    np.minimum.at(lowest, where, reward)
    np.maximum.at(highest, where, reward)
    seen = np.isfinite(lowest)
    assert_array_equal(lowest[seen], highest[seen])
    mean = np.sum(mdp.transition * np.where(seen, lowest, 0.0), axis=2)
    assert_array_equal(seen[index], mdp.transition[index] > 0)  # every possible one was seen
    assert_allclose(mean[index], mdp.reward[index], atol=1e-6)


@pytest.mark.parametrize("name", REGISTERED)
def test_registered_environments_start_as_the_mdps_do(name):
    """And are the ones compared above. Chi-square of 5,000 resets, false alarm 1e-6."""
    with jax.enable_x64(False):
        conversion = converted(name)
        env, params = gymnax.make(name)
        assert type(env) is type(conversion.env)
        assert vars(params) == vars(conversion.params)
        keys = jax.random.split(jax.random.key(3), 5_000)

        def first(key):
            return conversion.state_of(env, env.reset_env(key, params)[1])

        index = np.asarray(jax.jit(jax.vmap(first), compiler_options=FAST)(keys))
    start = built(conversion.mdp).start
    counts = np.bincount(index, minlength=len(start))
    assert np.all(counts[start == 0] == 0)
    expected = 5_000 * start[start > 0]
    chi_square = np.sum((counts[start > 0] - expected) ** 2 / expected)
    assert scipy.stats.chi2.sf(chi_square, max(len(expected) - 1, 1)) > 1e-6
