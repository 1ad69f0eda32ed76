"""One batch of a sweep: agents of one compiled program, trained piece by piece on the host's side.

A piece is some iterations of every agent, ending at the latest where an evaluation is due. How
long pieces are changes nothing in what is learned, only how often the host may save or stop.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_pg import checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.sweeps.experiment import Point
from jaxrl_pg.training import devices, population
from jaxrl_pg.training.program import evaluation_iterations

__all__ = ["Batch", "BatchRun", "layout_of", "make_batch", "most_agents", "num_bytes"]

Row = dict[str, Any]

_MEASURED = ("return_mean", "return_std", "length_mean")
_PIECE_SECONDS = 5.0
_MEMORY_SHARE = 0.5


class Batch(NamedTuple):
    """Agents to be trained as one program.

    Attributes:
        id: 12 hex digits of a hash of the agents' ids.
        group: the id of the group that they all belong to.
        points: the agents.
    """

    id: str
    group: str
    points: tuple[Point, ...]


def make_batch(group: str, points: Sequence[Point]) -> Batch:
    """A batch of these agents; the same agents in the same order have the same id."""
    digest = hashlib.sha256(" ".join(point.id for point in points).encode()).hexdigest()
    return Batch(digest[:12], group, tuple(points))


def layout_of(wanted: str) -> str:
    """`map` or `vmap`, whichever suits this machine if `auto` is wanted."""
    return population.layout_here() if wanted == "auto" else wanted


def num_bytes(config: Any, num_agents: int, layout: str) -> int:
    """Estimated memory of a batch on each device: all states, and one iteration at work."""
    state = jax.eval_shape(partial(population.init_one, config), jax.random.key(0))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    each = -(-num_agents // jax.device_count())
    return each * held + memory_estimate.estimate(config) * (each if layout == "vmap" else 1)


def most_agents(config: Any, layout: str) -> int:
    """How many agents half of the memory is estimated to hold; on a CPU devices share it."""
    have = int(memory_estimate.available() * _MEMORY_SHARE)
    if jax.default_backend() == "cpu":
        have //= jax.device_count()
    one, two = (num_bytes(config, n * jax.device_count(), layout) for n in (1, 2))
    return max(1, 1 + (have - one) // max(1, two - one)) * jax.device_count()


class BatchRun:
    """A batch in training; `rows` are its results so far."""

    def __init__(
        self, batch: Batch, folder: Path, num_evals: int, num_eval_episodes: int, layout: str
    ) -> None:
        """Start it, or restore its newest good checkpoint in `folder`."""
        self.batch, self.num_eval_episodes, self.layout = batch, num_eval_episodes, layout
        self.config = batch.points[0].config
        self.configs = _even(population.stack([point.config for point in batch.points]))
        self.due = evaluation_iterations(self.config, num_evals)
        self.saves = checkpoint.Checkpoints(folder, keep_last=2, keep_best=False)
        self.piece, self.done, self.rows = 1, 0, list[Row]()
        self.seconds, self.timed = 0.0, 0
        self.agents: Any = None
        self._advance = jax.jit(population.advance, static_argnums=(4, 5), donate_argnums=1)
        self._compiled = False
        self._start(folder)

    @property
    def finished(self) -> bool:
        """Whether every iteration is done."""
        return self.done >= self.config.num_iterations

    def advance(self) -> Row:
        """Train one piece; returns what progress should show."""
        step = min(self.piece, next(point for point in self.due if point > self.done) - self.done)
        evaluate = self.done + step in self.due
        began = time.monotonic()
        self.agents, metrics = self._advance(
            self.configs,
            self.agents,
            jnp.int32(step),
            jnp.asarray(evaluate),
            self.num_eval_episodes,
            self.layout,
        )
        finite, metrics = jax.device_get((self.agents.finite, metrics))
        seconds = time.monotonic() - began
        if self._compiled:
            self.seconds, self.timed = self.seconds + seconds, self.timed + step
        if step == self.piece and seconds < _PIECE_SECONDS:
            self.piece *= 2
        self.done, self._compiled = self.done + step, True
        if not evaluate:
            return {}
        self._report(finite, metrics)
        good = [x for x, ok in zip(metrics["eval/return_mean"], finite, strict=True) if ok]
        return {"eval/return_mean": float(sum(good) / len(good))} if good else {}

    def save(self) -> None:
        """Save in the background."""
        kept = jax.tree.map(lambda x: x[: len(self.batch.points)], self.agents)
        self.saves.save(self.done, kept, {"rows": self.rows})

    def _start(self, folder: Path) -> None:
        points, layout = self.batch.points, self.layout
        keys = _even(jnp.stack([jax.random.key(point.seed) for point in points]))
        init = jax.jit(population.init, static_argnums=2)
        if not checkpoint.steps(folder):
            self.agents = init(self.configs, keys, layout)
            return
        shapes = jax.eval_shape(partial(population.init, layout=layout), self.configs, keys)
        num = len(points)
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape[1:]), x.dtype), shapes)
        restored = checkpoint.restore(folder, target)
        self.agents = jax.device_put(_even(restored.state), devices.agents_sharding())
        self.done, self.rows = restored.step, restored.host["rows"]
        self.saves.rewind(self.done)

    def _report(self, finite: Any, metrics: Any) -> None:
        """A row for every agent; one last empty one for an agent that has diverged."""
        diverged = {row["id"] for row in self.rows if row["status"] == "diverged"}
        for i, point in enumerate(self.batch.points):
            if point.id in diverged:
                continue
            row = _describe(point, self.done * self.config.steps_per_iteration)
            if finite[i]:
                values = {name: float(metrics[f"eval/{name}"][i]) for name in _MEASURED}
                row |= {**values, "num_episodes": self.num_eval_episodes, "status": "ok"}
            else:
                row |= {**dict.fromkeys((*_MEASURED, "num_episodes")), "status": "diverged"}
            self.rows.append(row)


def _describe(point: Point, timesteps: int) -> Row:
    """The columns of a row that name the agent: study, environment, seed, hyper-parameters."""
    values = configs.to_dict(point.config)
    params = values.pop("env_params", {})
    env = values.pop("env")
    values.pop("num_devices", None)
    shown = {name: _cell(value) for name, value in values.items()}
    spread = {f"env_params.{name}": value for name, value in params.items()}
    named = {"id": point.id, "study": point.study, "agent": point.agent, "env": env}
    return {**named, "seed": point.seed, **shown, **spread, "timesteps": timesteps}


def _cell(value: Any) -> Any:
    return "x".join(map(str, value)) if isinstance(value, list) else value


def _even(tree: Any) -> Any:
    """The last agent repeated until every device has equally many."""
    num = jax.tree.leaves(tree)[0].shape[0]
    more = -num % jax.device_count()
    return jax.tree.map(lambda x: jnp.concatenate([x, *[x[-1:]] * more]), tree) if more else tree
