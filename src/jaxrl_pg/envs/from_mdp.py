"""A finite MDP as an environment: agents act in what theory solves exactly."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax

__all__ = ["Params", "State", "Tabular", "from_mdp", "params_of"]

_ARRAYS = ("transition", "reward", "start")


class State(NamedTuple):
    """The state of an episode.

    Attributes:
        state: `[]` int32, the MDP's state.
        time: `[]` int32, steps taken.
    """

    state: jax.Array
    time: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """The MDP itself, so that one compiled program serves every MDP of a shape.

    Attributes:
        transition: `[S, A, S]`, P(s'|s,a).
        reward: `[S, A]`.
        start: `[S]`, distribution of the first state.
        max_steps_in_episode: time limit; reaching it truncates and does not terminate.
    """

    transition: jax.Array
    reward: jax.Array
    start: jax.Array
    max_steps_in_episode: Any

    def replace(self, **changes: Any) -> Params:
        """Return a copy with other values."""
        return dataclasses.replace(self, **changes)


class Tabular:
    """An MDP with gymnax 1.0's interface; observation and action are indices.

    An episode terminates on entering a state that every action stays in for certain and without
    reward. The reward is the MDP's `r(s,a)`, the expected one. Two objects are never equal, even
    with equal arrays: make one and keep it, and give other MDPs of its shape as `env_params`.
    """

    def __init__(self, params: Params) -> None:
        """Keep the default parameters, which must not be tracers."""
        self._params = params

    @property
    def name(self) -> str:
        """Return what error messages call the environment."""
        return f"Tabular({self.num_states} states, {self.num_actions} actions)"

    @property
    def num_states(self) -> int:
        """Return S, the number of states."""
        return self._params.reward.shape[0]

    @property
    def num_actions(self) -> int:
        """Return A, the number of actions."""
        return self._params.reward.shape[1]

    @property
    def default_params(self) -> Params:
        """Return the MDP that the environment was made from."""
        return self._params

    def reset_env(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        """Return the first observation and state, drawn from the start distribution."""
        first = _draw(key, params.start)
        return first, State(first, jnp.zeros((), jnp.int32))

    def step_env(
        self, key: jax.Array, state: State, action: jax.Array, params: Params
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, Any]]:
        """Return observation, state, reward, terminated and an empty info of one step."""
        successor = _draw(key, params.transition[state.state, action])
        reward = params.reward[state.state, action]
        stays = jnp.all(params.transition[successor, :, successor] == 1.0)
        terminated = stays & jnp.all(params.reward[successor] == 0.0)
        return successor, State(successor, state.time + 1), reward, terminated, {}

    def is_truncated(self, state: State, params: Params) -> jax.Array:
        """Say whether the time limit is reached."""
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params: Params) -> Any:
        """Return the space of the states' indices."""
        del params
        return gymnax.discrete(self.num_states)

    def action_space(self, params: Params) -> Any:
        """Return the space of the actions' indices."""
        del params
        return gymnax.discrete(self.num_actions)


def from_mdp(mdp: Any, max_steps_in_episode: int = 1000) -> Tabular:
    """Make an environment of an MDP, for `Config(env=...)`.

    The discount of the MDP is no part of the environment: give it to the agent as `gamma`.

    Args:
        mdp: anything with `transition [S, A, S]`, `reward [S, A]` and `start [S]`.
        max_steps_in_episode: time limit.

    Raises:
        ValueError: for arrays that do not fit, or for traced ones.
    """
    if any(isinstance(getattr(mdp, name), jax.core.Tracer) for name in _ARRAYS):
        raise ValueError(
            "from_mdp: traced arrays cannot be kept; make the environment from one MDP outside "
            "and give the traced ones as env_params=params_of(mdp)"
        )
    with jax.ensure_compile_time_eval():
        arrays = params_of(mdp)
    shapes = tuple(x.shape for x in arrays.values())
    num_states, num_actions = (*arrays["reward"].shape, 0, 0)[:2]
    expected = ((num_states, num_actions, num_states), (num_states, num_actions), (num_states,))
    if shapes != expected or not num_actions:
        raise ValueError(
            "from_mdp: transition, reward and start have shapes "
            f"{', '.join(map(str, shapes))}: give [S, A, S], [S, A] and [S]"
        )
    return Tabular(Params(**arrays, max_steps_in_episode=max_steps_in_episode))


def params_of(mdp: Any) -> dict[str, Any]:
    """Return the arrays of an MDP as `env_params`, in float32; batched ones can be vmapped over."""
    return {name: jnp.asarray(getattr(mdp, name), jnp.float32) for name in _ARRAYS}


def _draw(key: jax.Array, probability: jax.Array) -> jax.Array:
    """Draw an index from the distribution `[S]`, never an impossible one for rounding."""
    # The first possible index whose partial sum exceeds a uniform part of the largest. Partial
    # sums are computed in parallel and need not be monotone: impossible ones count as 0.
    sums = jnp.where(probability > 0.0, jnp.cumsum(probability), 0.0)
    threshold = jax.random.uniform(key, (), sums.dtype) * jnp.max(sums)
    return jnp.argmax(sums > threshold).astype(jnp.int32)
