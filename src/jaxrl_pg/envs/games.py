"""Games of agents that share a reward; a joint action is one number (`ops.joint_actions`).

In a matrix game an episode is one step. `Overshoot-matrix` pays 1 if one of two agents acts and -2
if both do: agents that improve at once both act. In `Climbing-matrix` (Claus and Boutilier 1998)
the best joint action is next to the worst. `Crossing-grid` is a Markov game with an exact solution:
two agents on a grid of two by three cells have to change places and are in each other's way.
"""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import from_mdp
from jaxrl_pg.envs.adapters import gymnax

__all__ = ["GAMES", "MatrixGame", "MatrixParams", "MatrixState", "crossing"]

OVERSHOOT = ((0.0, 1.0), (1.0, -2.0))
CLIMBING = ((11.0, -30.0, 0.0), (-30.0, 7.0, 6.0), (0.0, 0.0, 5.0))
_ROWS, _COLUMNS = 2, 3
_MOVES = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # stay, up, down, left, right
_SLIP = 0.1  # chance that a move fails, each agent's for itself


class MatrixState(NamedTuple):
    """The state of an episode.

    Attributes:
        time: `[]` int32, steps taken.
    """

    time: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MatrixParams:
    """The game, so that one compiled program serves every game of a shape.

    Attributes:
        payoff: `[K_1, ..., K_I]`, the reward of every joint action.
        max_steps_in_episode: time limit, not reached as the first step ends an episode.
    """

    payoff: jax.Array
    max_steps_in_episode: Any = 2

    def replace(self, **changes: Any) -> MatrixParams:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)


class MatrixGame:
    """A cooperative matrix game with gymnax 1.0's interface; the observation is constant."""

    def __init__(self, payoff: Any) -> None:
        """Keep the payoffs `[K_1, ..., K_I]`, nested tuples or an array that is no tracer."""
        with jax.ensure_compile_time_eval():
            self._params = MatrixParams(jnp.asarray(payoff, jnp.float32))

    @property
    def name(self) -> str:
        """Return what error messages call the environment."""
        return f"MatrixGame{self.factors}"

    @property
    def factors(self) -> tuple[int, ...]:
        """Return the number of actions of each player."""
        return self._params.payoff.shape

    @property
    def default_params(self) -> MatrixParams:
        """Return the game that the environment was made from."""
        return self._params

    def reset_env(self, key: jax.Array, params: MatrixParams) -> tuple[jax.Array, MatrixState]:
        """Return the observation, and a state of no steps taken."""
        del key, params
        return jnp.ones(1), MatrixState(jnp.zeros((), jnp.int32))

    def step_env(
        self, key: jax.Array, state: MatrixState, action: jax.Array, params: MatrixParams
    ) -> tuple[jax.Array, MatrixState, jax.Array, jax.Array, dict[str, Any]]:
        """Return observation, state, reward, terminated and an empty info of the only step."""
        del key
        reward = params.payoff.reshape(-1)[action]
        return jnp.ones(1), MatrixState(state.time + 1), reward, jnp.ones((), bool), {}

    def is_truncated(self, state: MatrixState, params: MatrixParams) -> jax.Array:
        """Say whether the time limit is reached."""
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params: MatrixParams) -> Any:
        """Return the space of one number."""
        del params
        return gymnax.box(0.0, 1.0, (1,))

    def action_space(self, params: MatrixParams) -> Any:
        """Return the space of joint actions."""
        del params
        return gymnax.discrete(self._params.payoff.size)


class Arrays(NamedTuple):
    """A Markov game as `from_mdp.from_mdp` wants it.

    Attributes:
        transition: `[S, A, S]`, of joint actions.
        reward: `[S, A]`.
        start: `[S]`.
    """

    transition: jax.Array
    reward: jax.Array
    start: jax.Array


def crossing() -> Arrays:
    """Return the game of two players who change places: 37 states, 25 joint actions.

    They walk on a grid of two rows and three columns.

    State `6 p + q` has the first agent in cell p and the second in q, by rows; they start in the
    left and the right end of the first row and each has to be where the other was. Each may stay
    or move up, down, left or right, and with a chance of 0.1 stays anyhow. If both would then be
    in one cell, or pass through each other, neither moves. The step that brings both to
    their places pays 1 and leads to the last state, which is the end.
    """
    cells = _ROWS * _COLUMNS
    end, goal = cells * cells, (_COLUMNS - 1, 0)
    transition = [[[0.0] * (end + 1) for _ in range(25)] for _ in range(end + 1)]
    reward = [[0.0] * 25 for _ in range(end + 1)]
    transition[end] = [[0.0] * end + [1.0] for _ in range(25)]
    for p, q, (i, a), (j, b) in product(
        range(cells), range(cells), enumerate(_MOVES), enumerate(_MOVES)
    ):
        for slips in product((True, False), repeat=2):
            chance = (_SLIP if slips[0] else 1 - _SLIP) * (_SLIP if slips[1] else 1 - _SLIP)
            to = (p if slips[0] else _moved(p, a), q if slips[1] else _moved(q, b))
            to = (p, q) if to[0] == to[1] or to == (q, p) else to
            successor = end if to == goal else cells * to[0] + to[1]
            transition[cells * p + q][5 * i + j][successor] += chance
            reward[cells * p + q][5 * i + j] += chance * (to == goal)
    first = [float(s == _COLUMNS - 1) for s in range(end + 1)]  # cells 0 and 2
    with jax.ensure_compile_time_eval():
        return Arrays(*(jnp.asarray(x, jnp.float32) for x in (transition, reward, first)))


def _moved(cell: int, move: tuple[int, int]) -> int:
    row, column = cell // _COLUMNS + move[0], cell % _COLUMNS + move[1]
    inside = 0 <= row < _ROWS and 0 <= column < _COLUMNS
    return row * _COLUMNS + column if inside else cell


def _overshoot() -> MatrixGame:
    return MatrixGame(OVERSHOOT)


def _climbing() -> MatrixGame:
    return MatrixGame(CLIMBING)


def _crossing() -> from_mdp.Tabular:
    return from_mdp.from_mdp(crossing(), max_steps_in_episode=50)


GAMES = {
    "Overshoot-matrix": _overshoot,
    "Climbing-matrix": _climbing,
    "Crossing-grid": _crossing,
}
