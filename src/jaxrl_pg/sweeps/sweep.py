"""Sweeps: train every run of an experiment, batch by batch, and nothing twice.

A batch is the runs of one group, or some of them, trained as one compiled program. A run whose
rows are in the folder is never trained again, so that an interrupted or extended experiment trains
only what is missing. What the folder holds is said in `folder`.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from jaxrl_pg.config import nearest
from jaxrl_pg.running import hosts, initial_policy, memory_estimate
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.sweeps import batch as batches
from jaxrl_pg.sweeps.batch import Batch, BatchRun, SweepOptions
from jaxrl_pg.sweeps.experiment import Experiment, Group, Point, describe, groups, load
from jaxrl_pg.sweeps.folder import (
    begin,
    begun,
    collect,
    discard,
    finish,
    folder_of,
    measured_speed,
    opened,
    require_ours,
    require_same_start,
)
from jaxrl_pg.sweeps.parts import finished_rows

__all__ = ["dry_run", "sweep", "train_groups"]


def sweep(
    experiment: str | os.PathLike[str] | Experiment,
    run_dir: str | os.PathLike[str] | None = None,
    options: SweepOptions | None = None,
    **changes: Any,
) -> Path:
    """Train what is missing of an experiment.

        folder = jaxrl_pg.sweep("experiments/ppo_learning_rate.toml", max_agents=16)
        table = results.read(folder / "results.csv")

    Args:
        experiment: the path of an experiment file, the name of one in experiments/, or an
            `Experiment` from `experiment.parse`.
        run_dir: the sweep's folder, `runs/<name>` if None; what is finished in it stays.
        options: how to run it.
        **changes: options by name, which replace those in `options`.

    Returns:
        The folder, with `results.csv` complete.

    Raises:
        ValueError: for an experiment that cannot be read, an unknown option, or what does not fit
            this machine or the folder; before anything is compiled.
        KeyboardInterrupt: on Ctrl-C, after saving.
    """
    options = _with_changes(options or SweepOptions(), changes)
    if not isinstance(experiment, Experiment):
        experiment = load(experiment)
    hosts.require_alone("a sweep")
    folder = folder_of(experiment, run_dir)
    every_group = groups(experiment.points)
    for group in every_group:
        batches.layout_of(options, group.points[0].config)
        memory_estimate.require(group.points[0].config, experiment.num_eval_episodes)
    began = time.monotonic()
    with opened(folder, experiment), Interrupt() as interrupt:
        train_groups(experiment, every_group, folder, options, interrupt)
        collect(folder, experiment, time.monotonic() - began, options.quiet)
    interrupt.raise_if_received(f"saved; go on with: {experiment.command(folder)}")
    return folder


def dry_run(
    experiment: Experiment,
    run_dir: str | os.PathLike[str] | None = None,
    options: SweepOptions | None = None,
) -> str:
    """Describe what `sweep` would do: groups, runs, compilations, memory and time.

    The time follows from the measured speed of the group's finished batches, and is unknown until
    there is one.
    """
    options = options or SweepOptions()
    folder = folder_of(experiment, run_dir)
    require_ours(folder, experiment)
    every_group, finished = groups(experiment.points), finished_rows(folder, experiment)
    lines, times = [describe(experiment, every_group), "to train:"], list[float | None]()
    for group in every_group:
        missing = [point for point in group.points if point.id not in finished]
        split = _split(group.id, missing, options)
        largest = max((len(batch.points) for batch in split), default=0)
        layout = batches.layout_of(options, group.points[0].config)
        size = batches.num_bytes(group.points[0].config, largest, layout) / 2**30
        times.append(_seconds(folder, group.id, missing))
        known = "time unknown" if times[-1] is None else f"{times[-1]:,.0f} s"
        lines.append(
            f"  {group.id}  {len(missing)} of {len(group.points)} agents in {len(split)} batches "
            f"of up to {largest}, about {size:.2f} GiB a device, {known}"
        )
    if None in times:
        lines.append("the time of a group is unknown until its first batch is trained")
    else:
        minutes = sum(filter(None, times)) / 60
        lines.append(f"in all about {minutes:,.1f} minutes, and compiling")
    return "\n".join(lines)


def train_groups(
    experiment: Experiment,
    some_groups: Sequence[Group],
    folder: Path,
    options: SweepOptions,
    interrupt: Interrupt,
) -> None:
    """Train the missing runs of some groups, until done or interrupted."""
    finished = finished_rows(folder, experiment)
    plan = [b for group in some_groups for b in _plan(folder, group, finished, options)]
    for group, first in {batch.group: batch.points[0] for batch in plan}.items():
        if first.init_from and not begun(folder, group):  # what has begun need not read it again
            start = initial_policy.read(first.config, first.init_from)
            require_same_start(folder, group, start.row["digest"] if start else "")
    total = sum(_timesteps(point) for batch in plan for point in batch.points)
    with Progress(total, quiet=options.quiet) as progress:
        while plan and not interrupt.received:
            batch = plan.pop(0)
            try:
                _train(batch, experiment, folder, options, progress, interrupt)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or len(batch.points) == 1:
                    raise
                discard(folder, batch)
                half = len(batch.points) // 2
                parts = batch.points[:half], batch.points[half:]
                plan = [*(batches.make_batch(batch.group, part) for part in parts), *plan]
                progress.message(f"out of memory with {len(batch.points)} agents: trying half")


def _train(
    batch: Batch,
    experiment: Experiment,
    folder: Path,
    options: SweepOptions,
    progress: Progress,
    interrupt: Interrupt,
) -> None:
    """Train a batch to its end, or save it when interrupted."""
    place = begin(folder, batch)
    evaluation = experiment.num_evals, experiment.num_eval_episodes
    layout = batches.layout_of(options, batch.points[0].config)
    run = BatchRun(batch, place, *evaluation, layout)
    require_same_start(folder, batch.group, run.digest)
    steps_before = progress.done
    saved_at = time.monotonic()
    with run.saves:
        while not run.finished:
            shown = run.advance()
            steps = run.done * run.config.steps_per_iteration * len(batch.points)
            progress.update(steps_before + steps, shown)
            late = time.monotonic() - saved_at > options.checkpoint_seconds
            if not run.finished and (late or interrupt.received):
                run.save()
                saved_at = time.monotonic()
            if interrupt.received:
                break
    if run.finished:
        finish(folder, run, options.keep_policies)
        unknown = sum(row["status"] == "ok" and row["return_mean"] is None for row in run.rows)
        if unknown:
            progress.message(
                f"{unknown} evaluations of batch {batch.id} have a return that is not finite: "
                "they are empty in results.csv"
            )


def _plan(
    folder: Path, group: Group, finished: dict[str, Any], options: SweepOptions
) -> list[Batch]:
    """Return what is missing of a group as batches; unfinished ones first, unchanged."""
    missing = {point.id: point for point in group.points if point.id not in finished}
    plan = []
    for ids in begun(folder, group.id):
        if set(ids) <= set(missing):
            plan.append(batches.make_batch(group.id, [missing.pop(i) for i in ids]))
    return plan + _split(group.id, list(missing.values()), options)


def _split(group: str, points: Sequence[Point], options: SweepOptions) -> list[Batch]:
    """Split points into equal batches, of at most as many as are allowed or fit in memory."""
    if not points:
        return []
    layout = batches.layout_of(options, points[0].config)
    largest = options.max_agents or batches.max_members(points[0].config, layout)
    size = -(-len(points) // -(-len(points) // largest))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [batches.make_batch(group, part) for part in parts]


def _seconds(folder: Path, group: str, missing: Sequence[Point]) -> float | None:
    """Return how long the missing points of a group will take; None if nothing was measured."""
    if not missing:
        return 0.0
    speed = measured_speed(folder, group)
    return sum(map(_timesteps, missing)) / speed if speed else None


def _timesteps(point: Point) -> int:
    return int(point.config.num_iterations * point.config.steps_per_iteration)


def _with_changes(options: SweepOptions, changes: dict[str, Any]) -> SweepOptions:
    if not isinstance(options, SweepOptions):
        raise ValueError(
            f"options={options!r:.80}: give SweepOptions(...), or single options by name"
        )
    names = [field.name for field in dataclasses.fields(options)]
    for name in changes:
        if name not in names:
            raise ValueError(f"unknown option {name!r}: {nearest(name, names)}")
    return dataclasses.replace(options, **changes)
