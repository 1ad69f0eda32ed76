"""Observations: from what an environment gives to what a network reads.

An environment gives an index where its observations are `Discrete(n)`, an array of its Box's shape,
or a dict, tuple or struct of these. A network reads arrays of `EnvSpec.obs_shape`: an index as a
one-hot vector `[n]`, a number without axes as `(1,)`; bool and uint8 as they are, everything else
as float32. Of a structure it reads a flat dict of such arrays, and `action_mask` is bool
`[num_actions]`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.envs import structure
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.making import Env
from jaxrl_pg.types import ACTION_MASK, EnvSpec, Obs, ObsShape

__all__ = [
    "as_rows",
    "batch",
    "blank",
    "checked",
    "frame",
    "packed",
    "parts",
    "readable",
    "shapes",
]

_IMAGE_AXES = 3


def as_rows(env: Env, obs: Any) -> tuple[Obs, tuple[int, ...]]:
    """Take observations of the user's, with any axes in front, as rows that networks read.

    Args:
        env: from `envs.make`.
        obs: as the environment gives them: indices `[...]` of a `Discrete` space, or
            `[..., *shape]` of a Box, or a dict or struct of these. May be traced. Images of bytes
            may be whole numbers from 0 to 255 of any type.

    Returns:
        `[N, *obs_shape]`, and the axes that were in front.

    Raises:
        ValueError: for another type, structure or shape, an index that does not exist, or what is
            no byte in an image of bytes.
    """
    known = parts(env)
    arrays, outer = checked(known, obs)

    def read(part: structure.Part, value: Any) -> jax.Array:
        return _readable(env.spec, part, value).reshape(-1, *wanted[part.name])

    wanted = shapes(env.spec.obs_shape)
    return structure.gather_parts(known, arrays, read), outer


def parts(env: Env) -> tuple[structure.Part, ...]:
    """Return the arrays that an environment's observations are made of."""
    with jax.ensure_compile_time_eval():  # spaces hold arrays, and these are no tracers
        known = structure.parts(env.core.observation_space(env.params))
    if not any(len(part.space.shape) == _IMAGE_AXES for part in known):
        return tuple(known)
    images = _images_of_bytes(env.core)
    return tuple(part._replace(is_bytes=part.name in images) for part in known)


def checked(known: Sequence[structure.Part], obs: Any) -> tuple[Any, tuple[int, ...]]:
    """Take observations of the user's, with any axes in front, as arrays.

    Args:
        known: from `parts`.
        obs: as for `as_rows`.

    Returns:
        An array, or a flat dict of arrays, as the environment gives them; and the axes in front.

    Raises:
        ValueError: as `as_rows`.
    """
    outer: dict[str, tuple[int, ...]] = {}

    def read(part: structure.Part, value: Any) -> Any:
        array, outer[part.name] = _checked(part, value)
        return array

    arrays = structure.gather_parts(known, obs, read)
    if len(set(outer.values())) > 1:
        raise ValueError(
            f"the parts of obs have different axes in front, {outer}: give one observation, or a "
            "batch of all parts"
        )
    return arrays, next(iter(outer.values()))


def batch(env: Env, obs: Any) -> Obs:
    """Take a batch of observations as rows `[N, *obs_shape]` that networks read.

    Args:
        env: from `envs.make`.
        obs: `[N, ...]` as the environment gives them, or as networks read them, which is how
            rollouts hold them. Where the two differ, one has an axis more.

    Raises:
        ValueError: as `as_rows`, or if there is not one axis in front.
    """
    space = env.core.observation_space(env.params)
    if _is_read(env.spec, space, obs):
        return obs
    rows, outer = as_rows(env, obs)
    if len(outer) != 1:
        shape = jnp.shape(obs) if structure.is_flat(space) else outer
        raise ValueError(f"obs has shape {shape}: give a batch [N, ...] of {_wanted_all(space)}")
    return rows


def readable(env: Env, obs: Any) -> Obs:
    """Return observations `[..., *obs_shape]` as networks read them, of an environment's own."""
    space = env.core.observation_space(env.params)
    return structure.gather(space, obs, lambda part, value: _readable(env.spec, part, value))


def packed(env: Env, obs: Obs) -> Obs:
    """Return observations as a rollout keeps them: bool where they hold only 0 and 1.

    Networks make float32 of them again. A quarter of the bytes then passes through memory whenever
    a minibatch is gathered.
    """
    return obs.astype(bool) if gymnax.is_binary(env.core) else obs


def frame(part: structure.Part, value: Any) -> jax.Array:
    """Return an array (no mask) of one observation, without axes in front, as networks read it."""
    if gymnax.is_discrete(part.space):
        return jax.nn.one_hot(value, part.space.n)
    return _kept(part, jnp.asarray(value).reshape(tuple(part.space.shape) or (1,)))


def blank(obs_shape: ObsShape, num: int) -> Obs:
    """Return `num` observations of zeros, every action legal, for what depends on shapes alone."""
    arrays = {
        name: jnp.ones((num, *shape), bool) if name == ACTION_MASK else jnp.zeros((num, *shape))
        for name, shape in shapes(obs_shape).items()
    }
    return arrays.get("", arrays)


def shapes(obs_shape: ObsShape) -> dict[str, tuple[int, ...]]:
    """Return the shape in which networks read each array, by name; of a single array, by `""`."""
    first: Any = obs_shape[0]
    structured: Any = obs_shape
    return dict(structured) if isinstance(first, tuple) else {"": structured}


@functools.lru_cache(maxsize=32)
def _images_of_bytes(core: Any) -> frozenset[str]:
    """Return the names of the images that an environment gives as bytes, whatever its space says.

    A float32 space may well have observations of bytes, and one of bytes others.
    """
    found = set[str]()
    with jax.ensure_compile_time_eval():  # an environment may keep what it makes here
        params = core.default_params
        space = core.observation_space(params)
    obs, _ = jax.eval_shape(core.reset_env, jax.random.key(0), params)

    def read(part: structure.Part, value: Any) -> None:
        if len(part.space.shape) == _IMAGE_AXES and value.dtype == jnp.uint8:
            found.add(part.name)

    structure.gather(space, obs, read)
    return frozenset(found)


def _is_read(spec: EnvSpec, space: Any, obs: Any) -> bool:
    """Whether observations have the form in which networks read them, one axis in front."""
    wanted = shapes(spec.obs_shape)
    arrays = {"": obs} if structure.is_flat(space) else obs
    if not isinstance(arrays, dict) or arrays.keys() != wanted.keys():
        return False
    for part in structure.parts(space):
        value = arrays[part.name]
        shape = jnp.shape(value)
        if not shape or shape[1:] != wanted[part.name]:
            return False
        if gymnax.is_discrete(part.space) and jnp.issubdtype(value.dtype, jnp.integer):
            return False
    return True


def _readable(spec: EnvSpec, part: structure.Part, value: Any) -> jax.Array:
    if gymnax.is_discrete(part.space):
        return jax.nn.one_hot(value, part.space.n)
    value = jnp.asarray(value)
    outer = value.shape[: max(value.ndim - len(part.space.shape), 0)]
    return _kept(part, value.reshape(*outer, *shapes(spec.obs_shape)[part.name]))


def _kept(part: structure.Part, value: jax.Array) -> jax.Array:
    if part.is_mask:
        return value.astype(bool)
    return value if value.dtype in (jnp.bool_, jnp.uint8) else value.astype(jnp.float32)


def _checked(part: structure.Part, value: Any) -> tuple[Any, tuple[int, ...]]:
    """An array of the user's, of a part's own shape, and the axes in front of it."""
    space, obs = part.space, f"obs[{part.name!r}]" if part.name else "obs"
    is_index, shape = gymnax.is_discrete(space), tuple(space.shape)
    try:
        array = _as_array(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{obs}={value!r:.80} is no array: give {_wanted(space)} or a batch of them"
        ) from error
    outer = array.shape[: max(array.ndim - len(shape), 0)]
    if array.shape != outer + shape:
        raise ValueError(f"{obs} has shape {array.shape}: give {_wanted(space)} or a batch of them")
    kinds = (jnp.integer,) if is_index else (jnp.integer, jnp.floating, jnp.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise ValueError(
            f"{obs} is {array.dtype}{list(array.shape)}: give {_wanted(space)} or a batch of them"
        )
    if part.is_bytes and array.dtype != np.uint8:
        return _as_bytes(obs, array), outer
    if is_index and not isinstance(array, jax.core.Tracer):
        known = jax.device_get(array)
        outside = known[(known < 0) | (known >= space.n)]
        if outside.size:
            raise ValueError(f"{obs}={outside[0]}: give {_wanted(space)} or a batch of them")
    return array, outer


def _as_bytes(said: str, array: Any) -> Any:
    """Return an image of bytes that is given in another type: the network would not scale that."""
    if isinstance(array, jax.core.Tracer):
        wrong = "" if not jnp.issubdtype(array.dtype, jnp.floating) else "traced"
    else:
        array = np.asarray(array)
        outside = array[~((array >= 0) & (array <= 255) & (array == np.round(array)))]
        wrong = f"{outside[0]}" if outside.size else ""
    if wrong:
        raise ValueError(
            f"{said} is {array.dtype}{list(array.shape)} ({wrong}), and the environment gives "
            "bytes: give uint8, or whole numbers from 0 to 255"
        )
    return array.astype(np.uint8)


def _as_array(value: Any) -> Any:
    """Return what `jnp.asarray` does; a NumPy array of numbers stays one, which is quicker."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)
    return value if isinstance(value, jax.Array) else jnp.asarray(value)


def _wanted(space: Any) -> str:
    """What an array of an observation is, in words."""
    if gymnax.is_discrete(space):
        return f"a whole number from 0 to {space.n - 1}"
    return f"{tuple(space.shape)}"


def _wanted_all(space: Any) -> str:
    if structure.is_flat(space):
        return _wanted(space)
    each = (f"{part.name}: {_wanted(part.space)}" for part in structure.parts(space))
    return "{" + ", ".join(each) + "}"
