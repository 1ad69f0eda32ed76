"""Vectorised environments: reset, and step with automatic reset.

Where an episode ends the next one begins, from an independent draw (see `episodes`).

An environment whose class has batched methods (`reset_batch`, `step_batch`, `release_batch`, as
`host.HostEnvironment` has them) is asked for whole batches instead, and restarts its own episodes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.envs import episodes, frames, observations, parameters, spaces
from jaxrl_pg.envs.adapters.counted import NO_LIMIT
from jaxrl_pg.envs.making import Env
from jaxrl_pg.types import Obs, TimeStep

__all__ = [
    "NO_LIMIT",
    "advance",
    "release",
    "reset",
    "step",
    "time_limit",
    "to_env_action",
]

_LATEST = 16


def reset(env: Env, key: jax.Array, num_envs: int) -> tuple[Any, Obs]:
    """Start `num_envs` independent episodes.

    Returns:
        The environments' states and the first observations `[B, ...]`.
    """
    if _is_batched(env):
        obs, state = env.core.reset_batch(key, env.params, num_envs)
        return state, observations.readable(env, obs)
    return episodes.start(env, jax.random.split(key, num_envs))


def step(
    env: Env,
    step_key: jax.Array,
    reset_key: jax.Array,
    state: Any,
    action: jax.Array,
    first: tuple[Any, Obs] | None = None,
) -> tuple[Any, TimeStep]:
    """Step every environment; where an episode ended, start the next.

    Args:
        env: from `make`.
        step_key: consumed, for the environments' own randomness.
        reset_key: consumed, for the new episodes; or several, from `episodes.keys_of_rounds`.
        state: the environments' states, `[B, ...]` leaves.
        action: the policy's raw actions, `[B, ...]`.
        first: what `reset` gave. With it no new episode is drawn, which may cost as much as many
            steps: an environment whose episode ended begins again where it began.

    Returns:
        The new states and a `TimeStep`.
    """
    if _is_batched(env):
        action = to_env_action(env, action)
        state, timestep = env.core.step_batch(state, action, env.params)
        obs, final_obs = (observations.readable(env, x) for x in (timestep.obs, timestep.final_obs))
        return state, timestep._replace(obs=obs, final_obs=final_obs)

    reached, timestep = advance(env, step_key, state, action)
    done = timestep.terminated | timestep.truncated
    current = (reached, timestep.final_obs)
    if first is None:
        next_state, obs = episodes.start_where(env, done, reset_key, current)
    else:
        next_state, obs = episodes.begin_again(done, first, current)
    return next_state, timestep._replace(obs=obs)


def advance(env: Env, step_key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, TimeStep]:
    """Step every environment, and start no next episode where one ended.

    Args:
        env: from `make`, not one that lives on the host.
        step_key: consumed.
        state: the environments' states, `[B, ...]` leaves.
        action: the policy's raw actions, `[B, ...]`.

    Returns:
        The states reached, and a `TimeStep` whose `obs` is its `final_obs`.
    """

    def step_one(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, ...]:
        obs, next_state, reward, terminated, _ = env.core.step_env(key, state, action, env.params)
        truncated = env.core.is_truncated(next_state, env.params)
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        flags = (jnp.asarray(f, bool).reshape(()) for f in (terminated, truncated))
        return next_state, observations.readable(env, obs), reward, *flags

    keys = jax.random.split(step_key, action.shape[0])
    reached, obs, reward, terminated, truncated = jax.vmap(step_one)(
        keys, state, to_env_action(env, action)
    )
    reached = jax.tree.map(lambda x, ref: x.astype(ref.dtype), reached, state)
    return reached, TimeStep(obs, reward, terminated, truncated, obs)


def release(env: Env, state: Any) -> None:
    """Let go of environments that no step follows in; only those on the host hold anything."""
    if _is_batched(env):
        env.core.release_batch(state)


def to_env_action(env: Env, action: jax.Array) -> jax.Array:
    """Return the policy's raw action as the environment takes it.

    Discrete actions pass through; the number of a combination becomes its vector. Box actions are
    clipped to [-1, 1] and stretched onto the environment's own bounds; a dimension without finite
    bounds is passed on as it is, clipped on the side that has one.
    """
    if env.spec.factors:
        return jnp.stack(jnp.unravel_index(action, env.spec.factors), axis=-1).astype(jnp.int32)
    if env.spec.discrete:
        return action
    return spaces.stretch(env.core.action_space(env.params), action)


def time_limit(env: Env) -> jax.Array:
    """Return the steps after which an episode is over for certain; 100,000 if there is no limit.

    That is `max_steps_in_episode`, or up to 15 steps more where `is_truncated` says that the
    environment cuts an episode off only then.
    """
    if isinstance(env.core, frames.Stacked):
        return time_limit(env._replace(core=env.core.inner))
    limit = vars(env.params).get(parameters.LIMIT)
    if limit is None:
        return jnp.asarray(NO_LIMIT, jnp.int32)
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(env.params))
    with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
        limit = jnp.ceil(limit).astype(jnp.int32)
        state = jax.eval_shape(env.core.reset_env, jax.random.key(0), env.params)[1]
        is_key = [jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in jax.tree.leaves(state)]
        if not hasattr(state, "time") or any(is_key):
            return limit
        state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state)
        change: Any = getattr(state, "replace", getattr(state, "_replace", None))

        def is_over(time: jax.Array) -> jax.Array:
            return env.core.is_truncated(change(time=time), env.params)

        return limit + jnp.argmax(jax.vmap(is_over)(limit + jnp.arange(_LATEST)), axis=0)


def _is_batched(env: Env) -> bool:
    # Of the class: a wrapper that hands on what it lacks would be passed over.
    return hasattr(type(env.core), "step_batch")
