"""craftax: Crafter and a larger world in JAX (Matthews et al. 2024, arXiv 2402.16801).

ppo.Config(env="craftax:Craftax-Classic-Symbolic-v1")
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import numpy as np

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views

__all__ = ["make", "names", "options"]


def names() -> list[str]:
    """Return the environments' names."""
    kinds = ("Craftax", "Craftax-Classic")
    return sorted(f"{kind}-{view}-v1" for kind in kinds for view in ("Pixels", "Symbolic"))


def options(task: str) -> dict[str, Any]:
    """Return an environment's parameters, and their defaults."""
    params = vars(_bare(task).default_params)
    return {key: x for key, x in params.items() if key != "max_timesteps"}


def make(name: str, task: str, **given: Any) -> Counted:
    """Make an environment.

    Args:
        name: what error messages call it.
        task: craftax's name, such as `Craftax-Symbolic-v1`.
        **given: its parameters, such as `god_mode`.
    """
    env = _bare(task)
    limit = env.default_params.max_timesteps
    # Its own limit would end episodes; ours does.
    params = env.default_params.replace(**given, max_timesteps=2**30)

    def start(key: jax.Array) -> tuple[Any, Any]:
        return env.reset_env(key, params)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del limit
        obs, state, reward, done, _ = env.step_env(key, state, action, params)
        return obs, state, reward, done

    shape = jax.eval_shape(start, jax.random.key(0))[0].shape
    actions = gymnax.discrete(env.action_space(params).n)
    space = gymnax.box(0.0, 1.0, shape)
    return Counted(name, start, advance, space, actions, limit, Views(_renderer(task)))


def _renderer(task: str) -> Callable[[Any], Any]:
    """Return craftax's own drawing of a state, whose textures are loaded when they are needed."""

    @functools.cache
    def loaded() -> Any:
        kind = "craftax_classic" if "Classic" in task else "craftax"
        renderer = import_module(f"craftax.{kind}.renderer")
        constants = import_module(f"craftax.{kind}.constants")
        return jax.jit(renderer.make_craftax_pixel_renderer(constants.BLOCK_PIXEL_SIZE_IMG))

    return lambda state: np.asarray(loaded()(state)).clip(0, 255).astype(np.uint8)


def _bare(task: str) -> Any:
    """Return craftax's environment, without automatic resets."""
    from craftax.craftax_env import make_craftax_env_from_name

    return make_craftax_env_from_name(task, auto_reset=False)
