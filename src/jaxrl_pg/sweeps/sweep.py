"""Sweeps: every agent of an experiment trained, batch by batch, and no work done twice.

    sweep.json      the experiment, and with what it was run
    parts/ID.json   the rows of a finished batch
    batches/ID/     an unfinished batch: which agents, and its checkpoints
    results.csv     every finished agent: a row an evaluation

A batch is agents of one group, trained as one compiled program. An agent whose rows are in
`parts` is never trained again, so an interrupted or extended experiment trains what is missing.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxrl_pg.running import files, hosts, memory_estimate
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.options import SweepOptions
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.sweeps import batch as batches
from jaxrl_pg.sweeps import results, time_estimate
from jaxrl_pg.sweeps.batch import Batch, BatchRun
from jaxrl_pg.sweeps.experiment import Experiment, Group, Point, describe, groups

__all__ = [
    "collect",
    "dry_run",
    "finished_rows",
    "folder_of",
    "opened",
    "run_sweep",
    "train_groups",
]

Row = dict[str, Any]

PACKAGES = ("jaxrl-pg", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def run_sweep(
    experiment: Experiment,
    run_dir: str | os.PathLike[str] | None = None,
    options: SweepOptions | None = None,
) -> Path:
    """Train what is missing of an experiment.

    Args:
        experiment: from `experiment.load`.
        run_dir: the sweep's folder, `runs/<name>` if None; what is finished in it stays.
        options: how to run it.

    Returns:
        The folder, with `results.csv` complete.

    Raises:
        ValueError: for what does not fit this machine or the folder, before anything is compiled.
        KeyboardInterrupt: on Ctrl-C, after saving.
    """
    options = options or SweepOptions()
    hosts.require_alone("a sweep")
    folder = folder_of(experiment, run_dir)
    every_group = groups(experiment.points)
    for group in every_group:
        memory_estimate.require(group.points[0].config)
    began = time.monotonic()
    with opened(folder, experiment), Interrupt() as interrupt:
        train_groups(experiment, every_group, folder, options, interrupt)
        collect(folder, experiment, time.monotonic() - began)
    again = f"jaxrl-pg sweep {experiment.name} --run-dir {folder}"
    interrupt.raise_if_wanted(f"saved; go on with: {again}")
    return folder


def dry_run(
    experiment: Experiment,
    run_dir: str | os.PathLike[str] | None = None,
    options: SweepOptions | None = None,
) -> str:
    """What `run_sweep` would do: groups, agents, compilations, memory and time.

    The time is that of the group's batches so far, or a guess before there is one.
    """
    options = options or SweepOptions()
    folder, layout = folder_of(experiment, run_dir), batches.layout_of(options.layout)
    every_group, finished = groups(experiment.points), finished_rows(folder)
    lines, total, speed = (
        [describe(experiment, every_group), "to train:"],
        0.0,
        time_estimate.speed(),
    )
    for group in every_group:
        missing = [point for point in group.points if point.id not in finished]
        split = _split(group.id, missing, options)
        most = max((len(batch.points) for batch in split), default=0)
        size = batches.num_bytes(group.points[0].config, most, layout) / 2**30
        steps = sum(_timesteps(point) for point in missing)
        rate = _rate(folder, group.id)
        seconds = steps / (rate or _guessed_rate(group.points[0].config, speed))
        total += seconds
        lines.append(
            f"  {group.id}  {len(missing)} of {len(group.points)} agents in {len(split)} batches "
            f"of up to {most}, about {size:.2f} GiB a device, "
            f"{seconds:,.0f} s{'' if rate else ' at a guess'}"
        )
    return "\n".join([*lines, f"in all about {total / 60:,.1f} minutes, and compiling"])


def train_groups(
    experiment: Experiment,
    some_groups: Sequence[Group],
    folder: Path,
    options: SweepOptions,
    interrupt: Interrupt,
) -> None:
    """Train the missing agents of some groups, until done or interrupted."""
    finished = finished_rows(folder)
    plan = [b for group in some_groups for b in _plan(folder, group, finished, options)]
    total = sum(_timesteps(point) for batch in plan for point in batch.points)
    with Progress(total, quiet=options.quiet) as progress:
        while plan and not interrupt.wanted:
            batch = plan.pop(0)
            try:
                _train(batch, experiment, folder, options, progress, interrupt)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or len(batch.points) == 1:
                    raise
                plan = [*_halves(batch, folder), *plan]
                progress.message(f"out of memory with {len(batch.points)} agents: trying half")


def collect(folder: Path, experiment: Experiment, seconds: float) -> None:
    """Write `results.csv` from the finished parts, in the experiment's order."""
    found = finished_rows(folder)
    rows = [
        {**row, "study": point.study}  # as the file calls it now
        for point in experiment.points
        for row in found.get(point.id, [])
    ]
    if rows:
        results.write(folder / "results.csv", rows)
    described = json.loads((folder / "sweep.json").read_text())
    described["seconds"] = round(described.get("seconds", 0.0) + seconds, 1)
    files.write_atomic(folder / "sweep.json", json.dumps(described, indent=1) + "\n")


@contextlib.contextmanager
def opened(folder: Path, experiment: Experiment) -> Iterator[None]:
    """Hold a sweep's folder, made if it is new.

    Raises:
        ValueError: if it is in use, is another kind of folder, or holds results that were
            evaluated otherwise.
    """
    held = _read(folder / "sweep.json")
    if not held and folder.is_dir() and set(os.listdir(folder)) - {"lock"}:
        raise ValueError(f"{folder} holds something else than a sweep: choose another --run-dir")
    for name in ("num_evals", "num_eval_episodes"):
        before, now = held.get(name), getattr(experiment, name)
        if before is not None and before != now:
            raise ValueError(
                f"{name}={now} but the results in {folder} have {before}: rows would not "
                "compare; choose another --run-dir"
            )
    files.require_writable(folder)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    lock = files.lock(folder)
    try:
        described = {
            "name": experiment.name,
            "experiment": experiment.table,
            "num_evals": experiment.num_evals,
            "num_eval_episodes": experiment.num_eval_episodes,
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "command": f"jaxrl-pg sweep {experiment.name} --run-dir {folder}",
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "seconds": held.get("seconds", 0.0),
        }
        files.write_atomic(folder / "sweep.json", json.dumps(described, indent=1) + "\n")
        yield
    finally:
        lock.release()


def folder_of(experiment: Experiment, run_dir: str | os.PathLike[str] | None) -> Path:
    """The sweep's folder."""
    return Path(run_dir or Path("runs") / experiment.name).expanduser().absolute()


def finished_rows(folder: Path) -> dict[str, list[Row]]:
    """The rows of every finished agent, by its id."""
    found: dict[str, list[Row]] = {}
    for path in sorted((folder / "parts").glob("*.json")):
        for row in json.loads(path.read_text())["rows"]:
            found.setdefault(row["id"], []).append(row)
    return found


def _train(
    batch: Batch,
    experiment: Experiment,
    folder: Path,
    options: SweepOptions,
    progress: Progress,
    interrupt: Interrupt,
) -> None:
    place = folder / "batches" / batch.id
    place.mkdir(parents=True, exist_ok=True)
    ids = [point.id for point in batch.points]
    files.write_atomic(place / "batch.json", json.dumps({"group": batch.group, "points": ids}))
    evaluation = experiment.num_evals, experiment.num_eval_episodes
    run = BatchRun(batch, place, *evaluation, batches.layout_of(options.layout))
    before = progress.done
    saved_at = time.monotonic()
    with run.saves:
        while not run.finished:
            shown = run.advance()
            steps = run.done * run.config.steps_per_iteration * len(ids)
            progress.update(before + steps, shown)
            late = time.monotonic() - saved_at > options.checkpoint_seconds
            if not run.finished and (late or interrupt.wanted):
                run.save()
                saved_at = time.monotonic()
            if interrupt.wanted:
                break
    if run.finished:
        _finish(run, folder)


def _finish(run: BatchRun, folder: Path) -> None:
    """The batch becomes a part; what is left of the batch may go."""
    steps = run.timed * run.config.steps_per_iteration * len(run.batch.points)
    part = {
        "group": run.batch.group,
        "steps_per_second": round(steps / run.seconds) if run.seconds else None,
        "rows": run.rows,
    }
    files.write_atomic(folder / "parts" / f"{run.batch.id}.json", json.dumps(part))
    shutil.rmtree(folder / "batches" / run.batch.id)


def _plan(
    folder: Path, group: Group, finished: dict[str, Any], options: SweepOptions
) -> list[Batch]:
    """What is missing of a group: batches begun before first, as they were begun."""
    missing = {point.id: point for point in group.points if point.id not in finished}
    begun = []
    for path in sorted((folder / "batches").glob("*/batch.json")):
        held = _read(path)
        if held.get("group") == group.id and set(held["points"]) <= set(missing):
            begun.append(batches.make_batch(group.id, [missing.pop(i) for i in held["points"]]))
    return begun + _split(group.id, list(missing.values()), options)


def _split(group: str, points: Sequence[Point], options: SweepOptions) -> list[Batch]:
    """Equal batches of at most as many agents as are allowed, or as fit."""
    if not points:
        return []
    layout = batches.layout_of(options.layout)
    most = options.max_agents or batches.most_agents(points[0].config, layout)
    size = -(-len(points) // -(-len(points) // most))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [batches.make_batch(group, part) for part in parts]


def _halves(batch: Batch, folder: Path) -> list[Batch]:
    shutil.rmtree(folder / "batches" / batch.id, ignore_errors=True)
    half = len(batch.points) // 2
    parts = batch.points[:half], batch.points[half:]
    return [batches.make_batch(batch.group, part) for part in parts]


def _rate(folder: Path, group: str) -> float | None:
    """Steps a second of all agents together, from this group's batches so far."""
    parts = [_read(path) for path in (folder / "parts").glob("*.json")]
    rates = [part["steps_per_second"] for part in parts if part.get("group") == group]
    known = [rate for rate in rates if rate]
    return sum(known) / len(known) if known else None


def _guessed_rate(config: Any, speed: float) -> float:
    """The same before a batch was trained: from operations, on a machine that does `speed`."""
    return float(config.steps_per_iteration * speed / time_estimate.operations(config))


def _timesteps(point: Point) -> int:
    return int(point.config.num_iterations * point.config.steps_per_iteration)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
