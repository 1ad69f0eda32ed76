"""What the functions of the front door are given, looked at before any of it is traced.

All of it is read off types and shapes, so that it costs little and works under `jit` and `vmap`.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig, agent_of, path_of
from jaxrl_pg.fields import shown
from jaxrl_pg.types import Agent, TrainState

__all__ = [
    "Shapes",
    "leaf_shapes",
    "require_config",
    "require_hidden",
    "require_state",
    "require_static",
    "require_whole",
    "stand_in",
]

Shapes = tuple[tuple[int, ...], ...]


def require_config(config: BaseConfig) -> Agent[Any, Any]:
    """Return the agent of one config.

    Raises:
        ValueError: if it is the config of no agent, or of many members without `vmap`, or has
            environments on the host and several devices.
    """
    agent = agent_of(config)
    envs.host.require_possible(config.env, config.num_devices)
    # A parameter of the environment may be an array: `envs.make` knows which.
    for path, leaf in jax.tree_util.tree_leaves_with_path(config.replace(env_params={})):
        if jnp.ndim(leaf) > 0:
            raise ValueError(
                f"config{jax.tree_util.keystr(path)} is an array: give a number, or train many at "
                f"once with jax.vmap or a sweep (its shape is {jnp.shape(leaf)})"
            )
    return agent


def require_static(function: str, **values: Any) -> None:
    """Refuse traced values of arguments that set shapes or choose the program.

    Args:
        function: whose arguments they are.
        **values: all of its static arguments.

    Raises:
        ValueError: saying how `jax.jit` is told of them.
    """
    traced = [name for name, x in values.items() if isinstance(x, jax.core.Tracer)]
    if traced:
        names = ", ".join(f'"{name}"' for name in values)
        raise ValueError(
            f"{' and '.join(traced)} cannot be traced: give jax.jit({function}, "
            f"static_argnames=({names},)), because the program's shapes follow from its value"
        )


def require_whole(name: str, value: Any, low: int) -> int:
    """Return a number that sets a shape, as a Python integer.

    Raises:
        ValueError: if it is no whole number, below `low`, or too large to count with 32 bits.
    """
    try:
        whole = low - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = low - 1
    if not low <= whole < 2**31:
        raise ValueError(f"{name}={shown(value)}: give a whole number from {low} to 2^31 - 1")
    return whole


def require_hidden(config: BaseConfig, hidden: Any, num: int) -> Any:
    """Refuse what is remembered by no core, of another size, or nothing where there is a core.

    Args:
        config: the agent's.
        hidden: None, or a pytree of `[num, ...]`.
        num: observations.

    Returns:
        `hidden`, None for a config without a core.

    Raises:
        ValueError: saying what to give.
    """
    agent = agent_of(config)
    structure = jax.tree.structure(config)
    start = agent.memory.start if agent.memory else None
    shapes = _hidden_shapes(start, structure, leaf_shapes(config), num) if start else ()
    if not jax.tree.leaves(shapes):
        if hidden is not None:
            raise ValueError(f"hidden={shown(hidden)} and the policy has no core: leave it out")
        return None
    given = jax.tree.map(jnp.shape, hidden)
    if given != jax.tree.map(lambda x: x.shape, shapes):
        raise ValueError(
            f"the policy has a core and hidden has shapes {given}: give hidden=policy.start({num}) "
            "when episodes begin, and after that what the last call returned"
        )
    return hidden


def require_state(config: BaseConfig, state: Any, learner_only: bool = False) -> None:
    """Refuse a train state that another config made: of another agent, or of other shapes.

    Args:
        config: what the state is to go on with.
        state: the train state.
        learner_only: look at the learner alone, and at no types. Of a policy that was saved alone
            whole fields of it may be missing.

    Raises:
        ValueError: naming the first leaf that differs.
    """
    agent = agent_of(config)
    if not isinstance(state, TrainState):
        raise ValueError(
            f"state is a {type(state).__name__}: give a train state, such as jaxrl_pg.init or "
            "jaxrl_pg.train returns first"
        )
    wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined, unused-ignore]
    made = _shapes(agent.init, jax.tree.structure(config), leaf_shapes(config), wide)
    if type(state.learner) is not type(made.learner):
        raise ValueError(
            f"the state has a {path_of(state.learner)} and {agent.name} a "
            f"{path_of(made.learner)}: give the config that made the state"
        )
    want, have = (_leaves(s.learner if learner_only else s) for s in (made, state))
    alone = learner_only and state.actor == ()
    fields = {path[:1] for path in have}
    for path in {**want, **have}:
        if alone and path[:1] not in fields:
            continue
        here, there = want.get(path), have.get(path)
        if here is not None and there is not None and here.shape == there.shape:
            fits = learner_only or here.dtype == there.dtype
        else:
            fits = False
        if not fits:
            where = f"state{'.learner' if learner_only else ''}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{where} is {_name(there)} and this config of {agent.name} makes {_name(here)}: "
                f"{_remedy(here, there)}"
            )


def leaf_shapes(config: BaseConfig) -> Shapes:
    """Return the shapes of a config's numbers: of all but parameters of environments, `()`."""
    return tuple(jnp.shape(x) for x in jax.tree.leaves(config))


def stand_in(structure: Any, shapes: Shapes) -> Any:
    """Return a config with one static part and other numbers, to trace what only that part shapes.

    Args:
        structure: of the config as a pytree.
        shapes: of its numbers, from `leaf_shapes`.
    """
    return jax.tree.unflatten(structure, [jnp.ones(x) if x else 1.0 for x in shapes])


@functools.lru_cache(maxsize=64)
def _shapes(init: Any, structure: Any, shapes: Shapes, wide: bool) -> Any:
    """A fresh train state's shapes, which are the same for all configs of one static part."""
    config = stand_in(structure, shapes)
    return jax.eval_shape(init, config, jax.eval_shape(jax.random.key, 0))


@functools.lru_cache(maxsize=64)
def _hidden_shapes(start: Any, structure: Any, shapes: Shapes, num: int) -> Any:
    """The shapes of what a core remembers, for a call that acts is to take microseconds."""
    config = stand_in(structure, shapes)
    return jax.eval_shape(lambda: start(config, num))


def _leaves(tree: Any) -> dict[tuple[Any, ...], Any]:
    """The type and shape of each leaf by its path."""
    return {path: jax.typeof(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(leaf: Any) -> str:
    return "missing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")


def _remedy(here: Any, there: Any) -> str:
    """What to do about a leaf that the config makes here and the state has there."""
    if here is not None and there is not None:
        if there.shape[1:] == here.shape and there.shape != here.shape:
            return "for the states of many members use jax.vmap"
        if there.shape == here.shape and {here.dtype.itemsize, there.dtype.itemsize} == {4, 8}:
            return "jax_enable_x64 was set otherwise when the state was made, set it the same"
    return "give the config that made the state"
