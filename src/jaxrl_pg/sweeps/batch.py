"""One batch of a sweep: the members of one population, trained piece by piece by the host.

A piece is some iterations of every member, ending at the latest where an evaluation is due. The
length of a piece changes nothing in what is learned, only how often the host may save or stop.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import jax
import jax.numpy as jnp

from jaxrl_pg import checkpoint, envs
from jaxrl_pg.config import BaseConfig, to_dict
from jaxrl_pg.fields import settle
from jaxrl_pg.files import schema
from jaxrl_pg.running import initial_policy, memory_estimate
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.sweeps import formats
from jaxrl_pg.sweeps.experiment import Point
from jaxrl_pg.training import devices, population, priors, seeding
from jaxrl_pg.training.program import evaluation_iterations
from jaxrl_pg.types import TrainState

__all__ = [
    "Batch",
    "BatchRun",
    "SweepOptions",
    "batch_id",
    "described",
    "layout_of",
    "make_batch",
    "max_members",
    "num_bytes",
]

Row = formats.Row
Layout = Literal["auto", "map", "vmap"]

_MEASURED = ("return_mean", "return_std", "length_mean")
_PIECE_SECONDS = 5.0  # a piece that takes less than this is doubled
_MEMORY_SHARE = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """How a sweep is run; nothing here changes what is learned, but for rounding."""

    max_agents: int = 0
    """agents in a batch; 0: as many as half the memory is estimated to hold"""
    layout: Layout = "auto"
    """agents of a device one after the other (map) or at once (vmap); auto: map on a CPU"""
    checkpoint_seconds: float = 60.0
    """save an unfinished batch when this long has passed since the last save"""
    quiet: bool = False
    """print nothing"""
    keep_policies: bool = False
    """save every agent's trained policy in policies/ID, where ID is its id in results.csv"""

    def __post_init__(self) -> None:
        """Refuse an unknown layout, negative numbers and values of the wrong kind."""
        settle(self)


class Kept(TypedDict):
    """What the host keeps beside the members in a batch's checkpoint."""

    batch: NotRequired[str]
    digest: NotRequired[str]
    rows: list[formats.Measured]


class Batch(NamedTuple):
    """Runs that are trained as one compiled program.

    Attributes:
        id: 12 hex digits of a hash of the points' ids.
        group: id of the group that all points belong to.
        points: one point for each member.
    """

    id: str
    group: str
    points: tuple[Point, ...]


def make_batch(group: str, points: Sequence[Point]) -> Batch:
    """Return the batch of these points; the same points in the same order have the same id."""
    return Batch(batch_id([point.id for point in points]), group, tuple(points))


def batch_id(ids: Sequence[str]) -> str:
    """Return the id of a batch: 12 hex digits of a hash of its points' ids, in their order."""
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:12]


def layout_of(options: SweepOptions, config: BaseConfig) -> str:
    """Return the layout of the options, with `auto` replaced by what suits.

    That is what suits this machine, and `map` for environments on the host.

    Raises:
        ValueError: if environments on the host cannot be trained in as wished.
    """
    if not envs.on_host(config.env):
        return population.layout_here() if options.layout == "auto" else options.layout
    envs.host.require_possible(config.env, jax.device_count())
    if options.layout == "vmap":
        raise ValueError(
            f"layout=vmap and {config.env} lives on the host, where one batch of environments is "
            "stepped at a time: give layout=map"
        )
    return "map"


def num_bytes(config: BaseConfig, num_members: int, layout: str) -> int:
    """Estimate the memory of a batch on each device: all states, and one iteration at work.

    Members that are trained one after the other leave their new states beside the old ones, which
    the compiled loop still reads; at once they are changed in their place.
    """
    state = jax.eval_shape(lambda key: population.init_one(config, key), jax.random.key(0))
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    per_device = -(-num_members // jax.device_count())
    at_once = per_device if layout == "vmap" else 1
    kept = per_device if at_once == per_device else 2 * per_device
    return kept * state_bytes + at_once * memory_estimate.estimate(config)


def max_members(config: BaseConfig, layout: str) -> int:
    """Estimate how many members half of the memory holds; on a CPU the devices share it.

    One where environments are on the host, because no checkpoint of it can be gone on from: what
    an interruption loses is then a single run.
    """
    if envs.on_host(config.env):
        return 1
    have = int(memory_estimate.available() * _MEMORY_SHARE)
    if jax.default_backend() == "cpu":
        have //= jax.device_count()
    # From two members on a device each further one takes as much; a single one has no loop.
    two, three = (num_bytes(config, n * jax.device_count(), layout) for n in (2, 3))
    return max(1, 2 + (have - two) // max(1, three - two)) * jax.device_count()


class BatchRun:
    """A batch in training; `rows` holds its results so far."""

    def __init__(
        self, batch: Batch, folder: Path, num_evals: int, num_eval_episodes: int, layout: str
    ) -> None:
        """Start the batch, or restore the newest good checkpoint in `folder`."""
        self.batch, self.num_eval_episodes, self.layout = batch, num_eval_episodes, layout
        self.config = batch.points[0].config
        self.configs = _pad_to_devices(population.stack([point.config for point in batch.points]))
        self.due = evaluation_iterations(self.config, num_evals)
        self.saves = checkpoint.Checkpoints(folder, keep_last=2, keep_best=False)
        self.piece, self.done, self.rows = 1, 0, list[Row]()
        self.digest = ""  # of the old policy that its runs start from
        self.seconds, self.timed = 0.0, 0
        self.members: Any = None
        self._advance = jax.jit(population.advance, static_argnums=(4, 5), donate_argnums=1)
        self._compiled = False
        self._start(folder)

    @property
    def finished(self) -> bool:
        """Whether every iteration is done."""
        return self.done >= self.config.num_iterations

    def advance(self) -> Row:
        """Train one piece, and return what the progress line should show."""
        next_due = next(iteration for iteration in self.due if iteration > self.done)
        num_iterations = min(self.piece, next_due - self.done)
        evaluate = self.done + num_iterations == next_due
        began = time.monotonic()
        self.members, metrics = self._advance(
            self.configs,
            self.members,
            jnp.int32(num_iterations),
            jnp.asarray(evaluate),
            self.num_eval_episodes,
            self.layout,
        )
        finite, metrics = jax.device_get((self.members.finite, metrics))
        self._time(num_iterations, time.monotonic() - began)
        self.done += num_iterations
        if not evaluate:
            return {}
        self._report(finite, metrics)
        good = [x for x, ok in zip(metrics["eval/return_mean"], finite, strict=True) if ok]
        return {"eval/return_mean": float(sum(good) / len(good))} if good else {}

    def save(self) -> None:
        """Save in the background, unless environments on the host would be missing."""
        if envs.on_host(self.config.env):
            return
        num, kept = len(self.batch.points), self.members
        if num < kept.finite.shape[0]:
            # On the host: slices of arrays on several devices are programs that meet, one for each
            # leaf, and CPU devices can wait for each other for ever.
            on_host = jax.device_put(kept, jax.local_devices(backend="cpu")[0])
            kept = jax.tree.map(lambda x: x[:num], on_host)
        host = {"batch": self.batch.id, "rows": self.rows, "digest": self.digest}
        self.saves.save(self.done, kept, host)

    def policies(self) -> Iterator[tuple[str, Policy]]:
        """Yield the policy of every member that has not diverged, with its point's id."""
        learners, finite = jax.device_get((self.members.states.learner, self.members.finite))
        nothing: Any = ()
        for i, point in enumerate(self.batch.points):
            if finite[i]:
                learner = jax.tree.map(lambda x, i=i: x[i], learners)
                state = TrainState(learner, nothing, nothing, nothing, jnp.int32(self.done))
                yield point.id, Policy(point.config, state, self.done)

    def _start(self, folder: Path) -> None:
        points, layout = self.batch.points, self.layout
        keys = _pad_to_devices(jnp.stack([seeding.key_of_seed(point.seed) for point in points]))
        if not checkpoint.steps(folder):
            start = initial_policy.read(self.config, points[0].init_from or None)
            source = priors.Source(()) if start is None else start.source
            self.digest = "" if start is None else start.row["digest"]

            def init(configs: BaseConfig, keys: jax.Array, learner: Any) -> Any:
                old = None if start is None else source._replace(learner=learner)
                return population.init(configs, keys, layout, old)

            self.members = jax.jit(init)(self.configs, keys, source.learner)
            return
        shapes = jax.eval_shape(
            lambda configs, keys: population.init(configs, keys, layout), self.configs, keys
        )
        target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((len(points), *x.shape[1:]), x.dtype), shapes
        )
        restored = checkpoint.restore(folder, target)
        _require_own(restored.host, self.batch, folder)
        sharding = devices.members_sharding()
        self.members = jax.device_put(_pad_to_devices(restored.state), sharding)
        self.done, self.rows = restored.step, restored.host["rows"]
        self.digest = restored.host.get("digest", "")
        self.saves.rewind(self.done)

    def _time(self, num_iterations: int, seconds: float) -> None:
        """Count a piece's time, except the first, which compiles; double pieces that are short."""
        if self._compiled:
            self.seconds, self.timed = self.seconds + seconds, self.timed + num_iterations
        self._compiled = True
        if num_iterations == self.piece and seconds < _PIECE_SECONDS:
            self.piece *= 2

    def _report(self, finite: Any, metrics: Any) -> None:
        """Add a row for every member; for one that has diverged, a last one without numbers."""
        diverged = {row["id"] for row in self.rows if row["status"] == "diverged"}
        for i, point in enumerate(self.batch.points):
            if point.id in diverged:
                continue
            row = described(point, self.done * self.config.steps_per_iteration)
            if finite[i]:
                values = {name: _finite(metrics[f"eval/{name}"][i]) for name in _MEASURED}
                row |= {**values, "num_episodes": self.num_eval_episodes, "status": "ok"}
            else:
                row |= {**dict.fromkeys((*_MEASURED, "num_episodes")), "status": "diverged"}
            self.rows.append(row)


def _require_own(host: Row, batch: Batch, folder: Path) -> None:
    """Refuse a checkpoint of other runs; one of an earlier version has no batch, but rows."""
    remedy = f"delete {folder}, and its runs are trained again"
    schema.check(host, Kept, folder, "checkpoint", remedy)
    foreign = {row["id"] for row in host["rows"]} - {point.id for point in batch.points}
    if host.get("batch", batch.id) != batch.id or foreign:
        raise ValueError(f"{folder} has a checkpoint of another batch: {remedy}")


def described(point: Point, timesteps: int) -> Row:
    """Return the columns that name a run: id, study, environment, seed, hyper-parameters, steps."""
    values = to_dict(point.config)
    params = values.pop("env_params", {})
    env = values.pop("env")
    values.pop("num_devices", None)
    shown = {
        name: "x".join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }
    spread = {f"env_params.{name}": value for name, value in params.items()}
    named = {"id": point.id, "study": point.study, "agent": point.agent, "env": env}
    old = {"init_from": point.init_from} if point.init_from else {}
    return {**named, "seed": point.seed, **old, **shown, **spread, "timesteps": timesteps}


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _pad_to_devices(tree: Any) -> Any:
    """Repeat the last member until every device has equally many."""
    num = jax.tree.leaves(tree)[0].shape[0]
    more = -num % jax.device_count()
    return jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * more]), tree) if more else tree
