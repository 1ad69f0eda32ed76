"""Tasks that cannot be solved without a memory.

`TMaze` (Bakker 2001, "Reinforcement learning with long short-term memory", NeurIPS 14): a corridor
of ten cells whose first shows where the goal will be, to the left or the right of its end. The best
return is 4; who does not remember the sign reaches 1.95 at most, the mean of 4 and -0.1.

`PositionOnlyCartPole-v1`: CartPole-v1 whose velocities are not shown.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted

__all__ = ["TASKS"]

_LENGTH = 10  # steps from the first cell to the junction
_NORTH, _EAST, _SOUTH, _WEST = range(4)
_LIMIT = 100


def _t_maze() -> Counted:
    """States are `(place, goal)`, and the goal is `_NORTH` or `_SOUTH`."""

    def observe(place: jax.Array, goal: jax.Array) -> jax.Array:
        sign = jnp.where(goal == _NORTH, jnp.array([0.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 0.0]))
        corridor, junction = jnp.array([1.0, 0.0, 1.0]), jnp.array([0.0, 1.0, 0.0])
        return jnp.where(place == 0, sign, jnp.where(place == _LENGTH, junction, corridor))

    def start(key: jax.Array) -> tuple[Any, Any]:
        goal = jnp.where(jax.random.bernoulli(key), _NORTH, _SOUTH)
        place = jnp.zeros((), jnp.int32)
        return observe(place, goal), (place, goal)

    def advance(key: jax.Array, state: Any, action: jax.Array, limit: Any) -> tuple[Any, ...]:
        del key, limit
        place, goal = state
        is_turn = (action == _NORTH) | (action == _SOUTH)
        move = jnp.where(action == _EAST, 1, jnp.where(action == _WEST, -1, 0))
        moved = jnp.clip(place + move, 0, _LENGTH)
        over = (place == _LENGTH) & is_turn
        reward = jnp.where(moved == place, -0.1, 0.0)
        reward = jnp.where(over & (action == goal), 4.0, reward)
        return observe(moved, goal), (moved, goal), reward, over

    space, actions = gymnax.box(0.0, 1.0, (3,)), gymnax.discrete(4)
    return Counted("TMaze", start, advance, space, actions, _LIMIT)


def _position_only_cart_pole() -> Counted:
    """What is kept of an observation is the cart's position and the pole's angle."""
    core = gymnax.make("CartPole-v1")
    params = core.default_params
    shown = jnp.array([0, 2])

    def start(key: jax.Array) -> tuple[Any, Any]:
        obs, state = core.reset_env(key, params)
        return obs[shown], state

    def advance(key: jax.Array, state: Any, action: jax.Array, limit: Any) -> tuple[Any, ...]:
        del limit
        obs, state, reward, terminated, _ = core.step_env(key, state, action, params)
        return obs[shown], state, reward, terminated

    space = core.observation_space(params)
    low, high = (jnp.asarray(x)[shown] for x in (space.low, space.high))
    limit = int(params.max_steps_in_episode)
    seen = type(space)(low, high, (2,))
    actions = core.action_space(params)
    return Counted("PositionOnlyCartPole-v1", start, advance, seen, actions, limit)


TASKS = {"TMaze": _t_maze, "PositionOnlyCartPole-v1": _position_only_cart_pole}
