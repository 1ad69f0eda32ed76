"""The seeds of one run, trained side by side: the programs of `program`, over members.

A state of members is a train state whose leaves have the axis `N` first, but for `iteration`, which
all of them share. Each member is what a run of its seed alone is, up to rounding: it has a key of
its own, and nothing else differs. How members are laid out is said in `population`. Over several
devices the members are shared out, not the environments of each: a member is then what it is on one
device, and the devices need not wait for each other.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.training import devices, population, priors, program
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["evaluate", "init", "iterations", "member", "placed_shapes", "state_shapes"]

# Which parts of a state of members have their axis.
_AXES: TrainState[Any] = TrainState(0, 0, 0, 0, None)  # type: ignore[arg-type]


def init(
    config: BaseConfig, keys: jax.Array, source: priors.Source | None = None
) -> TrainState[Any]:
    """Return fresh members.

    Args:
        config: the agent's.
        keys: `[N]`, consumed.
        source: the old policy that all of them start from, if they do.
    """

    its = _of_one_device(config)

    def one(key: jax.Array) -> TrainState[Any]:
        state = agent_of(its).init(its, key)
        return state if source is None else priors.adopted(its, state, source)

    def share(keys: jax.Array) -> TrainState[Any]:
        return _together(population.each(population.layout_here(), one, keys))

    members: TrainState[Any] = devices.over_members(share, (0,), config.num_devices, _AXES)(keys)
    return members


def state_shapes(config: BaseConfig, num_members: int) -> TrainState[Any]:
    """Return the `ShapeDtypeStruct`s of so many members, on one device."""
    config = _of_one_device(config)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_members))
    return jax.eval_shape(lambda keys: init(config, keys), keys)


def placed_shapes(config: BaseConfig, num_members: int) -> TrainState[Any]:
    """Return the `ShapeDtypeStruct`s of so many members, laid out over the config's devices."""
    shapes = state_shapes(config, num_members)
    shared_out = devices.members_sharding(config.num_devices)
    if shared_out is None:
        return shapes
    everywhere = shared_out.update(spec=P())

    def placed(x: Any) -> Any:
        sharding = shared_out if x.ndim else everywhere  # `iteration` alone has no axis
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    placed_state: TrainState[Any] = jax.tree.map(placed, shapes)
    return placed_state


def iterations(
    config: BaseConfig, state: TrainState[Any], num_iterations: int
) -> tuple[TrainState[Any], Metrics]:
    """Do as `program.iterations` with every member; metrics are `[N, num_iterations]`."""

    its = _of_one_device(config)

    def share(state: TrainState[Any]) -> tuple[TrainState[Any], Metrics]:
        def one(*parts: Any) -> tuple[TrainState[Any], Metrics]:
            return program.iterations(its, _of_parts(parts, state), num_iterations)

        after, metrics = population.each(population.layout_here(), one, *state[:-1])
        return _together(after), metrics

    on_devices = devices.over_members(share, (_AXES,), config.num_devices, (_AXES, 0))
    after, metrics = on_devices(state)
    return after, metrics


def evaluate(config: BaseConfig, state: TrainState[Any], num_episodes: int) -> Metrics:
    """Do as `evaluation_metrics` with every member; metrics are `[N]`."""

    its = _of_one_device(config)

    def share(state: TrainState[Any]) -> Metrics:
        def one(*parts: Any) -> Metrics:
            return evaluation_metrics(its, _of_parts(parts, state), num_episodes)

        each: Metrics = population.each(population.layout_here(), one, *state[:-1])
        return each

    metrics: Metrics = devices.over_members(share, (_AXES,), config.num_devices)(state)
    return metrics


def member(state: TrainState[Any], number: int) -> TrainState[Any]:
    """Return one member's train state, on one device."""
    if len(state.key.devices()) > 1:  # slicing there is a program for each leaf that all run
        state = jax.device_put(state, jax.local_devices()[0])
    return _of_parts([jax.tree.map(lambda x: x[number], part) for part in state[:-1]], state)


def _of_parts(parts: Any, state: TrainState[Any]) -> TrainState[Any]:
    """Return the state that a member's parts make, with the iteration that all of them share."""
    learner, actor, memory, key = parts
    return TrainState(learner, actor, memory, key, state.iteration)


def _of_one_device(config: BaseConfig) -> BaseConfig:
    """Return a member's own config: what several devices share out are members."""
    return config if config.num_devices == 1 else config.replace(num_devices=1)


def _together(states: TrainState[Any]) -> TrainState[Any]:
    return states._replace(iteration=states.iteration[0])
