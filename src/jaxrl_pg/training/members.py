"""The seeds of one run, trained side by side: the programs of `program`, over members.

A state of members is a train state whose leaves have the axis `N` first, but for `iteration`, which
all of them share. Each member is what a run of its seed alone is, up to rounding: it has a key of
its own, and nothing else differs. How members are laid out is said in `population`.
"""

from __future__ import annotations

from typing import Any

import jax

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.training import population, priors, program
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["evaluate", "init", "iterations", "member", "state_shapes"]


def init(
    config: BaseConfig, keys: jax.Array, source: priors.Source | None = None
) -> TrainState[Any]:
    """Return fresh members.

    Args:
        config: the agent's.
        keys: `[N]`, consumed.
        source: the old policy that all of them start from, if they do.
    """

    def one(key: jax.Array) -> TrainState[Any]:
        state = agent_of(config).init(config, key)
        return state if source is None else priors.adopted(config, state, source)

    return _together(population.each(population.layout_here(), one, keys))


def state_shapes(config: BaseConfig, num_members: int) -> TrainState[Any]:
    """Return the `ShapeDtypeStruct`s of so many members."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_members))
    return jax.eval_shape(lambda keys: init(config, keys), keys)


def iterations(
    config: BaseConfig, state: TrainState[Any], num_iterations: int
) -> tuple[TrainState[Any], Metrics]:
    """Do as `program.iterations` with every member; metrics are `[N, num_iterations]`."""

    def one(*parts: Any) -> tuple[TrainState[Any], Metrics]:
        return program.iterations(config, _of_parts(parts, state), num_iterations)

    after, metrics = population.each(population.layout_here(), one, *state[:-1])
    return _together(after), metrics


def evaluate(config: BaseConfig, state: TrainState[Any], num_episodes: int) -> Metrics:
    """Do as `evaluation_metrics` with every member; metrics are `[N]`."""

    def one(*parts: Any) -> Metrics:
        return evaluation_metrics(config, _of_parts(parts, state), num_episodes)

    metrics: Metrics = population.each(population.layout_here(), one, *state[:-1])
    return metrics


def member(state: TrainState[Any], number: int) -> TrainState[Any]:
    """Return one member's train state."""
    return _of_parts([jax.tree.map(lambda x: x[number], part) for part in state[:-1]], state)


def _of_parts(parts: Any, state: TrainState[Any]) -> TrainState[Any]:
    """Return the state that a member's parts make, with the iteration that all of them share."""
    learner, actor, memory, key = parts
    return TrainState(learner, actor, memory, key, state.iteration)


def _together(states: TrainState[Any]) -> TrainState[Any]:
    return states._replace(iteration=states.iteration[0])
