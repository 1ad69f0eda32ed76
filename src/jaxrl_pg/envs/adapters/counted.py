"""An environment of another suite with gymnax 1.0's interface, its steps counted here.

Suites differ in who starts the next episode and in what they call its end. Here all are the same:
a suite gives its bare start and step, and nothing of its automatic resets or time limits. The limit
is a parameter, and an episode that reaches it is truncated and not terminated, so that the value of
its true last observation is bootstrapped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["NO_LIMIT", "Counted", "CountedParams", "CountedState", "Described", "Views"]

NO_LIMIT = 100_000
Start = Callable[[jax.Array], tuple[Any, Any]]
Advance = Callable[[jax.Array, Any, jax.Array, Any], tuple[Any, Any, Any, Any]]


class Views(NamedTuple):
    """How a suite shows its own states, in NumPy arrays; None where it does not.

    Attributes:
        picture: `state -> [H, W, 3]` uint8.
        bodies: `state -> (model, data)` of MuJoCo, whose shapes and places are drawn.
        page: `states -> html`, of a whole episode: leaves are `[T, ...]`.
    """

    picture: Callable[[Any], Any] | None = None
    bodies: Callable[[Any], tuple[Any, Any]] | None = None
    page: Callable[[Any], str] | None = None


class CountedState(NamedTuple):
    """The state of an episode.

    Attributes:
        inner: the suite's own state.
        time: `[]` int32, steps taken.
    """

    inner: Any
    time: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CountedParams:
    """What may be changed in an environment that is made already.

    Attributes:
        max_steps_in_episode: the time limit.
    """

    max_steps_in_episode: Any = NO_LIMIT

    def replace(self, **changes: Any) -> CountedParams:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)


class Described:
    """What an environment with a time limit says of itself: its parameters and spaces."""

    def __init__(self, name: str, observation_space: Any, action_space: Any, limit: int) -> None:
        """Keep the name, gymnax's spaces, and the time limit unless another is given."""
        self.name, self._limit = name, limit
        self._observation_space, self._action_space = observation_space, action_space

    @property
    def default_params(self) -> CountedParams:
        """The parameters unless others are given."""
        return CountedParams(self._limit)

    def observation_space(self, params: CountedParams) -> Any:
        """Return the space of observations."""
        del params
        return self._observation_space

    def action_space(self, params: CountedParams) -> Any:
        """Return the space of actions."""
        del params
        return self._action_space


class Counted(Described):
    """A suite's environment; static, and equal only to itself."""

    def __init__(
        self,
        name: str,
        start: Start,
        advance: Advance,
        observation_space: Any,
        action_space: Any,
        limit: int = NO_LIMIT,
        views: Views | None = None,
    ) -> None:
        """Wrap a suite's bare functions.

        Args:
            name: as the user calls it, such as `brax:ant`.
            start: `key -> (observation, state)`.
            advance: `(key, state, action, limit) -> (observation, state, reward, terminated)`; the
                limit is for rewards that depend on it, and nothing may end because of it.
            observation_space: a gymnax space.
            action_space: likewise.
            limit: the time limit unless another is given.
            views: how its states are shown, if the suite says so.
        """
        super().__init__(name, observation_space, action_space, limit)
        self._start, self._advance, self.views = start, advance, views or Views()

    def reset_env(self, key: jax.Array, params: CountedParams) -> tuple[Any, CountedState]:
        """Start an episode."""
        del params
        obs, inner = self._start(key)
        return obs, CountedState(inner, jnp.zeros((), jnp.int32))

    def step_env(
        self, key: jax.Array, state: CountedState, action: jax.Array, params: CountedParams
    ) -> tuple[Any, CountedState, jax.Array, jax.Array, dict[str, Any]]:
        """Take one step; the last flag is termination alone."""
        limit = params.max_steps_in_episode
        obs, inner, reward, terminated = self._advance(key, state.inner, action, limit)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, bool).reshape(())
        return obs, CountedState(inner, state.time + 1), reward, terminated, {}

    def is_truncated(self, state: CountedState, params: CountedParams) -> jax.Array:
        """Say whether the time limit is reached."""
        return state.time >= params.max_steps_in_episode
