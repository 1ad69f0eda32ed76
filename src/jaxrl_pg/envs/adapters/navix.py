"""navix: MiniGrid in JAX (Pignatelli et al. 2024, arXiv 2407.19396).

    ppo.Config(env="navix:Navix-Empty-5x5-v0")
    ppo.Config(env="navix:Navix-DoorKey-8x8-v0?observation=symbolic_first_person")

A cell of a symbolic observation is three codes (kind of object, colour, state), which are no
quantities: each becomes a one-hot vector, so that the whole is an image of 21 binary channels.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.config import check_choice
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views

__all__ = ["make", "names", "options"]

_LIMIT = 100  # the default of `navix.make`
# Kinds of objects, colours, states of doors or directions. Of all codes in navix's environments one
# is beyond these, 254 for the state of KeyCorridor's locked door, where no channel is set.
_CODES = (11, 6, 4)
_OBSERVATIONS = ("symbolic", "symbolic_first_person")


def names() -> list[str]:
    """Return the environments' names."""
    return sorted(_navix().registry())


def options(task: str) -> dict[str, Any]:
    """Return what can be chosen, and its default."""
    del task
    return {"observation": _OBSERVATIONS[0]}


def make(name: str, task: str, observation: str = _OBSERVATIONS[0]) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: navix's name, such as `Navix-Empty-5x5-v0`.
        observation: the whole grid (`symbolic`), or what the player sees
            (`symbolic_first_person`).
    """
    check_choice("observation", observation, _OBSERVATIONS)
    suite = _navix()
    termination = suite.environments.environment.StepType.TERMINATION
    # Its own limit would end episodes; ours does.
    observe = getattr(suite.observations, observation)
    env = suite.make(task, max_steps=2**30, observation_fn=observe)

    def bare(timestep: Any) -> Any:
        """Drop what is not read in the next step."""
        nothing = jnp.zeros((), jnp.int32)
        return timestep.replace(
            observation=(),
            action=nothing,
            reward=(),
            step_type=nothing,
            state=timestep.state.replace(cache=()),  # images of all objects
            info={},
        )

    def start(key: jax.Array) -> tuple[Any, Any]:
        timestep = env.reset(key)
        return _one_hot(timestep.observation), bare(timestep)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del key, limit  # its randomness is in the state
        timestep = env._step(state, action)  # `step` starts new episodes by itself
        terminated = timestep.step_type == termination
        return _one_hot(timestep.observation), bare(timestep), timestep.reward, terminated

    @jax.jit
    def picture(timestep: Any) -> jax.Array:
        """Draw the whole grid, the images of all objects made anew."""
        cache = suite.rendering.cache.RenderingCache.init(timestep.state.grid)
        return suite.observations.rgb(timestep.state.replace(cache=cache))

    shape = jax.eval_shape(start, jax.random.key(0))[0].shape
    actions = gymnax.discrete(len(env.action_set))
    space = gymnax.box(0.0, 1.0, shape)
    return Counted(name, start, advance, space, actions, _LIMIT, Views(picture))


def _one_hot(codes: jax.Array) -> jax.Array:
    """Return binary channels `[H, W, 21]` for the three codes `[H, W, 3]` of each cell."""
    each = [jax.nn.one_hot(codes[..., i], n, dtype=bool) for i, n in enumerate(_CODES)]
    return jnp.concatenate(each, axis=-1)


def _navix() -> ModuleType:
    import navix

    return navix
