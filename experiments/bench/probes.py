"""A ring of six places on which it shows what a learner makes of a time limit.

Every step goes one place on, whatever the action, and is worth 1 from places 3, 4 and 5. Episodes
start at place 0 or 3 and are cut off after three steps: one that starts at 0 ends at 3, and one
that starts at 3 ends at 0. With a discount of 0.9 the values of the two starts say what stood
behind the last step (`MEANINGS`), whatever the library does inside.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

PLACES, LIMIT, DISCOUNT = 6, 3, 0.9
_HALF = 1 + DISCOUNT + DISCOUNT**2  # three rewards
_AFTER = DISCOUNT**LIMIT
_MEAN = _HALF / 2 / (1 - _AFTER)
# Values of the two starts if the last step is followed by the value of ...
MEANINGS = {
    "its true last observation": (_AFTER * _HALF / (1 - _AFTER**2), _HALF / (1 - _AFTER**2)),
    "the next episode's first observation": (_AFTER * _MEAN, _HALF + _AFTER * _MEAN),
    "nothing": (0.0, _HALF),
}
CLOSE = 0.25  # meanings lie 0.8 apart


@struct.dataclass
class State:
    """Where, and for how long: `[]` int32 each."""

    place: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    """The time limit."""

    max_steps_in_episode: int = LIMIT


def start(key: jax.Array) -> State:
    """Start at place 0 or 3."""
    place = 3 * jax.random.bernoulli(key).astype(jnp.int32)
    return State(place, jnp.zeros((), jnp.int32))


def advance(state: State) -> tuple[State, jax.Array]:
    """Go on by one place; the new state and the reward."""
    reward = (state.place >= 3).astype(jnp.float32)
    return State((state.place + 1) % PLACES, state.time + 1), reward


def observe(state: State) -> jax.Array:
    """The place as a one-hot vector."""
    return jax.nn.one_hot(state.place, PLACES)


def meaning(values: Any) -> str:
    """What the values `[6]` of all places say of the step before the limit."""
    found = float(values[0]), float(values[3])
    near = [name for name, point in MEANINGS.items() if math.dist(found, point) < CLOSE]
    return f"{near[0] if near else 'something else'} ({found[0]:.2f}, {found[1]:.2f})"


def make_gymnax(ends: bool = False, old: bool = False) -> Any:
    """The ring as an environment of gymnax 1.0, or of gymnax 0.0.9 (`old`).

    Args:
        ends: the third step also ends an episode by the ring's own rule.
        old: `done` is the end of an episode for whatever reason, as gymnax 0.0.9 has it.
    """
    from gymnax.environments import environment, spaces

    class Ring(environment.Environment):
        name = "Ring"
        num_actions = 2
        default_params = Params()

        def reset_env(self, key, params):
            state = start(key)
            return observe(state), state

        def step_env(self, key, state, action, params):
            state, reward = advance(state)
            over = state.time >= params.max_steps_in_episode
            done = over if old or ends else jnp.zeros((), bool)
            return observe(state), state, reward, done, {}

        def is_truncated(self, state, params):
            return state.time >= params.max_steps_in_episode

        def is_terminal(self, state, params):
            return state.time >= params.max_steps_in_episode if old or ends else jnp.zeros((), bool)

        def get_obs(self, state, params=None, key=None):
            return observe(state)

        def observation_space(self, params):
            return spaces.Box(0.0, 1.0, (PLACES,), jnp.float32)

        def action_space(self, params=None):
            return spaces.Discrete(2)

    return Ring()


def make_brax(ends: bool = False) -> Any:
    """The ring as an environment of brax, which has no time limit of its own."""
    from brax.envs.base import Env
    from brax.envs.base import State as BraxState

    class Ring(Env):
        observation_size = PLACES
        action_size = 1
        backend = "none"

        def reset(self, rng):
            state = start(rng)
            return BraxState(state, observe(state), jnp.zeros(()), jnp.zeros(()), {}, {})

        def step(self, state, action):
            ring, reward = advance(state.pipeline_state)
            # The time of an episode is not the ring's after an automatic reset to a kept state.
            done = (ring.time >= LIMIT).astype(jnp.float32) if ends else jnp.zeros(())
            return state.replace(pipeline_state=ring, obs=observe(ring), reward=reward, done=done)

    return Ring()
