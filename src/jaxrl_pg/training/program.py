"""Training as a pure program: compile it with `jit`, batch it with `vmap`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg import agents
from jaxrl_pg.training import devices
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["chunk_length", "evaluation_iterations", "iterations", "train"]

_CHUNK_TIMESTEPS = 1 << 16


def train(
    config: Any, key: jax.Array, num_evals: int = 0, num_eval_episodes: int = 128
) -> tuple[TrainState, Metrics]:
    """Train from scratch.

    Args:
        config: an agent's config; its type says which agent.
        key: consumed.
        num_evals: evaluations, evenly spread, the last at the end. They change nothing in
            training, but are part of the compiled program: 0 compiles none.
        num_eval_episodes: episodes in each.

    Returns:
        The final train state, and metrics reduced per iteration: each `[num_iterations]`, and
        the `eval/...` ones `[num_evals]`.

    Raises:
        ValueError: for an unknown environment, or one the agent cannot act in.
    """
    state = agents.find(config).init(config, key)
    points = evaluation_iterations(config, num_evals)
    due = jnp.isin(jnp.arange(config.num_iterations) + 1, jnp.array(points, jnp.int32))
    evaluate = partial(evaluation_metrics, config, num_episodes=num_eval_episodes)
    run = devices.over_environments(
        partial(_scan, config, evaluate if points else None, due), config.num_devices
    )
    state, (metrics, evaluations) = run(state)
    last = jnp.array(points, jnp.int32) - 1
    if points:
        evaluations["eval/timesteps"] = metrics["timesteps"]
    return state, {**metrics, **jax.tree.map(lambda x: x[last], evaluations)}


def iterations(config: Any, state: TrainState, num_iterations: int) -> tuple[TrainState, Metrics]:
    """Go on from a train state; metrics are stacked on a first axis."""
    scan = partial(_scan, config, None, jnp.zeros(num_iterations, bool))
    state, (metrics, _) = devices.over_environments(scan, config.num_devices)(state)
    return state, metrics


def chunk_length(config: Any, num_evals: int) -> int:
    """Iterations to run between two looks of the host: a divisor of all of them.

    Small iterations are taken together, up to about 65,000 environment steps, so that the
    host's half millisecond a look is not felt; but never beyond the next evaluation.
    """
    most = max(1, _CHUNK_TIMESTEPS // config.steps_per_iteration)
    most = min(most, max(1, config.num_iterations // max(1, num_evals)))
    return next(n for n in range(most, 0, -1) if config.num_iterations % n == 0)


def evaluation_iterations(config: Any, num_evals: int) -> list[int]:
    """After which iterations to evaluate: whole chunks, evenly spread, the last at the end."""
    chunk = chunk_length(config, num_evals)
    chunks = config.num_iterations // chunk
    num_evals = min(num_evals, chunks)
    return [chunk * -(-chunks * (i + 1) // num_evals) for i in range(num_evals)]


def _scan(config: Any, evaluate: Any, due: jax.Array, state: TrainState) -> tuple[TrainState, Any]:
    return jax.lax.scan(partial(_iterate, config, evaluate), state, due)


def _iterate(
    config: Any, evaluate: Any, state: TrainState, due: jax.Array
) -> tuple[TrainState, Any]:
    state, metrics = agents.find(config).iterate(config, state)
    metrics = {"timesteps": _timesteps(config, state.iteration), **metrics}
    if evaluate is None:
        return state, (metrics, {})
    shapes = jax.eval_shape(evaluate, state)
    return state, (metrics, jax.lax.cond(due, evaluate, partial(_zeros, shapes), state))


def _timesteps(config: Any, iteration: jax.Array) -> jax.Array:
    """Environment steps so far; in float32 when int32 could not count them all."""
    if config.num_iterations * config.steps_per_iteration >= 2**31:
        iteration = iteration.astype(jnp.float32)
    return iteration * config.steps_per_iteration


def _zeros(shapes: Any, state: TrainState) -> Any:
    del state
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
