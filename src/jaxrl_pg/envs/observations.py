"""Observations: from what an environment gives to what a network reads.

An environment gives an index where its observations are `Discrete(n)`, else an array of its Box's
shape. A network reads arrays of `EnvSpec.obs_shape`: an index as a one-hot vector `[n]`, a number
without axes as `(1,)`; bool and uint8 as they are, everything else as float32.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.making import Env

__all__ = ["observe", "readable", "rows"]


def observe(env: Env, obs: Any) -> jax.Array:
    """Return observations `[..., *obs_shape]` as networks read them, of what the user gives.

    Args:
        env: from `envs.make`.
        obs: as the environment gives them, with any axes in front: indices `[...]` of a `Discrete`
            space, or `[..., *shape]` of a Box. May be traced.

    Raises:
        ValueError: for another type or shape, or an index that does not exist.
    """
    space = env.core.observation_space(env.params)
    try:
        obs = jnp.asarray(obs)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"obs={obs!r:.80} is no array ({error}): give {_wanted(space)}") from error
    shape = tuple(space.shape)
    if obs.shape[max(obs.ndim - len(shape), 0) :] != shape:
        raise ValueError(f"obs has shape {obs.shape}: give {_wanted(space)}")
    kind = jnp.integer if gymnax.is_discrete(space) else jnp.number
    is_image = kind is jnp.number and obs.dtype == jnp.bool_
    is_complex = jnp.issubdtype(obs.dtype, jnp.complexfloating)
    if is_complex or not (is_image or jnp.issubdtype(obs.dtype, kind)):
        raise ValueError(f"obs is {obs.dtype}: give {_wanted(space)}")
    if kind is jnp.integer and not isinstance(obs, jax.core.Tracer):
        outside = (obs < 0) | (obs >= space.n)
        if bool(outside.any()):
            raise ValueError(f"obs={obs[outside][0]}: give {_wanted(space)}")
    return readable(env, obs)


def rows(env: Env, obs: jax.Array) -> jax.Array:
    """Return observations `[N, *obs_shape]` as networks read them, of either kind.

    Args:
        env: from `envs.make`.
        obs: `[N, ...]` as the environment gives them, or `[N, *obs_shape]` as networks read them,
            which is how rollouts hold them. The two differ where one is of indices and the other
            of floats, or where one has an axis more.
    """
    shape, is_index = jnp.shape(obs), jnp.issubdtype(jnp.result_type(obs), jnp.integer)
    space = env.core.observation_space(env.params)
    indexed = gymnax.is_discrete(space)
    if shape[1:] == env.spec.obs_shape and not (indexed and is_index):
        return obs
    if len(shape) != 1 + len(space.shape):
        raise ValueError(f"obs has shape {shape}: give a batch [N, ...] of {_wanted(space)}")
    return observe(env, obs)


def readable(env: Env, obs: Any) -> jax.Array:
    """Return observations `[..., *obs_shape]` as networks read them, of an environment's own."""
    space = env.core.observation_space(env.params)
    if gymnax.is_discrete(space):
        return jax.nn.one_hot(obs, space.n)
    obs = jnp.asarray(obs)
    outer = obs.shape[: max(obs.ndim - len(space.shape), 0)]
    obs = obs.reshape(*outer, *env.spec.obs_shape)
    return obs if obs.dtype in (jnp.bool_, jnp.uint8) else obs.astype(jnp.float32)


def _wanted(space: Any) -> str:
    """What an observation is, in words."""
    if gymnax.is_discrete(space):
        return f"a whole number from 0 to {space.n - 1}, or a batch of them"
    return f"{tuple(space.shape)} or a batch of them"
