"""Evaluation: whole episodes of a policy, in environments and with keys of their own."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import agents, envs
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["Episodes", "evaluate", "evaluate_episodes", "evaluation_metrics", "value"]

# Sets the evaluation's stream apart from the children that `split` makes of the same key.
_EVALUATION_STREAM = 0x6576616C


class Episodes(NamedTuple):
    """First episodes of `N` environments.

    Attributes:
        returns: `[N]` undiscounted sums of the environment's own reward.
        lengths: `[N]` int32 steps.
        finished: `[N]` bool; False where the step limit came before the episode's end.
    """

    returns: jax.Array
    lengths: jax.Array
    finished: jax.Array


def evaluate(
    config: Any,
    state: TrainState,
    key: jax.Array,
    num_episodes: int = 128,
    deterministic: bool = True,
) -> jax.Array:
    """Returns `[num_episodes]` of whole episodes; nothing of the train state is changed.

    Args:
        config: the agent's config.
        state: of which the learner is read, normaliser statistics included.
        key: consumed; the same key gives the same episodes.
        num_episodes: as many environments are stepped side by side, one episode each.
        deterministic: take the most probable action instead of a sampled one.
    """
    return evaluate_episodes(config, state, key, num_episodes, deterministic).returns


@partial(jax.jit, static_argnums=(3, 4))
def evaluate_episodes(
    config: Any, state: TrainState, key: jax.Array, num_episodes: int, deterministic: bool
) -> Episodes:
    """As `evaluate`, with the lengths, and whether each episode came to its end."""
    env = envs.make(config.env, config.env_params)
    reset_key, loop_key = jax.random.split(key)
    env_state, obs = envs.reset(env, reset_key, num_episodes)
    zeros = jnp.zeros(num_episodes)
    episodes = Episodes(zeros, jnp.zeros(num_episodes, jnp.int32), jnp.zeros(num_episodes, bool))
    act = partial(agents.find(config).act, config, state.learner)
    step = partial(_step, env, act, deterministic, loop_key)
    unfinished = partial(_unfinished, envs.time_limit(env))
    start = (jnp.zeros((), jnp.int32), env_state, obs, episodes)
    return jax.lax.while_loop(unfinished, step, start)[3]


def evaluation_metrics(config: Any, state: TrainState, num_episodes: int) -> Metrics:
    """Deterministic evaluation with a key that follows from the state's, as metrics.

    Training uses other children of that key, so evaluating changes nothing in it.
    """
    key = jax.random.fold_in(state.key, _EVALUATION_STREAM)
    episodes = evaluate_episodes(config, state, key, num_episodes, True)
    return {
        "eval/return_mean": jnp.mean(episodes.returns),
        "eval/return_std": jnp.std(episodes.returns),
        "eval/length_mean": jnp.mean(episodes.lengths.astype(jnp.float32)),
        "eval/finished": jnp.mean(episodes.finished.astype(jnp.float32)),
    }


def value(config: Any, state: TrainState, obs: jax.Array) -> jax.Array:
    """The critic's value `[N]` of raw observations `[N, ...]`, normaliser included."""
    return agents.find(config).value(config, state.learner, jnp.asarray(obs))


Carry = tuple[jax.Array, Any, jax.Array, Episodes]


def _unfinished(limit: jax.Array, carry: Carry) -> jax.Array:
    return (carry[0] < limit) & ~jnp.all(carry[3].finished)


def _step(env: envs.Env, act: Any, deterministic: bool, key: jax.Array, carry: Carry) -> Carry:
    t, env_state, obs, episodes = carry
    action_key, step_key, reset_key = jax.random.split(jax.random.fold_in(key, t), 3)
    action = act(obs, action_key, deterministic)
    env_state, timestep = envs.step(env, step_key, reset_key, env_state, action)
    running = ~episodes.finished
    episodes = Episodes(
        returns=episodes.returns + jnp.where(running, timestep.reward, 0.0),
        lengths=episodes.lengths + running,
        finished=episodes.finished | timestep.terminated | timestep.truncated,
    )
    return t + 1, env_state, timestep.obs, episodes
