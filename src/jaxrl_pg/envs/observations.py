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

__all__ = ["as_rows", "batch", "readable"]


def as_rows(env: Env, obs: Any) -> tuple[jax.Array, tuple[int, ...]]:
    """Take observations of the user's, with any axes in front, as rows that networks read.

    Args:
        env: from `envs.make`.
        obs: as the environment gives them: indices `[...]` of a `Discrete` space, or
            `[..., *shape]` of a Box. May be traced.

    Returns:
        `[N, *obs_shape]`, and the axes that were in front.

    Raises:
        ValueError: for another type or shape, or an index that does not exist.
    """
    space = env.core.observation_space(env.params)
    is_index, shape = gymnax.is_discrete(space), tuple(space.shape)
    try:
        obs = jnp.asarray(obs)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"obs={obs!r:.80} is no array: give {_wanted(space)} or a batch of them"
        ) from error
    outer = obs.shape[: max(obs.ndim - len(shape), 0)]
    if obs.shape != outer + shape:
        raise ValueError(f"obs has shape {obs.shape}: give {_wanted(space)} or a batch of them")
    kinds = (jnp.integer,) if is_index else (jnp.integer, jnp.floating, jnp.bool_)
    if not any(jnp.issubdtype(obs.dtype, kind) for kind in kinds):
        raise ValueError(
            f"obs is {obs.dtype}{list(obs.shape)}: give {_wanted(space)} or a batch of them"
        )
    if is_index and not isinstance(obs, jax.core.Tracer):
        known = jax.device_get(obs)
        outside = known[(known < 0) | (known >= space.n)]
        if outside.size:
            raise ValueError(f"obs={outside[0]}: give {_wanted(space)} or a batch of them")
    return readable(env, obs).reshape(-1, *env.spec.obs_shape), outer


def batch(env: Env, obs: Any) -> jax.Array:
    """Take a batch of observations as rows `[N, *obs_shape]` that networks read.

    Args:
        env: from `envs.make`.
        obs: `[N, ...]` as the environment gives them, or as networks read them, which is how
            rollouts hold them. Where the two differ, one has an axis more.

    Raises:
        ValueError: as `as_rows`, or if there is not one axis in front.
    """
    shape, space = jnp.shape(obs), env.core.observation_space(env.params)
    is_read = shape[1:] == env.spec.obs_shape and len(shape) == 1 + len(env.spec.obs_shape)
    if is_read and not (gymnax.is_discrete(space) and jnp.issubdtype(obs.dtype, jnp.integer)):
        return obs
    rows, outer = as_rows(env, obs)
    if len(outer) != 1:
        raise ValueError(f"obs has shape {shape}: give a batch [N, ...] of {_wanted(space)}")
    return rows


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
        return f"a whole number from 0 to {space.n - 1}"
    return f"{tuple(space.shape)}"
