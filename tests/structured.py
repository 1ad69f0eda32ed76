"""One walk that shows itself in many forms: one array, or a dict, a tuple or a struct of several.

What it does is the same in all of them, so that one form is the twin of another. A walker moves in
the plane, and sees where it is, in which of three phases the time is, and how far it went.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces

from jaxrl_pg.envs.adapters import gymnax

# How the actions of a walk are numbered: 2 x 3 of them.
NVEC = (2, 3)
NUM = 6
LIMIT = 5
PLANE = spaces.Box(-9.0, 9.0, (2,))
INSIDE = {"far": spaces.Box(0.0, 99.0, ()), "place": PLANE}
STRUCTURED = spaces.Dict({"walker": spaces.Dict(INSIDE), "phase": spaces.Discrete(3)})


@struct.dataclass
class Params:
    max_steps_in_episode: int = LIMIT


class State(NamedTuple):
    place: Any
    time: Any


class Walker(NamedTuple):
    far: Any
    place: Any


@struct.dataclass
class Seen:
    walker: Any
    phase: Any
    action_mask: Any = None


def as_dict(place, phase, far):
    return {"walker": {"far": far, "place": place}, "phase": phase}


def as_array(place, phase, far):
    """The parts in the order of their names, as a network joins them."""
    return jnp.concatenate([jax.nn.one_hot(phase, 3), far[None], place])


def legal(time):
    """Which of the actions are legal, `NVEC`: all but one in the first phase, then fewer."""
    return (jnp.arange(NUM) % 3 != time % 3).reshape(NVEC)


class Walk:
    """The walk.

    Attributes:
        form: from place, phase and distance to what is seen.
        space: of that.
        actions: their space.
        mask: give `action_mask` too.
    """

    default_params = Params()
    name = "Walk"

    def __init__(self, form=as_dict, space=STRUCTURED, actions=None, mask=False):
        self.form, self.space, self.mask = form, space, mask
        self.actions = actions or spaces.Discrete(NUM)
        if mask:
            shape = getattr(self.actions, "nvec", (NUM,))
            self.space = gymnax.dict_space({**space.spaces, "action_mask": spaces.Box(0, 1, shape)})

    def see(self, state):
        far = jnp.sum(jnp.abs(state.place))
        seen = self.form(state.place, state.time % 3, far)
        if not self.mask:
            return seen
        mask = legal(state.time).reshape(self.space.spaces["action_mask"].shape)
        if isinstance(seen, dict):
            return {**seen, "action_mask": mask}
        return seen.replace(action_mask=mask)

    def reset_env(self, key, params):
        state = State(jax.random.uniform(key, (2,)), jnp.int32(0))
        return self.see(state), state

    def step_env(self, key, state, action, params):
        number = action
        if hasattr(self.actions, "nvec"):
            number = action[0] * NVEC[1] + action[1]
        step = jnp.stack([number - 2.0, jax.random.normal(key)]).astype(jnp.float32)
        state = State(state.place + 0.5 * step, state.time + 1)
        ends = jnp.abs(state.place[0]) > 3.0
        return self.see(state), state, jnp.tanh(state.place[0]), ends, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params):
        return self.space

    def action_space(self, params):
        return self.actions


class Strict(Walk):
    """An illegal action is paid so that no return hides it."""

    def step_env(self, key, state, action, params):
        is_legal = legal(state.time).reshape(-1)[action]
        obs, state, _, *rest = super().step_env(key, state, action, params)
        return obs, state, jnp.where(is_legal, 1.0, 1000.0), *rest


def named(place, phase, far):
    return Seen(Walker(far, place), phase)


# The same walk, by how it is seen; the last one is the twin that all others are held against.
FORMS = {
    "dict": Walk(),
    "flat dict": Walk(
        lambda place, phase, far: {"spot": place, "phase": phase, "reach": far},
        spaces.Dict({"spot": PLANE, "phase": spaces.Discrete(3), "reach": INSIDE["far"]}),
    ),
    "struct of a named tuple": Walk(named),
    "tuple": Walk(
        lambda place, phase, far: (phase, (far, place)),
        spaces.Tuple([spaces.Discrete(3), spaces.Tuple(list(INSIDE.values()))]),
    ),
}
TWIN = Walk(as_array, spaces.Box(-99.0, 99.0, (6,)))
MASKED = Walk(mask=True)
MASKED_STRUCT = Walk(named, mask=True)
PAIRS = Walk(mask=True, actions=gymnax.multi_discrete(NVEC))


def joined(obs):
    """Read observations `[..., ]`, without the mask, as one array in the order of their names."""
    if not isinstance(obs, dict):
        return np.asarray(obs)
    names = sorted(name for name in obs if name != "action_mask")
    return np.concatenate([np.asarray(obs[name]) for name in names], axis=-1)


STRICT = Strict(mask=True)
