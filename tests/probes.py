"""A probe environment: so small that the value of every state is known.

All probes are one environment with different parameters. Parameters are traced, so the probes
share one compiled training program for each kind of action.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

BOUND = 2.0


@struct.dataclass
class State(environment.EnvState):
    cue: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """What a probe is.

    Attributes:
        max_steps_in_episode: the time limit; an episode is truncated after so many steps.
        length: an episode terminates after so many steps.
        base: reward of every step.
        last_only: 1 if only an episode's terminating step pays.
        cue_weight: reward for the cue, which is -1 or 1 and drawn anew every step.
        cost: reward lost for a squared distance of 1 from the target action.
        target, follow: the target action is `target + follow * cue`.
        show_cue: what the cue is multiplied with in the observation.
        show_time: what the time is multiplied with in the observation.
        offset: the third entry of the observation, and added to the first.
    """

    max_steps_in_episode: float = 1e6
    length: float = 1e6
    base: float = 0.0
    last_only: float = 0.0
    cue_weight: float = 0.0
    cost: float = 0.0
    target: float = 0.0
    follow: float = 0.0
    show_cue: float = 0.0
    show_time: float = 0.0
    offset: float = 1.0


class Probe(environment.Environment[State, Params]):
    """Two actions that stand for -1 and 1, or one real action in [-2, 2]."""

    def __init__(self, discrete: bool = True) -> None:
        self.discrete = discrete

    @property
    def default_params(self) -> Params:
        return Params()

    def reset_env(self, key: jax.Array, params: Params) -> tuple[jax.Array, State]:
        state = State(time=0, cue=_cue(key))
        return self.get_obs(state, params), state

    def step_env(
        self, key: jax.Array, state: State, action: Any, params: Params
    ) -> tuple[jax.Array, State, jax.Array, jax.Array, dict[str, Any]]:
        signal = 2.0 * action - 1.0 if self.discrete else action[0]
        miss = signal - (params.target + params.follow * state.cue)
        reward = params.base + params.cue_weight * state.cue - params.cost * miss**2
        state = State(time=state.time + 1, cue=_cue(key))
        terminated = state.time >= params.length
        paid = terminated | (params.last_only == 0)
        return self.get_obs(state, params), state, reward * paid, terminated, {}

    def get_obs(self, state: State, params: Any = None, key: Any = None) -> jax.Array:
        first = params.offset + params.show_cue * state.cue
        return jnp.stack([first, params.show_time * state.time, jnp.asarray(params.offset)])

    def action_space(self, params: Params) -> Any:
        return spaces.Discrete(2) if self.discrete else spaces.Box(-BOUND, BOUND, (1,))

    def observation_space(self, params: Params) -> spaces.Box:
        return spaces.Box(-jnp.inf, jnp.inf, (3,))


class Endless(Probe):
    """A probe that no time limit ends."""

    def is_truncated(self, state: State, params: Params) -> jax.Array:
        return jnp.array(False)


def params(**changes: float) -> dict[str, float]:
    """All parameters of a probe, as floats: the same program serves every choice of them."""
    return {**vars(Params()), **{name: float(value) for name, value in changes.items()}}


def _cue(key: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, (), jnp.float32)
