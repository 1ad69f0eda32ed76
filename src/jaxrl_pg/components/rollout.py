"""Collect experience: a policy acting in vectorised environments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.types import ActorState, Metrics, TimeStep, Transition

__all__ = ["after_step", "collect", "episode_means", "nothing_finished", "start"]

Policy = Callable[[jax.Array, Any], tuple[jax.Array, jax.Array]]
Value = Callable[[jax.Array], jax.Array]


def start(env: envs.Env, key: jax.Array, num_envs: int) -> ActorState:
    """The environment side of a fresh train state: `num_envs` first observations."""
    env_state, obs = envs.reset(env, key, num_envs)
    zeros = jnp.zeros(num_envs)
    return ActorState(env_state, obs, zeros, jnp.zeros(num_envs, jnp.int32), zeros)


def collect(
    env: envs.Env, policy: Policy, value: Value, actor: ActorState, noise: Any, key: jax.Array
) -> tuple[ActorState, Transition, Metrics]:
    """Step `B` environments `T` times.

    Args:
        env: from `envs.make`.
        policy: `(obs [B, ...], noise [B, ...]) -> (raw action [B, ...], log_prob [B])`.
        value: `(obs [B, ...]) -> [B]`; asked only at steps where some episode was cut off.
        actor: where the last rollout stopped.
        noise: the policy's randomness, `[T, B, ...]`.
        key: consumed, for the environments.

    Returns:
        The actor to go on from, the rollout, and sums over the episodes that ended in it:
        `episodes`, `return_sum`, `length_sum`.
    """
    num_steps = jax.tree.leaves(noise)[0].shape[0]
    finished = nothing_finished(actor)
    xs = (noise, jax.random.split(key, 2 * num_steps).reshape(num_steps, 2))
    step = partial(_step, env, policy, value)
    (actor, finished), rollout = jax.lax.scan(step, (actor, finished), xs)
    return actor, rollout, jax.tree.map(jnp.sum, finished)


def nothing_finished(actor: ActorState) -> Metrics:
    """Counts of finished episodes `[B]`, for `after_step` to add to."""
    nothing = jnp.zeros_like(actor.episode_return)
    return {"episodes": nothing, "return_sum": nothing, "length_sum": nothing}


def after_step(
    actor: ActorState, finished: Metrics, env_state: Any, timestep: TimeStep
) -> tuple[ActorState, Metrics]:
    """The actor after a step of its environments, and the episodes that ended counted."""
    done = timestep.terminated | timestep.truncated
    episode_return = actor.episode_return + timestep.reward
    episode_length = actor.episode_length + 1
    finished = {
        "episodes": finished["episodes"] + done,
        "return_sum": finished["return_sum"] + jnp.where(done, episode_return, 0.0),
        "length_sum": finished["length_sum"] + jnp.where(done, episode_length, 0),
    }
    actor = ActorState(
        env_state=env_state,
        obs=timestep.obs,
        episode_return=jnp.where(done, 0.0, episode_return),
        episode_length=jnp.where(done, 0, episode_length),
        discounted_return=actor.discounted_return,
    )
    return actor, finished


def _step(
    env: envs.Env,
    policy: Policy,
    value: Value,
    carry: tuple[ActorState, Metrics],
    xs: tuple[Any, jax.Array],
) -> tuple[tuple[ActorState, Metrics], Transition]:
    (actor, finished), (noise, keys) = carry, xs
    action, log_prob = policy(actor.obs, noise)
    env_state, timestep = envs.step(env, keys[0], keys[1], actor.env_state, action)
    cut = timestep.truncated & ~timestep.terminated
    transition = Transition(
        obs=actor.obs,
        action=action,
        log_prob=log_prob,
        reward=timestep.reward,
        terminated=timestep.terminated,
        truncated=timestep.truncated,
        final_value=_value_where(cut, value, timestep.final_obs),
    )
    return after_step(actor, finished, env_state, timestep), transition


def _value_where(cut: jax.Array, value: Value, obs: jax.Array) -> jax.Array:
    """`value(obs)` where `cut`, else 0; nothing is computed when nothing was cut.

    A loop of at most one round: like a branch, but under `vmap` it stays one.
    """
    carry = (jnp.any(cut), jnp.zeros(cut.shape))
    return jax.lax.while_loop(_wanted, partial(_masked_value, cut, value, obs), carry)[1]


def _wanted(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
    return carry[0]


def _masked_value(
    cut: jax.Array, value: Value, obs: jax.Array, carry: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    del carry
    return jnp.zeros((), bool), jnp.where(cut, value(obs), 0.0)


def episode_means(metrics: Metrics, num_devices: int = 1) -> Metrics:
    """Replace the sums of `collect`, averaged over devices, by means over finished episodes.

    `train/return_mean` and `train/length_mean` are NaN where `train/episodes` is 0: there is
    nothing to report yet, and 0 would be a return like any other.
    """
    metrics = dict(metrics)
    episodes = metrics.pop("episodes")
    some = jnp.maximum(episodes, 1e-9)
    for name in ("return", "length"):
        mean = metrics.pop(f"{name}_sum") / some
        metrics[f"train/{name}_mean"] = jnp.where(episodes > 0, mean, jnp.nan)
    return {**metrics, "train/episodes": episodes * num_devices}
