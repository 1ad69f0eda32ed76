"""An environment's parameters: what they must be, and values that replace the defaults."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.config import nearest
from jaxrl_pg.envs import spaces

__all__ = ["LIMIT", "defaults", "replace", "shape_of"]

LIMIT = "max_steps_in_episode"
_MOST = 2.0**31


def defaults(core: Any) -> Any:
    """Return an environment's default parameters.

    Raises:
        ValueError: if they are no dataclass of numbers and arrays, or have a time limit below 1.
    """
    name = spaces.name_of(core)
    with jax.ensure_compile_time_eval():  # it may make arrays, which must not be tracers
        params = core.default_params
    is_dataclass = hasattr(params, "__dict__") and callable(getattr(params, "replace", None))
    if not is_dataclass or isinstance(params, type):
        raise ValueError(
            f"{name}: default_params is {params!r:.80}: give a dataclass with a method replace, "
            "such as a subclass of gymnax.EnvParams made by flax.struct.dataclass"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if shape_of(leaf) is None:
            raise ValueError(
                f"{name}: default_params{jax.tree_util.keystr(path)} is {leaf!r:.60}, and "
                "parameters are numbers and arrays: make the class by flax.struct.dataclass, and "
                "mark what is neither by flax.struct.field(pytree_node=False)"
            )
    _check_limit(name, getattr(params, LIMIT, None), f"default_params.{LIMIT}")
    return params


def replace(core: Any, env: Any, params: Any, values: dict[str, Any]) -> Any:
    """Return parameters in which some have other values, each of its default's type and shape.

    Traced values are rounded where the default is whole, and True where they are not 0 where it is
    True or False.

    Args:
        core: the environment.
        env: what the user calls it, for error messages.
        params: from `defaults`.
        values: numbers, arrays or lists, by parameter.

    Raises:
        ValueError: for an unknown parameter (the nearest is named), or a value that would lose
            something in its default's type.
    """
    names, changes = list(vars(params)), {}
    for name, value in values.items():
        said = f"env_params[{name!r}]"
        if name not in names:
            raise ValueError(f"{said} of {env!r:.80}: {nearest(name, names)}")
        default = getattr(params, name)
        changes[name] = _cast(f"{said}={value!r:.60} of {env!r:.80}", default, value)
        if name == LIMIT:
            _check_limit(spaces.name_of(core), changes[name], said)
    return params.replace(**changes)


def _cast(said: str, default: Any, value: Any) -> Any:
    """A value in its default's type."""
    shape = shape_of(default)
    if shape is None:
        raise ValueError(f"{said}: it is {default!r:.60} by default, and only numbers can be given")
    kind = jnp.result_type(default)
    if isinstance(value, jax.core.Tracer):
        if value.shape != shape:
            raise ValueError(f"{said}: give {_wanted(kind, shape)}")
        return _as(kind, value)
    with contextlib.suppress(TypeError, ValueError, OverflowError), jax.ensure_compile_time_eval():
        given = jnp.asarray(float(value) if isinstance(value, int) else value)
        exact, is_real = _as(kind, given), jnp.issubdtype(kind, jnp.floating)
        kept = (exact.astype(given.dtype) == given) & (is_real | (jnp.abs(given) < _MOST))
        if given.shape == shape and bool(jnp.all(kept)):
            # A plain number stays one, which takes the type of what it is computed with.
            is_plain = isinstance(default, bool | int | float)
            return type(default)(value) if is_plain else exact.astype(kind)
    raise ValueError(f"{said}: give {_wanted(kind, shape)}")


def _as(kind: Any, value: jax.Array) -> jax.Array:
    """An array in another type: rounded to a whole one, or unequal 0."""
    if jnp.issubdtype(kind, jnp.bool_):
        return value != 0
    if jnp.issubdtype(kind, jnp.integer):
        return jnp.round(value).astype(kind)
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(kind)


def _wanted(kind: Any, shape: tuple[int, ...]) -> str:
    """What may be given, in words."""
    one, many = "a number", "numbers"
    if jnp.issubdtype(kind, jnp.integer):
        one, many = "a whole number of 32 bits", "whole numbers of 32 bits"
    if jnp.issubdtype(kind, jnp.bool_):
        one = many = "True or False"
    return f"an array of shape {shape} of {many}" if shape else one


def _check_limit(name: str, limit: Any, said: str) -> None:
    """Refuse a time limit in which no step can be taken."""
    if limit is None or isinstance(limit, jax.core.Tracer):
        return
    if jnp.shape(limit) != () or not limit >= 1:
        raise ValueError(f"{name}: {said}={limit}: an episode has at least 1 step, give 1 or more")


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """Return the shape of a number or an array; None for anything else."""
    if isinstance(leaf, bool | int | float):
        return ()
    return tuple(leaf.shape) if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else None
