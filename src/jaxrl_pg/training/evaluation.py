"""Evaluation: whole episodes of a policy, in environments and with keys of their own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import envs, precision
from jaxrl_pg.components import rollout
from jaxrl_pg.components.rollout import Episodes
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.training import seeding
from jaxrl_pg.training.arguments import (
    require_config,
    require_hidden,
    require_state,
    require_static,
    require_whole,
)
from jaxrl_pg.types import Metrics, Obs, TrainState

__all__ = ["Episodes", "acting", "evaluate", "evaluate_episodes", "evaluation_metrics", "value"]

Act = Callable[[Obs, jax.Array, Any], tuple[jax.Array, Any]]

# Sets the evaluation's stream apart from the children that `split` makes of the same key.
_EVALUATION_STREAM = 0x6576616C


def evaluate(
    config: BaseConfig,
    state: TrainState[Any],
    key: jax.Array,
    num_episodes: int = 128,
    deterministic: bool = True,
) -> jax.Array:
    """Return the returns `[num_episodes]` of whole episodes; the train state is not changed.

    NaN stands for an episode that had not ended after 100,000 steps, or twice the environment's
    time limit if that is more: `evaluate_episodes` gives the return so far.

    The config's floats, the state and the key may be traced; the other arguments are static.

    Args:
        config: the agent's config.
        state: whose learner acts, normaliser statistics included.
        key: consumed; the same key gives the same episodes.
        num_episodes: as many environments are stepped side by side, one episode each.
        deterministic: take the most probable action instead of a sampled one.

    Raises:
        ValueError: for a learner that this config did not make, or what is no random key; for
            arguments that are traced and static.
    """
    require_config(config)
    require_state(config, state, learner_only=True)
    key = seeding.require_key(key)
    require_static("evaluate", num_episodes=num_episodes, deterministic=deterministic)
    num_episodes = require_whole("num_episodes", num_episodes, 1)
    episodes = evaluate_episodes(config, state, key, num_episodes, bool(deterministic))
    return jnp.where(episodes.finished, episodes.returns, jnp.nan)


@functools.partial(jax.jit, static_argnums=(3, 4))
@precision.of_config
def evaluate_episodes(
    config: BaseConfig,
    state: TrainState[Any],
    key: jax.Array,
    num_episodes: int,
    deterministic: bool,
) -> Episodes:
    """Do as `evaluate`, and return lengths too, and whether each episode came to its end."""
    act, hidden = acting(config, state, num_episodes, deterministic)
    return rollout.whole_episodes(envs.of(config), act, key, num_episodes, hidden)


def acting(
    config: BaseConfig, state: TrainState[Any], num: int, deterministic: bool
) -> tuple[Act, Any]:
    """Return how a learner acts, memory included, and what it remembers when episodes begin.

    The first is `(obs [num, ...], key, hidden) -> (raw actions [num, ...], hidden)`.
    """
    agent = agent_of(config)

    def act(obs: Obs, key: jax.Array, hidden: Any) -> tuple[jax.Array, Any]:
        if jax.tree.leaves(hidden):
            return agent.memory.act(config, state.learner, obs, key, deterministic, hidden)
        return agent.act(config, state.learner, obs, key, deterministic), hidden

    return act, agent.memory.start(config, num) if agent.memory else ()


def evaluation_metrics(config: BaseConfig, state: TrainState[Any], num_episodes: int) -> Metrics:
    """Evaluate deterministically, with a key that follows from the state's; return metrics.

    Training uses other children of that key, so evaluating changes nothing in it. The moments are
    NaN where an episode was given up before its end (`eval/finished` below 1): of parts of episodes
    they would be wrong, and without the longest ones, too.
    """
    key = jax.random.fold_in(state.key, _EVALUATION_STREAM)
    episodes = evaluate_episodes(config, state, key, num_episodes, True)
    returns, lengths = (
        jnp.where(episodes.finished, x.astype(jnp.float32), jnp.nan)
        for x in (episodes.returns, episodes.lengths)
    )
    return {
        "eval/return_mean": jnp.mean(returns),
        "eval/return_std": jnp.std(returns),
        "eval/length_mean": jnp.mean(lengths),
        "eval/finished": jnp.mean(episodes.finished.astype(jnp.float32)),
    }


def value(config: BaseConfig, state: TrainState[Any], obs: Any, hidden: Any = None) -> jax.Array:
    """Return the critic's values of observations as the environment gives them.

    The config's floats, the state and the observations may be traced.

    Args:
        config: the agent's config.
        state: whose learner values, normaliser statistics included.
        obs: one observation, or a batch `[N, ...]`: of a `Discrete` space, whole numbers `[N]`.
        hidden: what a recurrent core remembers before them, as from `Policy.start`; only for
            configs with a core.

    Returns:
        A scalar for one observation, `[N]` for a batch.

    Raises:
        ValueError: if `obs` has another shape or type, or for a learner that this config did not
            make.
    """
    require_config(config)
    require_state(config, state, learner_only=True)
    agent = agent_of(config)
    rows, outer = envs.as_rows(envs.of(config), obs)
    if require_hidden(config, hidden, math.prod(outer)) is None:
        return agent.value(config, state.learner, rows).reshape(outer)
    return agent.memory.value(config, state.learner, rows, hidden).reshape(outer)
