"""What an environment's spaces say, checked: shapes, numbers of elements, bounds."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import structure
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.types import ACTION_MASK, EnvSpec, ObsShape

__all__ = [
    "INFINITE",
    "beyond",
    "check_bounds",
    "is_bounded",
    "name_of",
    "require_squashable",
    "spec",
    "stretch",
]

_MOST = 2**20  # elements of a finite set, or numbers in an observation or action
_MOST_COMBINATIONS = 2**16
INFINITE = 1e30  # gymnax writes the largest float for "no bound"


def name_of(core: Any) -> str:
    """Return what error messages call an environment: its own name, or its class's."""
    return str(getattr(core, "name", type(core).__name__))


@functools.cache
def spec(core: Any) -> EnvSpec:
    """Read off an environment's spaces what a network must know.

    Raises:
        ValueError: for spaces that no policy here can serve.
    """
    name = name_of(core)
    obs_space, action_space = (_space(core, kind) for kind in ("observation", "action"))
    factors: tuple[int, ...] = ()
    if gymnax.is_discrete(action_space):
        num = _count(name, "actions", action_space.n)
    elif gymnax.is_multi_discrete(action_space):
        num, factors = _combinations(name, action_space)
    else:
        return _box_actions(name, action_space)._replace(obs_shape=_obs_shape(name, obs_space))
    shapes = _obs_shape(name, obs_space, num)
    masked = any(part.is_mask for part in structure.parts(obs_space))
    return EnvSpec(shapes, True, num, (), masked, factors)


def _box_actions(name: str, space: Any) -> EnvSpec:
    """What Box actions say; the observations' shape is another's."""
    shape = _shape(name, "actions", space)
    if len(shape) != 1:
        raise ValueError(
            f"{name}: Box actions must be vectors, not of shape {shape}: give a Box of shape "
            f"({math.prod(shape)},)"
        )
    return EnvSpec((), False, shape[0], shape)


def _combinations(name: str, space: Any) -> tuple[int, tuple[int, ...]]:
    """The number of a MultiDiscrete's vectors, each an action of its own, and its `nvec`."""
    factors = tuple(int(n) for n in space.nvec)  # it may be an array, whose product may overflow
    num = math.prod(factors)
    if not factors or min(factors) < 1 or num > _MOST_COMBINATIONS:
        raise ValueError(
            f"{name}: MultiDiscrete({list(factors)!r:.80}) has {num} combinations: give from 1 "
            f"to {_MOST_COMBINATIONS}, since a network has one output for each"
        )
    return num, factors


def _obs_shape(name: str, space: Any, num_actions: int | None = None) -> ObsShape:
    """The shape of an observation, or each array's; the mask's is `(num_actions,)`."""
    shapes = []
    for part in structure.parts(space):
        what = f"observations {part.name!r}" if part.name else "observations"
        if part.is_mask:
            shapes.append((part.name, _mask_shape(name, part.space, num_actions)))
        elif gymnax.is_discrete(part.space):
            shapes.append((part.name, (_count(name, what, part.space.n),)))
        else:
            shapes.append((part.name, _shape(name, what, part.space) or (1,)))
    if structure.is_flat(space):
        return shapes[0][1]
    names = [part for part, _ in shapes]
    if len(set(names)) < len(names) or set(names) <= {ACTION_MASK}:
        raise ValueError(
            f"{name}: observations have the parts {names}: give each a name of its own, and at "
            "least one beside action_mask"
        )
    return tuple(shapes)


def _mask_shape(name: str, space: Any, num_actions: int | None) -> tuple[int, ...]:
    size = math.prod(space.shape)
    if size != num_actions:
        there = (
            "Box actions have none" if num_actions is None else f"there are {num_actions} actions"
        )
        raise ValueError(
            f"{name}: action_mask has shape {tuple(space.shape)}, and {there}: give one "
            "number for each action, or another name to what is no mask"
        )
    return (size,)


def check_bounds(core: Any, params: Any, values: dict[str, Any]) -> None:
    """Refuse values of parameters that leave Box actions no room, unless they are traced.

    Args:
        core: the environment.
        params: its parameters.
        values: those of them that the user gave.

    Raises:
        ValueError: for a lower bound above its upper one, or a bound that is not a number.
    """
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
        return
    with jax.ensure_compile_time_eval():
        space = core.action_space(params)
    if gymnax.is_box(space):
        _bounds(f"env_params={values!r:.80}: {name_of(core)}", "actions", space)


def require_squashable(core: Any, params: Any, agent: str) -> None:
    """Refuse Box actions without finite bounds, for agents that squash theirs into bounds.

    Raises:
        ValueError: naming the first dimension that has no lower or no upper bound.
    """
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
        params = core.default_params
    with jax.ensure_compile_time_eval():
        space = core.action_space(params)
    if not gymnax.is_box(space):
        return
    low, high = _bounds(name_of(core), "actions", space)
    with jax.ensure_compile_time_eval():
        both = jnp.stack([jnp.broadcast_to(x, space.shape) for x in (low, high)], axis=1)
    for i, (lowest, highest) in enumerate(jax.device_get(both).tolist()):
        if lowest <= -INFINITE or highest >= INFINITE:
            raise ValueError(
                f"{agent} squashes actions by tanh, and dimension {i} of the actions of "
                f"{name_of(core)} is from {lowest:g} to {highest:g}: give finite bounds, or use an "
                "agent whose actions are not squashed, such as ppo"
            )


def stretch(space: Any, action: jax.Array) -> jax.Array:
    """Return raw actions `[..., D]` within the bounds of a Box of shape `[D]`.

    Clipped to [-1, 1] and stretched onto the bounds where both are finite; otherwise only clipped,
    on the side that has a bound.
    """
    shape = tuple(space.shape)
    low = jnp.broadcast_to(jnp.asarray(space.low, jnp.float32), shape)
    high = jnp.broadcast_to(jnp.asarray(space.high, jnp.float32), shape)
    low, high, action = jnp.broadcast_arrays(low[None], high[None], action)
    finite = (low > -INFINITE) & (high < INFINITE)
    stretched = low + 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0) * (high - low)
    return jnp.where(finite, stretched, jnp.clip(action, low, high))


def beyond(space: Any, action: jax.Array) -> jax.Array:
    """Return how far raw actions `[..., D]` lie outside of those that `stretch` tells apart."""
    low = jnp.broadcast_to(jnp.asarray(space.low, jnp.float32), action.shape)
    high = jnp.broadcast_to(jnp.asarray(space.high, jnp.float32), action.shape)
    finite = is_bounded(space, action.shape)
    inside = jnp.clip(action, jnp.where(finite, -1.0, low), jnp.where(finite, 1.0, high))
    return action - inside


def is_bounded(space: Any, shape: tuple[int, ...]) -> jax.Array:
    """Say which dimensions have two finite bounds, in the shape `[..., D]` of raw actions."""
    low, high = (jnp.broadcast_to(jnp.asarray(x), shape) for x in (space.low, space.high))
    return (low > -INFINITE) & (high < INFINITE)


def _space(core: Any, kind: str) -> Any:
    """The space of observations or actions, asked for outside of any trace."""
    name, method = name_of(core), f"{kind}_space"
    try:
        with jax.ensure_compile_time_eval():
            space = getattr(core, method)(core.default_params)
    except Exception as error:
        raise ValueError(
            f"{name}: {method}(params) raises {type(error).__name__}: {error}: give a method that "
            "returns one of gymnax's spaces"
        ) from error
    is_observation = kind == "observation"
    inside = [part.space for part in structure.parts(space)] if is_observation else [space]
    allowed = "Box or Discrete" + (", or a Dict of these," if is_observation else "")
    for one in inside:
        if gymnax.is_discrete(one) or gymnax.is_box(one):
            continue
        if is_observation or not gymnax.is_multi_discrete(one):
            raise ValueError(
                f"{name}: {kind}s must be a {allowed} of gymnax.environments.spaces, not "
                f"{' '.join(repr(one).split()):.80}"
            )
    return space


def _count(name: str, what: str, num: Any) -> int:
    if not 1 <= int(num) <= _MOST:
        raise ValueError(
            f"{name}: Discrete({int(num)}) {what}: give from 1 to {_MOST}, since a network has one "
            "input or output for each"
        )
    return int(num)


def _shape(name: str, what: str, space: Any) -> tuple[int, ...]:
    """The shape of a Box, whose bounds fit it."""
    shape = tuple(int(n) for n in space.shape)
    if not 1 <= math.prod(shape) <= _MOST:
        raise ValueError(
            f"{name}: Box {what} of shape {shape} hold {math.prod(shape)} numbers: give from 1 to "
            f"{_MOST}"
        )
    _bounds(name, what, space)
    return shape


def _bounds(name: str, what: str, space: Any) -> tuple[Any, Any]:
    """The lower and upper bounds of a Box, on the host."""
    try:
        with jax.ensure_compile_time_eval():
            low, high = jax.device_get([jnp.asarray(x) for x in (space.low, space.high)])
        fits = jnp.broadcast_shapes(low.shape, high.shape, space.shape) == tuple(space.shape)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name}: Box {what} of shape {tuple(space.shape)} have bounds low={space.low!r:.60} "
            f"and high={space.high!r:.60}: give one number, or one for each"
        )
    if not (low <= high).all():  # false for NaN, too
        raise ValueError(
            f"{name}: Box {what} have bounds low={low.tolist()!r:.60} and high="
            f"{high.tolist()!r:.60}: give numbers, no lower bound above its upper one"
        )
    return low, high
