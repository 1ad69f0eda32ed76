"""Many members side by side: one compiled program over configs and seeds.

The members of a population are runs of one algorithm that share every static field of their configs
and differ in the float ones and in their keys. On a CPU each device trains its members one after
the other, which leaves small networks in the cache and compiles the program of a single member; on
a GPU or TPU they are vmapped (docs/decisions.md has the measurement).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.ops.metric_names import is_watched
from jaxrl_pg.training import devices, priors
from jaxrl_pg.training.evaluation import evaluation_metrics
from jaxrl_pg.types import Metrics, TrainState

__all__ = ["LAYOUTS", "Population", "advance", "each", "init", "init_one", "layout_here", "stack"]

LAYOUTS = ("map", "vmap")


class Population(NamedTuple):
    """`N` members; every leaf has the axis `N` first.

    Attributes:
        states: their train states.
        finite: `[N]` bool, False from the first loss or gradient on that was no finite number.
    """

    states: TrainState[Any]
    finite: jax.Array


def layout_here() -> str:
    """Return how members are laid out unless told otherwise: `map` on a CPU, `vmap` elsewhere."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def stack(configs: Sequence[BaseConfig]) -> Any:
    """Return one config whose float fields are `[N]` arrays, of configs that agree in the rest.

    Raises:
        ValueError: if they differ in a static field.
    """
    structures = {jax.tree.structure(config) for config in configs}
    if len(structures) != 1:
        raise ValueError(f"{len(configs)} configs of {len(structures)} different static parts")
    return jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *configs)


def init(
    configs: BaseConfig, keys: jax.Array, layout: str, source: priors.Source | None = None
) -> Population:
    """Return fresh members.

    Args:
        configs: from `stack`.
        keys: `[N]`, consumed.
        layout: `map` or `vmap`.
        source: the old policy that all of them start from, if they do.
    """
    if source is None:
        init_share = devices.over_members(lambda *share: each(layout, init_one, *share), (0, 0))
        return init_share(configs, keys)

    def init_share_from(configs: BaseConfig, keys: jax.Array, learner: Any) -> Population:
        its = source._replace(learner=learner)
        return each(layout, lambda config, key: init_one(config, key, its), configs, keys)

    init_from = devices.over_members(init_share_from, (0, 0, None))
    return init_from(configs, keys, source.learner)


def init_one(config: BaseConfig, key: jax.Array, source: priors.Source | None = None) -> Population:
    """Return one fresh member, without the axis `N`."""
    state = agent_of(config).init(config, key)
    if source is not None:
        state = priors.adopted(config, state, source)
    return Population(state, jnp.ones((), bool))


def advance(
    configs: BaseConfig,
    population: Population,
    num_iterations: jax.Array,
    evaluate: jax.Array,
    num_eval_episodes: int,
    layout: str,
) -> tuple[Population, Metrics]:
    """Train every member, then evaluate it if that is wanted.

    Args:
        configs: from `stack`.
        population: of the same members.
        num_iterations: `[]` int32; any number runs in the same compiled program.
        evaluate: `[]` bool.
        num_eval_episodes: episodes in an evaluation; static.
        layout: `map` or `vmap`; static.

    Returns:
        The members, and the metrics of `evaluation_metrics`, each `[N]`; zeros if not evaluated.
    """

    def advance_one(
        config: BaseConfig, member: Population, num_iterations: jax.Array, evaluate: jax.Array
    ) -> tuple[Population, Metrics]:
        member = jax.lax.fori_loop(
            0, num_iterations, lambda _, member: _iterate_one(config, member), member
        )
        metrics = functools.partial(evaluation_metrics, config, num_episodes=num_eval_episodes)
        nothing = jax.tree.map(jnp.zeros_like, jax.eval_shape(metrics, member.states))
        return member, jax.lax.cond(evaluate, metrics, lambda _: nothing, member.states)

    on_devices = devices.over_members(
        lambda configs, members, *shared: each(
            layout, lambda *one: advance_one(*one, *shared), configs, members
        ),
        (0, 0, None, None),
    )
    return on_devices(configs, population, num_iterations, evaluate)


def _iterate_one(config: BaseConfig, member: Population) -> Population:
    state, metrics = agent_of(config).iterate(config, member.states)
    watched = [x for name, x in metrics.items() if is_watched(name)]
    finite = jnp.all(jnp.isfinite(jnp.stack(watched)))
    return Population(state, member.finite & finite)


def each(layout: str, fn: Callable[..., Any], *args: Any) -> Any:
    """Return what `fn` gives for each member, at once (vmap) or one after the other (map)."""
    if layout == "vmap":
        return jax.vmap(fn)(*args)
    return jax.lax.map(lambda args: fn(*args), args)
