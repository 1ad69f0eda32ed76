"""Collect experience: a policy acting in vectorised environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import envs
from jaxrl_pg.ops import collectives
from jaxrl_pg.types import ActorState, Metrics, Obs, TimeStep

__all__ = [
    "Episodes",
    "collect",
    "episode_means",
    "forget",
    "most_steps",
    "start",
    "value_where",
    "whole_episodes",
]

Act = Callable[[Obs, Any, Any], tuple[jax.Array, Any, Any]]
Record = Callable[[Obs, jax.Array, Any, TimeStep], Any]


class Episodes(NamedTuple):
    """First episodes of `N` environments.

    Attributes:
        returns: `[N]` undiscounted sums of the environment's own reward.
        lengths: `[N]` int32 steps.
        finished: `[N]` bool; False where the episode had not ended after `most_steps`, and the
            return and length are those of a part of it.
    """

    returns: jax.Array
    lengths: jax.Array
    finished: jax.Array


def start(env: envs.Env, key: jax.Array, num_envs: int) -> ActorState:
    """Return the environment side of a fresh train state: `num_envs` first observations."""
    env_state, obs = envs.reset(env, key, num_envs)
    zeros = jnp.zeros(num_envs)
    return ActorState(env_state, obs, zeros, jnp.zeros(num_envs, jnp.int32), zeros)


def collect(
    env: envs.Env, act: Act, record: Record, actor: ActorState, noise: Any, key: jax.Array
) -> tuple[ActorState, Any, Metrics]:
    """Step `B` environments `T` times.

    Args:
        env: from `envs.make`.
        act: `(obs [B, ...], noise [B, ...], hidden) -> (raw action [B, ...], extra, hidden)`.
        record: `(obs, action, extra, timestep) -> row`, what to keep of a step: a pytree of
            `[B, ...]`.
        actor: where the last rollout stopped.
        noise: the policy's randomness, `[T, B, ...]`.
        key: consumed, for the environments.

    Returns:
        The actor to go on from, the rows `[T, B, ...]`, and sums over the episodes that ended:
        `episodes`, `return_sum`, `length_sum`.
    """

    def step(
        carry: tuple[ActorState, Metrics], xs: tuple[Any, jax.Array, jax.Array]
    ) -> tuple[tuple[ActorState, Metrics], Any]:
        (actor, finished), (noise, step_key, reset_key) = carry, xs
        action, extra, hidden = act(actor.obs, noise, actor.hidden)
        env_state, timestep = envs.step(env, step_key, reset_key, actor.env_state, action)
        row = record(actor.obs, action, extra, timestep)
        return _count_episodes(actor, finished, env_state, timestep, hidden), row

    num_steps = jax.tree.leaves(noise)[0].shape[0]
    keys = jax.random.split(key, 2 * num_steps).reshape(num_steps, 2)
    nothing = jnp.zeros_like(actor.episode_return)
    reset_keys = envs.episodes.keys_of_rounds(keys[:, 1], nothing.shape[0])
    finished = {"episodes": nothing, "return_sum": nothing, "length_sum": nothing}
    (actor, finished), rows = jax.lax.scan(step, (actor, finished), (noise, keys[:, 0], reset_keys))
    return actor, rows, jax.tree.map(jnp.sum, finished)


def _count_episodes(
    actor: ActorState, finished: Metrics, env_state: Any, timestep: TimeStep, hidden: Any
) -> tuple[ActorState, Metrics]:
    """The actor after a step of its environments, and the sums with the episodes that ended."""
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
        hidden=forget(done, hidden),
    )
    return actor, finished


def forget(where: jax.Array, hidden: Any) -> Any:
    """Return what recurrent cores remember, `[B, ...]`, with zeros `where` `[B]`."""
    return jax.tree.map(
        lambda x: jnp.where(jnp.expand_dims(where, tuple(range(1, x.ndim))), 0, x), hidden
    )


def value_where(cut: jax.Array, value: Callable[[Obs], jax.Array], obs: Obs) -> jax.Array:
    """Return `value(obs)` where `cut`, else 0; nothing is computed when nothing was cut.

    A loop of at most one round: like a branch, but under `vmap` it stays one. On a GPU, where a
    round of a loop waits for the host, there is none, and the value is computed in any case.

    Args:
        cut: `[B]` bool.
        value: `(obs [B, ...]) -> [B]`.
        obs: `[B, ...]`.
    """
    if envs.episodes.loops_wait():
        return jnp.where(cut, value(obs), 0.0)

    def once(_: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jnp.zeros((), bool), jnp.where(cut, value(obs), 0.0)

    carry = (jnp.any(cut), jnp.zeros(cut.shape))
    return jax.lax.while_loop(lambda carry: carry[0], once, carry)[1]


def episode_means(metrics: Metrics) -> Metrics:
    """Average metrics over the devices, and turn the sums of `collect` into means over episodes.

    `train/return_mean` and `train/length_mean` are NaN where `train/episodes` is 0: there is
    nothing to report yet, and 0 would be a return like any other. Under `jax_debug_nans`, which
    stops at every NaN, they are 0 there.
    """
    metrics = dict(collectives.mean(metrics))
    episodes = metrics.pop("episodes")
    divisor = jnp.maximum(episodes, 1e-9)
    unknown = 0.0 if jax.config.jax_debug_nans else jnp.nan  # type: ignore[attr-defined, unused-ignore]
    for name in ("return", "length"):
        mean = metrics.pop(f"{name}_sum") / divisor
        metrics[f"train/{name}_mean"] = jnp.where(episodes > 0, mean, unknown)
    return {**metrics, "train/episodes": episodes * collectives.num_devices()}


def most_steps(env: envs.Env) -> jax.Array:
    """Return the steps after which an episode is given up: twice its limit, or 100,000 if more."""
    limit = jnp.minimum(envs.time_limit(env), jnp.iinfo(jnp.int32).max // 2)
    return jnp.maximum(envs.vector.NO_LIMIT, 2 * limit)


def whole_episodes(
    env: envs.Env,
    act: Callable[[Obs, jax.Array, Any], tuple[jax.Array, Any]],
    key: jax.Array,
    num_episodes: int,
    hidden: Any = (),
) -> Episodes:
    """Play one episode in each of `num_episodes` environments, side by side, each to its end.

    An episode that has not ended after `most_steps` is given up.

    Args:
        env: from `envs.make`.
        act: `(obs [N, ...], key, hidden) -> (raw action [N, ...], hidden)`.
        key: consumed; the same key gives the same episodes.
        num_episodes: N.
        hidden: `[N, ...]` what a recurrent core remembers at first.
    """
    reset_key, loop_key = jax.random.split(key)
    limit = most_steps(env)

    def step(carry: tuple[jax.Array, Any, Obs, Episodes, Any]) -> Any:
        t, env_state, obs, episodes, hidden = carry
        action_key, step_key, reset_key = jax.random.split(jax.random.fold_in(loop_key, t), 3)
        action, hidden = act(obs, action_key, hidden)
        # What follows an environment's first episode is not counted.
        env_state, timestep = envs.step(env, step_key, reset_key, env_state, action, first)
        running = ~episodes.finished
        episodes = Episodes(
            returns=episodes.returns + jnp.where(running, timestep.reward, 0.0),
            lengths=episodes.lengths + running,
            finished=episodes.finished | timestep.terminated | timestep.truncated,
        )
        return t + 1, env_state, timestep.obs, episodes, hidden

    first = env_state, obs = envs.reset(env, reset_key, num_episodes)
    lengths = jnp.zeros(num_episodes, jnp.int32)
    episodes = Episodes(jnp.zeros(num_episodes), lengths, jnp.zeros(num_episodes, bool))
    _, env_state, _, episodes, _ = jax.lax.while_loop(
        lambda carry: (carry[0] < limit) & ~jnp.all(carry[3].finished),
        step,
        (jnp.zeros((), jnp.int32), env_state, obs, episodes, hidden),
    )
    envs.release(env, env_state)
    return episodes
