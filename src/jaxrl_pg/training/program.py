"""Training as a pure program: compile it with `jit`, batch it with `vmap`."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.ops import collectives
from jaxrl_pg.training import priors, seeding
from jaxrl_pg.training.arguments import (
    require_config,
    require_state,
    require_static,
    require_whole,
)
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = [
    "STATE_SPECS",
    "chunk_length",
    "evaluation_iterations",
    "init",
    "iterations",
    "train",
]

_CHUNK_TIMESTEPS = 1 << 16
_HOST_CHUNK_TIMESTEPS = 1 << 10
_SPLIT: Any = P(collectives.AXIS)
_WHOLE: Any = P()
# On several devices each has a share of the environments and of their replay; the rest is equal.
STATE_SPECS = TrainState(_WHOLE, actor=_SPLIT, memory=_SPLIT, key=_WHOLE, iteration=_WHOLE)


def train(
    config: BaseConfig,
    key: jax.Array,
    num_evals: int = 0,
    num_eval_episodes: int = 128,
    initial_policy: Any = None,
) -> tuple[TrainState[Any], Metrics]:
    """Train from scratch, or from an old policy.

    The config's floats and the key may be traced, so `jit` and `vmap` over either or both. The
    numbers of evaluations set shapes and are static:

        jax.jit(train, static_argnames=("num_evals", "num_eval_episodes"))

    Args:
        config: an agent's config; its class says which agent.
        key: consumed.
        num_evals: evaluations, spread as evenly as chunks allow, the last at the end. They change
            nothing in training, but are part of the compiled program: 0 compiles none.
        num_eval_episodes: episodes in each.
        initial_policy: an old policy to start from, as in `init`.

    Returns:
        The final train state, and metrics reduced per iteration: each `[num_iterations]`, and
        the `eval/...` ones `[num_evals]`.

    Raises:
        ValueError: for an unknown environment, or one the agent cannot act in; for what is no
            config or no random key; for traced numbers of evaluations; for an old policy that does
            not fit.
    """
    agent, key = require_config(config), seeding.require_key(key)
    require_static("train", num_evals=num_evals, num_eval_episodes=num_eval_episodes)
    num_evals = require_whole("num_evals", num_evals, 0)
    num_eval_episodes = require_whole("num_eval_episodes", num_eval_episodes, 1)
    state = init(config, key, initial_policy)
    points = evaluation_iterations(config, num_evals)
    due = jnp.isin(jnp.arange(config.num_iterations) + 1, jnp.array(points, jnp.int32))

    def evaluate(state: TrainState[Any]) -> Metrics:
        return evaluation_metrics(config, state, num_eval_episodes)

    def iteration(state: TrainState[Any], due: jax.Array) -> tuple[TrainState[Any], Any]:
        state, metrics = agent.iterate(config, state)
        if not points:
            return state, (metrics, {})
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(evaluate, state))
        return state, (metrics, jax.lax.cond(due, evaluate, lambda _: nothing, state))

    scan = functools.partial(jax.lax.scan, iteration, xs=due)
    on_devices = collectives.split(scan, config.num_devices, (STATE_SPECS,), (STATE_SPECS, P()))
    state, (metrics, evaluations) = on_devices(state)
    metrics = {"timesteps": _timesteps(config, 0, config.num_iterations), **metrics}
    if points:
        evaluations["eval/timesteps"] = metrics["timesteps"]
    last = jnp.array(points, jnp.int32) - 1
    return state, {**metrics, **jax.tree.map(lambda x: x[last], evaluations)}


def init(config: BaseConfig, key: jax.Array, initial_policy: Any = None) -> TrainState[Any]:
    """Return a fresh train state, for `iterations`.

    The config's floats and the key may be traced, and so may the arrays of an old policy:

        old, _ = jax.vmap(jaxrl_pg.train, (None, 0))(config, keys)
        states = jax.vmap(jaxrl_pg.init, (None, 0, 0))(harder, keys, old.learner)

    Args:
        config: an agent's config.
        key: consumed.
        initial_policy: an old policy to start from: a `Policy`, such as `jaxrl_pg.load` returns, a
            train state, its learner, or the parameters alone (the learner's `params`). The policy's
            parameters and the statistics by which it normalises observations are taken. Of a
            learner of the same kind its other networks are taken too, where all their shapes fit.
            Optimiser, replay, counters and environments are fresh.

    Raises:
        ValueError: as `train`.
    """
    state = require_config(config).init(config, seeding.require_key(key))
    if initial_policy is None:
        return state
    return priors.adopted(config, state, priors.source_of(initial_policy))


def iterations(
    config: BaseConfig, state: TrainState[Any], num_iterations: int
) -> tuple[TrainState[Any], Metrics]:
    """Go on from a train state by some iterations; at the front door it is `jaxrl_pg.iterate`.

        state = jaxrl_pg.init(config, key)
        iterate = jax.jit(jaxrl_pg.iterate, static_argnums=2)
        while not good_enough:
            state, metrics = iterate(config, state, 10)

    The config may change between calls: its floats are traced, and a change of them compiles
    nothing anew. The state may be traced too.

    Args:
        config: an agent's config.
        state: from `init`, `train` or an earlier call.
        num_iterations: static; an iteration is `config.steps_per_iteration` environment steps.

    Returns:
        The train state, and the metrics, each `[num_iterations]`.

    Raises:
        ValueError: for a state that this config did not make; for a traced number of iterations.
    """
    agent = require_config(config)
    require_static("iterate", num_iterations=num_iterations)
    num_iterations = require_whole("num_iterations", num_iterations, 0)
    require_state(config, state)
    first = state.iteration
    scan = functools.partial(
        jax.lax.scan, lambda state, _: agent.iterate(config, state), length=num_iterations
    )
    on_devices = collectives.split(scan, config.num_devices, (STATE_SPECS,), (STATE_SPECS, P()))
    state, metrics = on_devices(state)
    return state, {"timesteps": _timesteps(config, first, num_iterations), **metrics}


def chunk_length(config: BaseConfig, num_evals: int) -> int:
    """Return the iterations to run between two looks of the host: a divisor of all of them.

    Small iterations are taken together, up to about 65,000 environment steps, so that the
    host's half millisecond a look is not felt; but never beyond the next evaluation. Environments
    on the host are slower: 1,000 steps.
    """
    timesteps = _HOST_CHUNK_TIMESTEPS if envs.on_host(config.env) else _CHUNK_TIMESTEPS
    longest = max(1, timesteps // config.steps_per_iteration)
    longest = min(longest, max(1, config.num_iterations // max(1, num_evals)))
    return next(n for n in range(longest, 0, -1) if config.num_iterations % n == 0)


def evaluation_iterations(config: BaseConfig, num_evals: int) -> list[int]:
    """Return the iterations to evaluate after: whole chunks, evenly spread, the last at the end."""
    chunk = chunk_length(config, num_evals)
    chunks = config.num_iterations // chunk
    num_evals = min(num_evals, chunks)
    return [chunk * -(-chunks * (i + 1) // num_evals) for i in range(num_evals)]


def _timesteps(config: BaseConfig, first: Any, num_iterations: int) -> jax.Array:
    """Environment steps after each iteration.

    float32 where int32 could not count the run's. A state that is trained far beyond its config's
    total stays at the largest count that an int32 holds, and is never negative.
    """
    steps = config.steps_per_iteration
    iteration = first + 1 + jnp.arange(num_iterations, dtype=jnp.int32)
    if config.num_iterations * steps >= 2**31:
        return iteration.astype(jnp.float32) * steps
    return jnp.minimum(iteration, (2**31 - 1) // steps) * steps
