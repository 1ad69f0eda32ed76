"""A small environment, and variants of it that are wrong in one place each."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class State(environment.EnvState):
    position: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 4
    pace: float = 0.5
    backwards: bool = False
    stops: Any = struct.field(default_factory=lambda: jnp.arange(3))


class Line(environment.Environment):
    """A walk along a line, paid by the position; it never terminates.

    Attributes:
        parameters, observations, actions: what the properties and spaces return.
    """

    parameters: Any = Params()
    observations: Any = spaces.Box(-jnp.inf, jnp.inf, (2,))
    actions: Any = spaces.Discrete(2)

    @property
    def default_params(self) -> Any:
        return self.parameters

    def reset_env(self, key: jax.Array, params: Params) -> Any:
        state = State(time=0, position=jax.random.uniform(key))
        return self.get_obs(state, params), state

    def step_env(self, key: jax.Array, state: State, action: Any, params: Params) -> Any:
        pace = jnp.where(params.backwards, -params.pace, params.pace)
        state = state.replace(time=state.time + 1, position=state.position + pace * jnp.sum(action))
        return self.get_obs(state, params), state, state.position, jnp.array(False), {}

    def get_obs(self, state: State, params: Any = None, key: Any = None) -> jax.Array:
        return jnp.stack([state.position, 1.0 * state.time])

    def observation_space(self, params: Any) -> Any:
        return self.observations

    def action_space(self, params: Any) -> Any:
        return self.actions


class Cells(Line):
    """The same with three cells for positions, seen as an index."""

    observations = spaces.Discrete(3)

    def get_obs(self, state: State, params: Any = None, key: Any = None) -> jax.Array:
        return state.position.astype(jnp.int32) % 3


def variant(**changes: Any) -> Line:
    """Return a line of another class, in which some attributes or methods are others."""
    return type("Odd", (Line,), changes)()


def returning(*results: Any) -> Any:
    """Return a method that returns this."""
    return lambda *_: results
