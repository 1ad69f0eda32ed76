"""pgx: games in JAX (Koyamada et al. 2023, arXiv 2303.17503); of them, MinAtar's.

    ppo.Config(env="pgx:minatar-breakout?sticky_action_prob=0")

The others are for several players, or need masks of legal actions. A game of Freeway lasts 2500
steps by its own rules, and its end is a termination, as in MinAtar itself.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import jax

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted

__all__ = ["make", "names", "options"]


def names() -> list[str]:
    """Return the names of MinAtar's games."""
    return sorted(name for name in _pgx().available_envs() if name.startswith("minatar-"))


def options(task: str) -> dict[str, Any]:
    """Return the arguments of a game's class, and their defaults."""
    arguments = inspect.signature(type(_pgx().make(task)).__init__).parameters.values()
    return {x.name: x.default for x in arguments if x.default is not x.empty}


def make(name: str, task: str, **given: Any) -> Counted:
    """Make a game.

    Args:
        name: what error messages call it.
        task: pgx's name, such as `minatar-breakout`.
        **given: arguments of the game's class, such as `sticky_action_prob`.
    """
    env = type(_pgx().make(task))(**given)

    def bare(state: Any) -> Any:
        """Drop what is not read in the next step."""
        return state.replace(observation=())

    def start(key: jax.Array) -> tuple[Any, Any]:
        state = env.init(key)
        return state.observation, bare(state)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del limit
        state = env.step(state, action, key)
        return state.observation, bare(state), state.rewards[0], state.terminated

    shape = jax.eval_shape(start, jax.random.key(0))[0].shape
    actions = gymnax.discrete(env.num_actions)
    return Counted(name, start, advance, gymnax.box(0.0, 1.0, shape), actions)


def _pgx() -> ModuleType:
    import pgx

    return pgx
