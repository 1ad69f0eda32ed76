"""Environments of any spaces, whose steps do nothing: for what policies make of observations."""

import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces


@struct.dataclass
class Params:
    max_steps_in_episode: int = 9


class Still:
    """Shows the same array for ever, of zeros."""

    default_params = Params()

    def __init__(self, name, seen, actions, dtype=jnp.float32):
        self.name, self.seen, self.actions, self.dtype = name, seen, actions, dtype

    def reset_env(self, key, params):
        obs = jnp.zeros(self.seen.shape, self.dtype)
        return obs, jnp.int32(0)

    def step_env(self, key, state, action, params):
        obs = jnp.zeros(self.seen.shape, self.dtype)
        return obs, state + 1, jnp.float32(0), jnp.zeros((), bool), {}

    def is_truncated(self, state, params):
        return state >= params.max_steps_in_episode

    def observation_space(self, params):
        return self.seen

    def action_space(self, params):
        return self.actions


def box(low, high):
    low, high = jnp.array(low), jnp.array(high)
    return spaces.Box(low, high, low.shape)


# Real actions, in which any difference shows.
TWO = spaces.Box(-1.0, 1.0, (2,))
INF = float("inf")
VECTOR = spaces.Box(-1.0, 1.0, (5,))
# Images of bytes, large enough for the three convolutions of `nature`, and with odd sides.
LARGE = Still("Large", spaces.Box(0, 255, (36, 40, 1)), TWO, jnp.uint8)
SMALL = Still("Small", spaces.Box(0, 255, (9, 12, 2)), TWO, jnp.uint8)
BITS = Still("Bits", spaces.Box(0, 1, (6, 5, 2)), TWO, bool)
INDEX = Still("Index", spaces.Discrete(5), spaces.Discrete(3), jnp.int32)
REACH = Still("Reach", VECTOR, box([-1.0, 0.0, -3.0], [2.0, 0.5, 3.0]))
FREE = Still("Free", VECTOR, box([-1.0, -INF, 0.0, -INF], [2.0, INF, INF, 1.0]))
