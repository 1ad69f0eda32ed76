"""Many agents side by side: one compiled program over configs and seeds.

The agents of a population share every static field of their configs and differ in the float
ones and in their keys. On a CPU each device trains its agents one after the other, which leaves
small networks in the cache and compiles the program of a single agent; on a GPU or TPU they are
vmapped (docs/decisions.md has the measurement).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import agents
from jaxrl_pg.training import devices
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["LAYOUTS", "Population", "advance", "init", "init_one", "layout_here", "stack"]

LAYOUTS = ("map", "vmap")


class Population(NamedTuple):
    """`N` agents; every leaf has the axis `N` first.

    Attributes:
        states: their train states.
        finite: `[N]` bool, False from the first loss or gradient on that was no finite number.
    """

    states: TrainState
    finite: jax.Array


def layout_here() -> str:
    """How agents are laid out unless told otherwise: `map` on a CPU, `vmap` elsewhere."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def stack(configs: Sequence[Any]) -> Any:
    """One config whose float fields are `[N]` arrays, from configs that agree in the rest.

    Raises:
        ValueError: if they differ in a static field.
    """
    structures = {jax.tree.structure(config) for config in configs}
    if len(structures) != 1:
        raise ValueError(f"{len(configs)} configs of {len(structures)} different static parts")
    return jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *configs)


def init(configs: Any, keys: jax.Array, layout: str) -> Population:
    """Fresh agents.

    Args:
        configs: from `stack`.
        keys: `[N]`, consumed.
        layout: `map` or `vmap`.
    """
    return _shared_out(partial(_each, layout, init_one), (0, 0))(configs, keys)


def advance(
    configs: Any,
    population: Population,
    num_iterations: jax.Array,
    evaluate: jax.Array,
    num_eval_episodes: int,
    layout: str,
) -> tuple[Population, Metrics]:
    """Train every agent, then evaluate it if that is wanted.

    Args:
        configs: from `stack`.
        population: of the same agents.
        num_iterations: `[]` int32; any number runs in the same compiled program.
        evaluate: `[]` bool.
        num_eval_episodes: episodes in an evaluation; static.
        layout: `map` or `vmap`; static.

    Returns:
        The agents, and the metrics of `evaluation_metrics`, each `[N]`; zeros if not evaluated.
    """
    step = partial(_advance_each, layout, num_eval_episodes)
    return _shared_out(step, (0, 0, None, None))(configs, population, num_iterations, evaluate)


def _advance_each(
    layout: str,
    num_eval_episodes: int,
    configs: Any,
    population: Population,
    num_iterations: jax.Array,
    evaluate: jax.Array,
) -> tuple[Population, Metrics]:
    one = partial(_advance_one, num_eval_episodes, num_iterations, evaluate)
    return _each(layout, one, configs, population)


def _each(layout: str, fn: Callable[..., Any], *args: Any) -> Any:
    if layout == "vmap":
        return jax.vmap(fn)(*args)
    return jax.lax.map(partial(_spread, fn), args)


def _spread(fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return fn(*args)


def _shared_out(fn: Callable[..., Any], in_axes: tuple[int | None, ...]) -> Callable[..., Any]:
    return devices.over_agents(fn, in_axes) if jax.device_count() > 1 else fn


def init_one(config: Any, key: jax.Array) -> Population:
    """One fresh agent, without the axis `N`."""
    return Population(agents.find(config).init(config, key), jnp.ones((), bool))


def _advance_one(
    num_eval_episodes: int,
    num_iterations: jax.Array,
    evaluate: jax.Array,
    config: Any,
    member: Population,
) -> tuple[Population, Metrics]:
    member = jax.lax.fori_loop(0, num_iterations, partial(_iterate_one, config), member)
    measure = partial(evaluation_metrics, config, num_episodes=num_eval_episodes)
    nothing = partial(_zeros, jax.eval_shape(measure, member.states))
    return member, jax.lax.cond(evaluate, measure, nothing, member.states)


def _iterate_one(config: Any, _: jax.Array, member: Population) -> Population:
    state, metrics = agents.find(config).iterate(config, member.states)
    watched = [x for name, x in metrics.items() if name.startswith("loss/") or name == "grad_norm"]
    finite = jnp.all(jnp.isfinite(jnp.stack(watched)))
    return Population(state, member.finite & finite)


def _zeros(shapes: Any, state: TrainState) -> Any:
    del state
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
