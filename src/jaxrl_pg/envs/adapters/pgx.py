"""pgx: games in JAX (Koyamada et al. 2023, arXiv 2303.17503); those of one player.

    ppo.Config(env="pgx:minatar-breakout")
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import NO_LIMIT, Counted

__all__ = ["make", "names"]


def names() -> list[str]:
    """Return the names of the games of one player."""
    return sorted(name for name in _pgx().available_envs() if name.startswith("minatar-"))


def make(name: str, task: str, max_steps: int = NO_LIMIT, **options: Any) -> Counted:
    """Make a game.

    Args:
        name: what error messages call it.
        task: pgx's name, such as `minatar-breakout`.
        max_steps: the time limit; pgx has none.
        **options: arguments of the game's class, such as `sticky_action_prob`.
    """
    env = _pgx().make(task, **options)

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
    return Counted(name, start, advance, gymnax.box(0.0, 1.0, shape), actions, max_steps)


def _pgx() -> ModuleType:
    with jax.ensure_compile_time_eval():  # its modules make arrays
        import pgx

    return pgx
