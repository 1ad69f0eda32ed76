"""The folder of a sweep: what is in it, and who may write to it.

sweep.json      the experiment, and with what it was run
parts/ID.json   the rows of a finished batch
batches/ID/     an unfinished batch: its points, and its checkpoints
policies/ID/    the policy of a finished run, if they are kept; `jaxrl_pg.load` reads it
results.csv     every finished run: a row for each evaluation
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxrl_pg.running import files
from jaxrl_pg.sweeps import results
from jaxrl_pg.sweeps.batch import Batch, BatchRun
from jaxrl_pg.sweeps.experiment import Experiment

__all__ = [
    "begin",
    "begun",
    "collect",
    "discard",
    "finish",
    "finished_rows",
    "folder_of",
    "measured_speed",
    "opened",
]

Row = dict[str, Any]

_PACKAGES = ("jaxrl-pg", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def folder_of(experiment: Experiment, run_dir: str | os.PathLike[str] | None) -> Path:
    """Return the sweep's folder, `runs/NAME` unless another is given."""
    return Path(run_dir or Path("runs") / experiment.name).expanduser().absolute()


@contextlib.contextmanager
def opened(folder: Path, experiment: Experiment) -> Iterator[None]:
    """Hold a sweep's folder; make it if it is new.

    Raises:
        ValueError: if it is in use, holds something else than a sweep, or holds results that were
            evaluated in another way.
    """
    saved = _read(folder / "sweep.json")
    if not saved and folder.is_dir() and set(os.listdir(folder)) - files.LOCK_NAMES:
        raise ValueError(f"{folder} holds something else than a sweep: choose another --run-dir")
    for name in ("num_evals", "num_eval_episodes"):
        old, new = saved.get(name), getattr(experiment, name)
        if old is not None and old != new:
            raise ValueError(
                f"{name}={new} but the results in {folder} have {old}: rows would not "
                "compare; choose another --run-dir"
            )
    files.require_writable(folder)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    lock = files.lock(folder)
    try:
        facts = {
            "name": experiment.name,
            "experiment": experiment.table,
            "num_evals": experiment.num_evals,
            "num_eval_episodes": experiment.num_eval_episodes,
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "command": experiment.command(folder),
            "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "seconds": saved.get("seconds", 0.0),
        }
        files.write_atomic(folder / "sweep.json", json.dumps(facts, indent=1) + "\n")
        yield
    finally:
        lock.release()


def begin(folder: Path, batch: Batch) -> Path:
    """Make the folder of a batch, and note what the batch trains."""
    place = folder / "batches" / batch.id
    place.mkdir(parents=True, exist_ok=True)
    ids = [point.id for point in batch.points]
    files.write_atomic(place / "batch.json", json.dumps({"group": batch.group, "points": ids}))
    return place


def begun(folder: Path, group: str) -> list[list[str]]:
    """Return the points' ids of each unfinished batch of a group."""
    unfinished = [_read(path) for path in sorted((folder / "batches").glob("*/batch.json"))]
    return [batch["points"] for batch in unfinished if batch.get("group") == group]


def discard(folder: Path, batch: Batch) -> None:
    """Remove an unfinished batch."""
    shutil.rmtree(folder / "batches" / batch.id, ignore_errors=True)


def finish(folder: Path, run: BatchRun, keep_policies: bool = False) -> None:
    """Write the part of a batch that is trained, and remove the unfinished batch.

    The policies come first: a part says that its batch needs no more training.
    """
    if keep_policies:
        for point_id, policy in run.policies():
            place = folder / "policies" / point_id
            shutil.rmtree(place, ignore_errors=True)  # of an attempt that was killed just here
            policy.save(place)
    steps = run.timed * run.config.steps_per_iteration * len(run.batch.points)
    part = {
        "group": run.batch.group,
        "steps_per_second": round(steps / run.seconds) if run.seconds else None,
        "rows": run.rows,
    }
    files.write_atomic(folder / "parts" / f"{run.batch.id}.json", json.dumps(part))
    shutil.rmtree(folder / "batches" / run.batch.id)


def finished_rows(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of every finished run, by the id of its point."""
    rows: dict[str, list[Row]] = {}
    for path in sorted((folder / "parts").glob("*.json")):
        for row in json.loads(path.read_text())["rows"]:
            rows.setdefault(row["id"], []).append(row)
    return rows


def measured_speed(folder: Path, group: str) -> float | None:
    """Return environment steps a second of a group's finished batches; None if there is none."""
    parts = [_read(path) for path in (folder / "parts").glob("*.json")]
    speeds = [part["steps_per_second"] for part in parts if part.get("group") == group]
    known = [speed for speed in speeds if speed]
    return sum(known) / len(known) if known else None


def collect(folder: Path, experiment: Experiment, seconds: float) -> None:
    """Write `results.csv` from the finished parts, in the experiment's order."""
    finished = finished_rows(folder)
    rows = [
        {**row, "study": point.study}  # as the file calls it now
        for point in experiment.points
        for row in finished.get(point.id, [])
    ]
    if rows:
        results.write(folder / "results.csv", rows)
    facts = json.loads((folder / "sweep.json").read_text())
    facts["seconds"] = round(facts.get("seconds", 0.0) + seconds, 1)
    files.write_atomic(folder / "sweep.json", json.dumps(facts, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}
