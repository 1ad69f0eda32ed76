"""Search over hyper-parameters with a population: successive halving, population-based training.

Both are synchronous. Asynchronous halving (ASHA, Li et al. 2020, arXiv 1810.05934) promotes
configurations before their rung is complete, because workers of a cluster finish at different
times. Members of one compiled program finish together, so that waiting costs nothing and every rung
compares all scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg.config import BaseConfig, check_choice
from jaxrl_pg.sweeps.study import whole
from jaxrl_pg.training import population as populations
from jaxrl_pg.training import seeding
from jaxrl_pg.training.population import Population
from jaxrl_pg.types import Metrics

__all__ = [
    "Evolution",
    "Halving",
    "Rung",
    "inherit",
    "population_based_training",
    "promote",
    "schedule",
    "select_parents",
    "successive_halving",
]

Bounds = Mapping[str, tuple[float, float]]


class Rung(NamedTuple):
    """One comparison of successive halving.

    Attributes:
        timesteps: environment steps that each member has done by then.
        configs: indices of the configs still alive, ascending.
        scores: score of each of these configs; minus infinity if a member of it diverged.
    """

    timesteps: int
    configs: tuple[int, ...]
    scores: tuple[float, ...]


class Halving(NamedTuple):
    """The result of successive halving.

    Attributes:
        rungs: the first has all configs, the last is at the end of training.
        best: the config with the last rung's highest score.
        population: the last rung's members, config by config, and seed by seed within a config.
    """

    rungs: tuple[Rung, ...]
    best: BaseConfig
    population: Population


class Evolution(NamedTuple):
    """The result of population-based training, in `R` rounds with `N` members.

    Attributes:
        population: the members after the last round, to which its scores and configs belong.
        configs: a config with float fields `[R, N]`, as each round was trained with.
        scores: `[R, N]` at each round's end; minus infinity where a member diverged.
        parents: `[R, N]` int32, whose learner each member goes on with: its own index, or that of
            the member it copies.
    """

    population: Population
    configs: BaseConfig
    scores: jax.Array
    parents: jax.Array


def successive_halving(
    configs: Sequence[BaseConfig],
    seeds: Sequence[int],
    min_timesteps: int,
    eta: int = 3,
    num_eval_episodes: int = 128,
    layout: str = "auto",
) -> Halving:
    """Train all configs a little, the best `1/eta` of them `eta` times as long, and so on.

    Jamieson and Talwalkar 2016 (arXiv 1502.07943), with the rungs of Li et al. 2020, section 3.
    A config's score is the mean evaluation return over its seeds, which stay or go together.
    Survivors go on from their states: in the layout `map` each learns what `train` with its
    config and seed learns, bit for bit. An annealed learning rate falls over `total_timesteps`.

    Args:
        configs: configs that differ in float fields only.
        seeds: seeds that every config is trained with.
        min_timesteps: environment steps of the first rung, rounded up to whole iterations.
        eta: the factor between rungs, at least 2.
        num_eval_episodes: episodes in an evaluation.
        layout: `map`, `vmap`, or `auto` for what suits the machine.

    Raises:
        ValueError: for configs of different programs, bad numbers, or a rung that the devices
            cannot share equally.
    """
    layout = _layout(layout, num_eval_episodes)
    seeds = [seeding.require_seed(seed, "a seed") for seed in seeds]
    if not configs or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{len(configs)} configs, seeds={seeds}: give some, a seed once")
    stacked = populations.stack([config for config in configs for _ in seeds])
    plan = schedule(configs[0], len(configs), min_timesteps, eta)
    for num, _ in plan:
        _require_even(num * len(seeds))
    keys = jnp.stack([seeding.key_of_seed(seed) for _ in configs for seed in seeds])
    members = _init(stacked, keys, layout)
    evaluated = jnp.asarray(True), num_eval_episodes, layout
    alive, done, rungs = list(range(len(configs))), 0, list[Rung]()
    for num, iterations in plan:
        if rungs:
            kept = promote(rungs[-1].scores, num)
            alive = [alive[i] for i in kept]
            rows = jnp.asarray([i * len(seeds) + j for i in kept for j in range(len(seeds))])
            stacked, members = _gather((stacked, members), rows)
        members, metrics = _advance(stacked, members, jnp.int32(iterations - done), *evaluated)
        scores = jnp.mean(_scores(members, metrics).reshape(num, len(seeds)), axis=1)
        done, timesteps = iterations, iterations * configs[0].steps_per_iteration
        rungs.append(Rung(timesteps, tuple(alive), tuple(scores.tolist())))
    return Halving(tuple(rungs), configs[alive[promote(rungs[-1].scores, 1)[0]]], members)


def schedule(config: BaseConfig, num: int, min_timesteps: int, eta: int) -> list[tuple[int, int]]:
    """Return the rungs of successive halving: their number of configs and of iterations so far.

    Rung k has `floor(n / eta^k)` of the `n = num` configs, after `r eta^k` iterations in all, where
    `r` iterations are `min_timesteps`. The last rung is the first with one config, or the first
    that would be longer than a run; it trains to the end.

    Raises:
        ValueError: if `eta` is below 2, or `min_timesteps` is not between 1 and the run's.
    """
    whole("eta", eta, 2)
    plan, iterations = [], _iterations("min_timesteps", min_timesteps, config)
    while num > 1 and iterations < config.num_iterations:
        plan.append((num, iterations))
        num, iterations = max(1, num // eta), iterations * eta
    return [*plan, (num, config.num_iterations)]


def promote(scores: Sequence[float], num: int) -> list[int]:
    """Return the ascending indices of the `num` highest scores; of equal ones, the first."""
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:num])


def population_based_training(
    configs: BaseConfig,
    keys: jax.Array,
    ready_timesteps: int,
    mutate: Bounds,
    key: jax.Array,
    num_eval_episodes: int = 128,
    layout: str = "auto",
) -> Evolution:
    """Train a population whose worst members repeatedly go on as changed copies of its best.

    Jaderberg et al. 2017 (arXiv 1711.09846), with truncation selection: after each round but the
    last, `select_parents` and `inherit`. The function is pure, so that a function of `configs`,
    `keys` and `key` that calls it can be compiled by `jax.jit`.

    Args:
        configs: float fields `[N]`, from `population.stack`; N at least 2.
        keys: `[N]`, one for each member, consumed.
        ready_timesteps: environment steps of a round, rounded up to whole iterations; the last
            round is as long as is left.
        mutate: lowest and highest value of each field that copies change.
        key: the search's own key, consumed.
        num_eval_episodes: episodes in an evaluation.
        layout: `map`, `vmap`, or `auto` for what suits the machine.

    Raises:
        ValueError: for bad numbers, bounds or fields, or members that the devices cannot share
            equally.
    """
    layout, key = _layout(layout, num_eval_episodes), seeding.require_key(key)
    each = _iterations("ready_timesteps", ready_timesteps, configs)
    _check(configs, keys, mutate)
    configs = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), configs)
    left = configs.num_iterations - jnp.arange(0, configs.num_iterations, each)
    xs = jnp.minimum(left, each), left <= each, jax.random.split(key, left.size)

    def one_round(carry: Any, x: Any) -> Any:
        (configs, members), (iterations, is_last, round_key) = carry, x
        parent_key, mutation_key = jax.random.split(round_key)
        members, metrics = populations.advance(
            configs, members, iterations, jnp.asarray(True), num_eval_episodes, layout
        )
        scores = _scores(members, metrics)
        parents = select_parents(scores, parent_key)
        parents = jnp.where(is_last, jnp.arange(scores.size), parents)
        heirs = inherit(configs, members, parents, mutate, mutation_key)
        return heirs, (configs, scores, parents)

    carry = configs, populations.init(configs, keys, layout)
    (_, members), (history, scores, parents) = jax.lax.scan(one_round, carry, xs)
    return Evolution(members, history, scores, parents)


def select_parents(scores: jax.Array, key: jax.Array) -> jax.Array:
    """Select by truncation: the worst fifth gets parents drawn uniformly from the best fifth.

    A fifth is rounded down but at least one member. Members that diverged (minus infinity) are the
    worst and no parents, unless all did; of equal scores the first is the best.

    Args:
        scores: `[N]`.
        key: consumed.

    Returns:
        `[N]` int32, a member's own index if it is not among the worst.
    """
    num = max(1, scores.size // 5)
    order = jnp.argsort(-scores)
    healthy = jnp.clip(jnp.sum(scores > -jnp.inf), 1, num)
    parents = order[jax.random.randint(key, (num,), 0, healthy)]
    return jnp.arange(scores.size).at[order[-num:]].set(parents)


def inherit(
    configs: BaseConfig, members: Population, parents: jax.Array, mutate: Bounds, key: jax.Array
) -> tuple[BaseConfig, Population]:
    """Give every member its parent's learner and hyper-parameters, and change those of copies.

    Each field in `mutate` of a copy is multiplied by 0.8 or 1.2, either with probability 1/2, then
    clipped. Environments (with `env_params`), memory, key and iteration stay a member's own; but
    a member that diverged takes its parent's environments and memory, for its own may hold NaN.

    Args:
        configs: float fields `[N]`.
        members: the population of these configs.
        parents: `[N]`, from `select_parents`.
        mutate: lowest and highest value of a field.
        key: consumed.
    """
    own = jnp.arange(parents.shape[0])
    source = jnp.where(members.finite, own, parents)
    learner, copied = _gather((members.states.learner, configs), parents)
    actor, memory = _gather((members.states.actor, members.states.memory), source)
    states = members.states._replace(learner=learner, actor=actor, memory=memory)
    fields = sorted(mutate)
    grows = jax.random.bernoulli(key, 0.5, (len(fields), own.shape[0]))
    changed = {}
    for field, up in zip(fields, grows, strict=True):
        value = getattr(copied, field)
        mutant = jnp.clip(value * jnp.where(up, 1.2, 0.8), *mutate[field])
        changed[field] = jnp.where(parents == own, value, mutant)
    configs = copied.replace(**changed, env_params=configs.env_params)
    return configs, Population(states, members.finite[parents])


def _scores(members: Population, metrics: Metrics) -> jax.Array:
    """Return each member's mean return; minus infinity if it diverged."""
    score = metrics["eval/return_mean"]
    return jnp.where(members.finite & jnp.isfinite(score), score, -jnp.inf)


@jax.jit
def _gather(tree: Any, indices: jax.Array) -> Any:
    return jax.tree.map(lambda x: x[indices], tree)


# At module level, so that a second search of as many members compiles nothing.
_init = jax.jit(populations.init, static_argnums=2)
_advance = jax.jit(populations.advance, static_argnums=(4, 5), donate_argnums=1)


def _layout(layout: str, num_eval_episodes: int) -> str:
    whole("num_eval_episodes", num_eval_episodes, 1)
    check_choice("layout", layout, ("auto", *populations.LAYOUTS))
    return populations.layout_here() if layout == "auto" else layout


def _iterations(name: str, timesteps: int, config: BaseConfig) -> int:
    whole(name, timesteps, 1)
    if timesteps > config.total_timesteps:
        raise ValueError(f"{name}={timesteps}: give at most {config.total_timesteps}, the run's")
    return -(-timesteps // int(config.steps_per_iteration))


def _require_even(num_members: int) -> None:
    if num_members % (num := jax.device_count()):
        raise ValueError(
            f"{num_members} agents on {num} devices: make it (or the seeds) a multiple"
        )


def _check(configs: BaseConfig, keys: jax.Array, mutate: Bounds) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(configs)
    shapes = {jnp.shape(leaf) for _, leaf in leaves}
    if keys.ndim != 1 or keys.shape[0] < 2 or shapes != {keys.shape}:
        raise ValueError(f"keys {keys.shape}, float fields {sorted(shapes)}: stack N >= 2 of each")
    _require_even(keys.shape[0])
    floats = [path[0].name for path, _ in leaves if len(path) == 1]
    for field, bounds in mutate.items():
        check_choice("mutate", field, floats)
        for bound in bounds:
            configs.replace(**{field: bound})
        if not bounds[0] < bounds[1]:
            raise ValueError(f"mutate {field}={bounds}: give low < high")
