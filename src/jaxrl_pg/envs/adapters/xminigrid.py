"""xminigrid: XLand-MiniGrid, grid worlds with rules and goals (Nikulin et al. 2024, 2312.12044).

    ppo.Config(env="xminigrid:MiniGrid-DoorKey-8x8")

A cell of an observation is two codes (tile, colour), which are no quantities: each becomes a
one-hot vector, so that the whole is an image of 25 binary channels.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views

__all__ = ["make", "names", "options"]


def names() -> list[str]:
    """Return the names of the environments that have a goal."""
    # Those of XLand have no goal without a set of rules, which are downloaded.
    known = _xminigrid().registered_environments()
    return sorted(name for name in known if not name.startswith("XLand"))


def options(task: str) -> dict[str, Any]:
    """Return what can be chosen, and its default."""
    return {"view_size": _xminigrid().make(task)[1].view_size}


def make(name: str, task: str, **given: Any) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: xminigrid's name, such as `MiniGrid-Empty-5x5`.
        **given: `view_size`, the odd width of the square that the player sees.
    """
    suite = _xminigrid()
    env, params = suite.make(task)
    params = params.replace(**given)
    if params.view_size < 3 or params.view_size % 2 == 0:
        raise ValueError(f"view_size={params.view_size} is not an odd number from 3 on")
    num_tiles, num_colors = suite.core.constants.NUM_TILES, suite.core.constants.NUM_COLORS

    def one_hot(codes: jax.Array) -> jax.Array:
        """Return binary channels for the two codes of each cell."""
        tile = jax.nn.one_hot(codes[..., 0], num_tiles, dtype=bool)
        color = jax.nn.one_hot(codes[..., 1], num_colors, dtype=bool)
        return jnp.concatenate([tile, color], axis=-1)

    def bare(timestep: Any) -> Any:
        """Drop what is not read in the next step."""
        return timestep.replace(observation=(), reward=(), discount=(), step_type=())

    def start(key: jax.Array) -> tuple[Any, Any]:
        timestep = env.reset(params, key)
        return one_hot(timestep.observation), bare(timestep)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del key  # its randomness is in the state
        # The reward falls with the time that was taken of the limit, so both must be the same.
        timestep = env.step(params.replace(max_steps=limit), state, action)
        terminated = timestep.discount == 0
        return one_hot(timestep.observation), bare(timestep), timestep.reward, terminated

    shape = jax.eval_shape(start, jax.random.key(0))[0].shape
    actions = gymnax.discrete(env.num_actions(params))
    space = gymnax.box(0.0, 1.0, shape)
    views = Views(lambda step: env.render(params.replace(render_mode="rgb_array"), step))
    return Counted(name, start, advance, space, actions, params.max_steps, views)


def _xminigrid() -> ModuleType:
    import xminigrid

    return xminigrid
