"""Random MDPs, textbook MDPs, and gymnax's small environments as exact MDPs.

Sizes, maps and marked states are static; keys, discounts, probabilities and rewards may be traced
and vmapped. The end of an episode is an absorbing state without reward. Where a reward depends on
the next state, the MDP has its expectation. Time limits are not part of an MDP, and those of
gymnax are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxrl_pg.theory import arguments
from jaxrl_pg.theory.arguments import count, finite, require
from jaxrl_pg.theory.checks import checked
from jaxrl_pg.theory.mdp import MDP

__all__ = [
    "bandit",
    "catch",
    "catch_state",
    "chain",
    "cliff_walk",
    "deep_sea",
    "deep_sea_state",
    "four_rooms",
    "four_rooms_state",
    "frozen_lake",
    "garnet",
    "grid",
    "random_mdp",
    "two_state_plateau",
]

Number = jax.Array | float
Numbers = jax.Array | tuple[float, ...]
Start = Numbers | int
Cell = tuple[int, int]

_LAKES = {
    "4x4": (
        "SFFF",
        "FHFH",
        "FFFH",
        "HFFG",
    ),
    "8x8": (
        "SFFFFFFF",
        "FFFFFFFF",
        "FFFHFFFF",
        "FFFFFHFF",
        "FFFHFFFF",
        "FHHFFFHF",
        "FHFFHFHF",
        "FFFHFFFG",
    ),
}
_ROOMS = (
    "#############",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#     #     #",
    "## ####     #",
    "#     ### ###",
    "#     #     #",
    "#     #     #",
    "#           #",
    "#     #     #",
    "#############",
)
_OPEN = tuple(i for i, tile in enumerate("".join(_ROOMS)) if tile != "#")
_LEFT_DOWN_RIGHT_UP = ((0, -1), (1, 0), (0, 1), (-1, 0))
_UP_RIGHT_DOWN_LEFT = ((-1, 0), (0, 1), (1, 0), (0, -1))


@checked(branching=count())
def garnet(key: jax.Array, num_states: int, num_actions: int, branching: int, gamma: Number) -> MDP:
    """Draw a Garnet, in which every action leads to `branching` different states.

    The next states are a random subset; their probabilities are the pieces into which
    `branching - 1` uniform cuts divide the unit interval (Archibald et al. 1995). Rewards are
    standard normal, as in Bhatnagar et al. 2009, and the first state is uniform.
    """
    many = f"branching is {branching}: give at most the number of states, {num_states}"
    require(branching <= num_states, many)
    choice_key, cut_key, reward_key = jax.random.split(key, 3)
    pairs = (num_states, num_actions)
    order = jax.random.uniform(choice_key, (*pairs, num_states))
    chosen = jax.nn.one_hot(jax.lax.top_k(order, branching)[1], num_states, dtype=float)
    cuts = jnp.sort(jax.random.uniform(cut_key, (*pairs, branching - 1), float), axis=-1)
    pieces = jnp.diff(cuts, axis=-1, prepend=0.0, append=1.0)
    transition = jnp.sum(pieces[..., None] * chosen, axis=2)
    reward = jax.random.normal(reward_key, pairs, float)
    return _mdp(transition, reward, jnp.full(num_states, 1.0 / num_states), gamma)


@checked()
def random_mdp(
    key: jax.Array, num_states: int, num_actions: int, gamma: Number, concentration: Number = 1.0
) -> MDP:
    """Draw an MDP with Dirichlet transitions and start (1: uniform) and standard normal rewards."""
    transition_key, reward_key, start_key = jax.random.split(key, 3)
    alpha = jnp.full(num_states, concentration, float)
    transition = jax.random.dirichlet(transition_key, alpha, (num_states, num_actions))
    reward = jax.random.normal(reward_key, (num_states, num_actions), float)
    return _mdp(transition, reward, jax.random.dirichlet(start_key, alpha), gamma)


@checked()
def bandit(rewards: Numbers, gamma: Number = 0.0) -> MDP:
    """Return a bandit with expected rewards `[A]` that ends after one pull: `J = pi(.|0) . r`."""
    rewards = jnp.asarray(rewards, float)
    successor = jnp.ones((2, len(rewards)), int)
    return _deterministic(successor, jnp.stack([rewards, 0.0 * rewards]), 0, gamma)


@checked(num_states=count(2), paid=finite("2"))
def chain(
    num_states: int = 5, gamma: Number = 0.99, slip: Number = 0.2, paid: Numbers = (10.0, 2.0)
) -> MDP:
    """Return the chain of Dearden, Friedman and Russell 1998, which never ends.

    Action 0 moves on, and in the last state stays and earns `paid[0]`; action 1 returns to the
    first state and earns `paid[1]`. With probability `slip` each acts as the other.
    """
    on, last = jnp.minimum(jnp.arange(num_states) + 1, num_states - 1), num_states - 1
    large, small = jnp.asarray(paid, float)
    reward = jnp.broadcast_to(small, (num_states, 2)).at[:, 0].set(0.0).at[last, 0].set(large)
    sure = _deterministic(jnp.stack([on, jnp.zeros_like(on)], axis=1), reward, 0, gamma)
    transition = (1.0 - slip) * sure.transition + slip * sure.transition[:, ::-1]
    return _mdp(transition, (1.0 - slip) * reward + slip * reward[:, ::-1], 0, gamma)


@checked(start=arguments.rows("2"))
def two_state_plateau(gamma: Number = 0.9, start: Numbers = (0.8, 0.2)) -> MDP:
    """Return two states in which a policy gradient has a plateau (Kakade 2001, section 4).

    Action 0 stays, action 1 moves to the other state. Staying earns 1 in state 0 and 2 in state 1,
    moving nothing. From a policy that is mostly in state 0 the gradient first learns to stay
    there; then its weights d(1) and pi(1|0) are nearly 0, although moving is best.
    """
    successor = jnp.array([[0, 1], [1, 0]])
    return _deterministic(successor, jnp.array([[1.0, 0.0], [2.0, 0.0]]), start, gamma)


@checked(paid=finite("3"))
def grid(
    rows: Sequence[str], gamma: Number = 0.99, slip: Number = 0.0, paid: Numbers = (1.0, 0.0, 0.0)
) -> MDP:
    """Return a gridworld from a drawing; actions are left, down, right, up.

    Args:
        rows: strings of equal length, of `S` (start, uniform over several), `G` (goal, an end),
            `H` (hole, an end), `#` (wall); any other character is a free tile. A state is
            `row * columns + column`, including the walls, which are never entered.
        gamma: the discount.
        slip: probability of moving to one of the two sides instead, half of it each.
        paid: `[3]`, the reward for moving onto a goal, into a hole, and for any other move.

    Raises:
        ValueError: for rows of different lengths, or without a start.
    """
    lengths = sorted({len(row) for row in rows})
    require(len(lengths) == 1, f"rows have the lengths {lengths}: give rows of one length")
    require(any("S" in row for row in rows), "the drawing has no S: mark one or more starts")
    tiles = jnp.array([ord(tile) for row in rows for tile in row])
    goal, hole, start = (tiles == ord(tile) for tile in "GHS")
    moves = _moves(rows, _LEFT_DOWN_RIGHT_UP)
    sides = 0.5 * (jnp.roll(moves, 1, axis=1) + jnp.roll(moves, -1, axis=1))
    transition = (1.0 - slip) * moves + slip * sides
    reward = transition @ jnp.asarray(paid, float)[jnp.where(goal, 0, jnp.where(hole, 1, 2))]
    return _end(_mdp(transition, reward, start / jnp.sum(start), gamma), goal | hole)


@checked()
def frozen_lake(gamma: Number = 0.99, lake: str = "4x4", slip: Number = 2.0 / 3.0) -> MDP:
    """Return FrozenLake of Gymnasium and gymnax, 4x4 or 8x8; `slip` is 1 - success_rate.

    Raises:
        ValueError: for a lake that is not one of these two.
    """
    if lake not in _LAKES:
        raise ValueError(f"lake {lake!r} is unknown: give one of {', '.join(_LAKES)}")
    return grid(_LAKES[lake], gamma, slip)


@checked()
def cliff_walk(gamma: Number = 0.99) -> MDP:
    """Return the cliff of Sutton and Barto 2018, example 6.6, numbered as Gymnasium's.

    It has 4 rows of 12 states. Actions are up, right, down, left. A step costs 1; one off the cliff
    costs 100 and leads back to the start, state 36; the episode ends in the goal, state 47.
    """
    raw = jnp.argmax(_moves(["." * 12] * 4, _UP_RIGHT_DOWN_LEFT), axis=2)
    fallen = (raw > 36) & (raw < 47)
    mdp = _deterministic(jnp.where(fallen, 36, raw), jnp.where(fallen, -100.0, -1.0), 36, gamma)
    return _end(mdp, jnp.arange(48) == 47)


@checked()
def four_rooms(
    gamma: Number = 0.99, fail: Number = 1.0 / 3.0, goal: Cell = (8, 9), start: Cell = (4, 1)
) -> MDP:
    """Return FourRooms of gymnax (Sutton, Precup and Singh 1999) with a fixed goal and start.

    Actions are up, right, down, left; with probability `fail` one of the other three is taken.
    Entering the goal earns 1 and ends the episode. States: `four_rooms_state`.

    Raises:
        ValueError: for a goal or start that is no open cell.
    """
    for name, (row, column) in (("goal", goal), ("start", start)):
        inside = 0 <= row < len(_ROOMS) and 0 <= column < len(_ROOMS[0])
        is_open = inside and _ROOMS[row][column] != "#"
        require(is_open, f"{name} is {(row, column)}: give the row and column of an open cell")
    cells = jnp.array(_OPEN)
    moves = _moves(_ROOMS, _UP_RIGHT_DOWN_LEFT)[cells][:, :, cells]
    others = (jnp.sum(moves, axis=1, keepdims=True) - moves) / 3.0
    transition = (1.0 - fail) * moves + fail * others
    ends = jnp.arange(cells.shape[0]) == four_rooms_state(jnp.array(goal))
    first = four_rooms_state(jnp.array(start))
    return _end(_mdp(transition, transition @ ends.astype(float), first, gamma), ends)


def four_rooms_state(position: jax.Array) -> jax.Array:
    """Return the state `[]` of a row and column `[2]`: the 104 open cells, counted row by row."""
    cell = position[0] * len(_ROOMS[0]) + position[1]
    return jnp.searchsorted(jnp.array(_OPEN), cell)


@checked(size=count())
def deep_sea(
    size: int = 8, gamma: Number = 0.99, right: jax.Array | None = None, slip: Number = 0.0
) -> MDP:
    """Return DeepSea of bsuite (Osband et al. 2020) as in gymnax, with one rewarded path of 2^size.

    Every action moves one row down, and one column right or left. Right costs 0.01 / size; in the
    last column it earns 1. After `size` rows the episode ends. States: `deep_sea_state`.

    Args:
        size: rows and columns.
        gamma: the discount.
        right: `[size, size]`, the action that moves right in each cell; 1 everywhere if None.
        slip: probability that right moves straight down; gymnax's stochastic variant has 1 / size
            (and noise of mean 0 on some rewards).
    """
    rows, columns = jnp.divmod(jnp.arange(size * size), size)
    right = jnp.ones((size, size), int) if right is None else right
    goes_right = (right.reshape(-1, 1) == jnp.arange(2)[None]).astype(float)
    reward = goes_right * (jnp.where(columns == size - 1, 1.0, 0.0) - 0.01 / size)[:, None]
    landed = [jnp.maximum(columns - 1, 0), columns, jnp.minimum(columns + 1, size - 1)]
    left, down, across = (
        jax.nn.one_hot(deep_sea_state(rows + 1, c, size), size * size + 1, dtype=float)[:, None]
        for c in landed
    )
    goes_right = goes_right[:, :, None]
    moves = goes_right * ((1.0 - slip) * across + slip * down) + (1.0 - goes_right) * left
    return _mdp(*_with_end(moves, reward), 0, gamma)


def deep_sea_state(row: Number, column: Number, size: int) -> jax.Array:
    """Return the state of a cell, `row * size + column`; below the last row it is the end."""
    return jnp.minimum(jnp.asarray(row) * size + jnp.asarray(column), size * size)


@checked(rows=count(2), columns=count())
def catch(gamma: Number = 0.99, rows: int = 10, columns: int = 5) -> MDP:
    """Return Catch of bsuite (Osband et al. 2020) as in gymnax.

    A ball falls from a uniformly drawn column of the first row, one row a step; the paddle
    starts in the middle of the last row and moves left, stays or moves right. When the ball
    arrives the reward is 1 on the paddle and -1 beside it. States: `catch_state`.
    """
    num = (rows - 1) * columns * columns
    states = jnp.arange(num)
    ball_y, ball_x, paddle = states // columns**2, states // columns % columns, states % columns
    moved = jnp.clip(paddle[:, None] + jnp.array([[-1, 0, 1]]), 0, columns - 1)
    successor = catch_state(ball_x[:, None], ball_y[:, None] + 1, moved, rows, columns)
    caught = jnp.where(moved == ball_x[:, None], 1.0, -1.0)
    reward = jnp.where(successor == num, caught, 0.0)
    start = jnp.pad(((ball_y == 0) & (paddle == columns // 2)) / columns, (0, 1))
    moves = jax.nn.one_hot(successor, num + 1, dtype=float)
    return _mdp(*_with_end(moves, reward), start, gamma)


def catch_state(
    ball_x: Number, ball_y: Number, paddle_x: Number, rows: int = 10, columns: int = 5
) -> jax.Array:
    """Return `(ball_y * columns + ball_x) * columns + paddle_x`; the last row is the end."""
    state = (jnp.asarray(ball_y) * columns + jnp.asarray(ball_x)) * columns + jnp.asarray(paddle_x)
    return jnp.minimum(state, (rows - 1) * columns * columns)


def _mdp(transition: jax.Array, reward: jax.Array, start: Start, gamma: Number) -> MDP:
    """Return an MDP from its parts; an integer `start` is one state."""
    start = jnp.asarray(start)
    if start.ndim == 0:
        start = jax.nn.one_hot(start, transition.shape[0])
    return MDP(transition, reward, start.astype(transition.dtype), jnp.asarray(gamma, float))


def _deterministic(successor: jax.Array, reward: jax.Array, start: Start, gamma: Number) -> MDP:
    """Return an MDP from the next state of every state and action, `[S, A]` int."""
    return _mdp(jax.nn.one_hot(successor, len(successor), dtype=float), reward, start, gamma)


def _end(mdp: MDP, ends: jax.Array) -> MDP:
    """Make the states `ends [S]` absorbing and free of reward."""
    stay = jnp.eye(ends.shape[0], dtype=mdp.transition.dtype)[:, None]
    transition = jnp.where(ends[:, None, None], stay, mdp.transition)
    return mdp._replace(transition=transition, reward=jnp.where(ends[:, None], 0.0, mdp.reward))


def _with_end(moves: jax.Array, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Add the last state, the end, to moves `[S - 1, A, S]` and rewards `[S - 1, A]`."""
    stay = jnp.zeros_like(moves[:1]).at[..., -1].set(1.0)
    return jnp.concatenate([moves, stay]), jnp.pad(reward, ((0, 1), (0, 0)))


def _moves(rows: Sequence[str], directions: tuple[Cell, ...]) -> jax.Array:
    """Return the next state of every move, one-hot `[S, 4, S]`; walls and edges stop a move."""
    height, width = len(rows), len(rows[0])
    walls = jnp.array([tile == "#" for row in rows for tile in row])
    states = jnp.arange(height * width)
    row, column = states[:, None] // width, states[:, None] % width
    down, right = (jnp.array(step)[None] for step in zip(*directions, strict=True))
    target = jnp.clip(row + down, 0, height - 1) * width + jnp.clip(column + right, 0, width - 1)
    target = jnp.where(walls[target], states[:, None], target)
    return jax.nn.one_hot(target, height * width, dtype=float)
