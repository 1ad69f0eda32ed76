"""Training: the pure program."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from jaxrl_pg import agents, parallel
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["train"]


def train(config: Any, key: jax.Array) -> tuple[TrainState, Metrics]:
    """Train from scratch: one pure program, to be compiled with `jit` and batched with `vmap`."""
    state = agents.find(config).init(config, key)
    return iterations(config, state, config.num_iterations)


def iterations(config: Any, state: TrainState, num_iterations: int) -> tuple[TrainState, Metrics]:
    """Run `num_iterations` iterations; metrics are stacked on a first axis."""
    scan = partial(_scan, config, num_iterations)
    return parallel.over_environments(scan, config.num_devices)(state)


def _scan(config: Any, num_iterations: int, state: TrainState) -> tuple[TrainState, Metrics]:
    iterate = partial(_iterate, config)
    return jax.lax.scan(iterate, state, None, length=num_iterations)


def _iterate(config: Any, state: TrainState, _: None) -> tuple[TrainState, Metrics]:
    state, metrics = agents.find(config).iterate(config, state)
    timesteps = state.iteration * config.steps_per_iteration
    return state, {"timesteps": timesteps, **metrics}


