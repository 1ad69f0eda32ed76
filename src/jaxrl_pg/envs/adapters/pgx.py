"""pgx: games in JAX (Koyamada et al. 2023, arXiv 2303.17503); of them, those for one player.

    ppo.Config(env="pgx:minatar-breakout?sticky_action_prob=0")
    ppo.Config(env="pgx:2048")

A game of Freeway lasts 2500 steps by its own rules, and its end is a termination, as in MinAtar
itself. In MinAtar every action is legal. In 2048 an illegal one ends the game with a reward of -1,
and observations are a dict with the mask of the legal ones, `action_mask`, unless the name says
`pgx:2048?action_mask=false`.
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
    """Return the names of the games for one player."""
    known = _pgx().available_envs()
    return sorted(name for name in known if name == "2048" or name.startswith("minatar-"))


def options(task: str) -> dict[str, Any]:
    """Return the arguments of a game's class, and their defaults; in 2048 also the mask."""
    arguments = inspect.signature(type(_pgx().make(task)).__init__).parameters.values()
    given = {x.name: x.default for x in arguments if x.default is not x.empty}
    return given | ({"action_mask": True} if _masked(task) else {})


def make(name: str, task: str, action_mask: bool = True, **given: Any) -> Counted:
    """Make a game.

    Args:
        name: what error messages call it.
        task: pgx's name, such as `minatar-breakout`.
        action_mask: whether observations say which actions are legal, where not all are.
        **given: arguments of the game's class, such as `sticky_action_prob`.
    """
    env = type(_pgx().make(task))(**given)
    masked = action_mask and _masked(task)

    def observed(state: Any) -> Any:
        obs = state.observation
        return {"observation": obs, "action_mask": state.legal_action_mask} if masked else obs

    def bare(state: Any) -> Any:
        """Drop what is not read in the next step."""
        return state.replace(observation=())

    def start(key: jax.Array) -> tuple[Any, Any]:
        state = env.init(key)
        return observed(state), bare(state)

    def advance(
        key: jax.Array, state: Any, action: jax.Array, limit: Any
    ) -> tuple[Any, Any, Any, Any]:
        del limit
        state = env.step(state, action, key)
        return observed(state), bare(state), state.rewards[0], state.terminated

    space = gymnax.box(0.0, 1.0, jax.eval_shape(env.init, jax.random.key(0)).observation.shape)
    if masked:
        mask = gymnax.box(0.0, 1.0, (env.num_actions,))
        space = gymnax.dict_space({"observation": space, "action_mask": mask})
    return Counted(name, start, advance, space, gymnax.discrete(env.num_actions))


def _masked(task: str) -> bool:
    return not task.startswith("minatar-")


def _pgx() -> ModuleType:
    import pgx

    return pgx
