"""An environment with structured observations, a mask, and actions of two parts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_pg.envs.adapters import gymnax


class Agent(NamedTuple):
    """A part of an observation that is structured itself."""

    position: jax.Array
    floor: jax.Array


@struct.dataclass
class View:
    """What is seen: a structure, an image of bytes, and which moves are legal."""

    agent: Agent
    picture: jax.Array
    action_mask: jax.Array


class State(NamedTuple):
    position: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    max_steps_in_episode: float = 20.0


class Corridor:
    """A walk on the places 0 to 3, by steps of -1 or 1 that are long (2) or short (1).

    It pays the place that is reached. Steps that would leave the corridor are illegal and end the
    episode at once, with a reward of 10: whoever takes one has not read the mask.
    """

    name = "Corridor"
    default_params = Params()

    def observation_space(self, params: Params) -> Any:
        del params
        agent = {"position": gymnax.box(0.0, 3.0, ()), "floor": gymnax.discrete(4)}
        parts = {
            "agent": gymnax.dict_space(agent),
            "picture": gymnax.box(0.0, 255.0, (4, 4, 1)),
            "action_mask": gymnax.box(0.0, 1.0, (2, 2)),
        }
        return gymnax.dict_space(parts)

    def action_space(self, params: Params) -> Any:
        del params
        return gymnax.multi_discrete((2, 2))

    def reset_env(self, key: jax.Array, params: Params) -> tuple[View, State]:
        del params
        state = State(jax.random.randint(key, (), 0, 4), jnp.zeros((), jnp.int32))
        return self._view(state), state

    def step_env(
        self, key: jax.Array, state: State, action: jax.Array, params: Params
    ) -> tuple[View, State, jax.Array, jax.Array, dict[str, Any]]:
        del key, params
        legal = self._legal(state)[action[0], action[1]]
        move = (2 * action[0] - 1) * (action[1] + 1)
        position = jnp.clip(state.position + move, 0, 3)
        state = State(position, state.time + 1)
        reward = jnp.where(legal, position.astype(jnp.float32), 10.0)
        return self._view(state), state, reward, ~legal, {}

    def is_truncated(self, state: State, params: Params) -> jax.Array:
        return state.time >= params.max_steps_in_episode

    def _legal(self, state: State) -> jax.Array:
        """`[2, 2]`: by direction and length."""
        directions, lengths = jnp.array([-1, 1]), jnp.array([1, 2])
        reached = state.position + directions[:, None] * lengths[None]
        return (reached >= 0) & (reached <= 3)

    def _view(self, state: State) -> View:
        picture = jnp.zeros((4, 4, 1), jnp.uint8).at[:, state.position].set(255)
        agent = Agent(state.position.astype(jnp.float32), state.position)
        return View(agent, picture, self._legal(state))


CORRIDOR = Corridor()
