"""The folder of a sweep: what is in it, and who may write to it.

sweep.json      the experiment, and with what it was run
parts/ID.json   the rows of a finished batch
batches/ID/     an unfinished batch: its points, and its checkpoints
policies/ID/    the policy of a finished run, if they are kept; `jaxrl_pg.load` reads it
results.csv     every finished run: a row for each evaluation

Nothing in it is believed before it is checked: see `formats` and `parts`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrl_pg import files
from jaxrl_pg.running import history
from jaxrl_pg.sweeps import formats, results
from jaxrl_pg.sweeps.batch import Batch, BatchRun, batch_id
from jaxrl_pg.sweeps.experiment import Experiment
from jaxrl_pg.sweeps.parts import finished_rows, parts

__all__ = [
    "begin",
    "begun",
    "collect",
    "discard",
    "finish",
    "folder_of",
    "measured_speed",
    "opened",
    "require_ours",
    "require_same_start",
]


def folder_of(experiment: Experiment, run_dir: str | os.PathLike[str] | None) -> Path:
    """Return the sweep's folder, `runs/NAME` unless another is given."""
    if run_dir is None:
        run_dir = Path("runs") / files.file_name(experiment.name, "the experiment's name")
    return files.as_path(run_dir, "run_dir").absolute()


@contextlib.contextmanager
def opened(folder: Path, experiment: Experiment) -> Iterator[None]:
    """Hold a sweep's folder; make it if it is new. Nothing is written before all of it is checked.

    Raises:
        ValueError: if it is in use, holds something else than a sweep, holds results that were
            evaluated in another way, or a part or a batch that is not what it should be.
    """
    seconds = require_ours(folder, experiment)
    files.require_no_pattern(folder)
    files.require_writable(folder)
    files.make_folder(folder / "parts", within=folder)
    lock = files.lock(folder)
    try:
        facts = {
            "name": experiment.name,
            "experiment": experiment.table,
            "num_evals": experiment.num_evals,
            "num_eval_episodes": experiment.num_eval_episodes,
            "command": experiment.command(folder),
            **_trained_with(folder, experiment),
            "seconds": seconds,
        }
        files.write_atomic(folder / "sweep.json", json.dumps(facts, indent=1) + "\n")
        yield
    finally:
        lock.release()


def _trained_with(folder: Path, experiment: Experiment) -> dict[str, Any]:
    """The device and the versions, after those of earlier starts where they are others.

    Where nothing is left to train they are those of what is there, whatever machine this is.
    """
    versions = history.versions(point.config.env for point in experiment.points)
    saved, here = formats.read_facts(folder) or formats.Facts(), history.device()
    finished = finished_rows(folder, experiment)
    if all(point.id in finished for point in experiment.points):
        return {"versions": saved.get("versions", versions), "device": saved.get("device", here)}
    before = saved.get("versions", {})
    joined = {name: _with(before.get(name), version) for name, version in versions.items()}
    return {"versions": before | joined, "device": _with(saved.get("device"), here)}


def _with(before: str | None, now: str) -> str:
    """Several values as one text, in the order in which they came."""
    values = before.split("; ") if before else []
    return "; ".join(values if now in values else [*values, now])


def begin(folder: Path, batch: Batch) -> Path:
    """Make the folder of a batch, and note what the batch trains."""
    place = files.make_folder(folder / "batches" / batch.id, within=folder)
    ids = [point.id for point in batch.points]
    note = json.dumps({"group": batch.group, "points": ids})
    files.write_atomic(place / "batch.json", note, within=folder)
    return place


def begun(folder: Path, group: str) -> list[list[str]]:
    """Return the points' ids of each unfinished batch of a group.

    Raises:
        ValueError: for a batch that is a link, or not the one that its name says.
    """
    unfinished, batches = [], folder / "batches"
    if os.path.lexists(batches):
        files.make_folder(batches, within=folder)
    for path in sorted(place / "batch.json" for place in batches.glob("*")):
        files.require_no_link(path, within=folder)
        if files.is_folder(path.parent) and not os.path.lexists(path):
            continue  # killed before the note was written
        note = formats.read_note(path)
        if batch_id(note["points"]) != path.parent.name:
            raise ValueError(
                f"{path} names other runs than batch {path.parent.name} has: delete "
                f"{path.parent}, and its runs are trained again"
            )
        if note["group"] == group:
            unfinished.append(note["points"])
    return unfinished


def discard(folder: Path, batch: Batch) -> None:
    """Remove an unfinished batch."""
    files.remove_tree(folder / "batches" / batch.id, within=folder)


def finish(folder: Path, run: BatchRun, keep_policies: bool = False) -> None:
    """Write the part of a batch that is trained, and remove the unfinished batch.

    The policies come first: a part says that its batch needs no more training.
    """
    if keep_policies:
        for point_id, policy in run.policies():
            place = folder / "policies" / point_id
            files.remove_tree(place, within=folder)  # of an attempt that was killed just here
            policy.save(place)
    steps = run.timed * run.config.steps_per_iteration * len(run.batch.points)
    part = {
        "group": run.batch.group,
        "steps_per_second": round(steps / run.seconds) if run.seconds else None,
        "num_agents": len(run.batch.points),
        "num_rows": len(run.rows),
        "digest": run.digest,
        "rows": run.rows,
    }
    path = folder / "parts" / f"{run.batch.id}.json"
    files.write_atomic(path, json.dumps(part, allow_nan=False), within=folder)
    discard(folder, run.batch)


def require_same_start(folder: Path, group: str, digest: str) -> None:
    """Refuse an old policy that is not the one which the finished runs of a group started from.

    Raises:
        ValueError: if it has other arrays.
    """
    digests = {part.get("digest", "") for _, part in parts(folder) if part["group"] == group}
    if digests - {"", digest}:
        raise ValueError(
            f"{folder} has runs that started from another policy than is now in init_from: put the "
            "old one back there, or choose another run_dir"
        )


def measured_speed(folder: Path, group: str) -> float | None:
    """Return environment steps a second of a group's finished batches; None if there is none."""
    speeds = [part["steps_per_second"] for _, part in parts(folder) if part["group"] == group]
    known = [speed for speed in speeds if speed]
    return sum(known) / len(known) if known else None


def collect(folder: Path, experiment: Experiment, seconds: float, quiet: bool = False) -> None:
    """Write `results.csv` from the finished parts, in the experiment's order.

    It says so, unless `quiet`, if finished runs are left out because the experiment does not have
    them (any more).
    """
    finished = finished_rows(folder, experiment)
    rows = [
        {**row, "study": point.study}  # as the file calls it now
        for point in experiment.points
        for row in finished.get(point.id, [])
    ]
    if rows:
        results.write(folder / "results.csv", rows)
    facts = formats.read_facts(folder) or formats.Facts()
    facts["seconds"] = round(facts.get("seconds", 0.0) + seconds, 1)
    files.write_atomic(folder / "sweep.json", json.dumps(facts, indent=1) + "\n")
    left_out = len(finished.keys() - {point.id for point in experiment.points})
    if left_out and not quiet:
        print(
            f"{folder} has {left_out} finished runs that are not in the experiment: results.csv "
            "leaves them out",
            file=sys.stderr,
        )


def require_ours(folder: Path, experiment: Experiment) -> float:
    """Refuse a folder that is no sweep's, or not this one's.

    Returns:
        The seconds for which the sweep was trained so far.

    Raises:
        ValueError: if it holds something else than a sweep, results that were evaluated in another
            way, or a part or a batch that is not what it should be.
    """
    for name in ("parts", "batches", "policies", "results.csv"):
        files.require_no_link(folder / name)
    saved = formats.read_facts(folder)
    held = set(os.listdir(folder)) - files.LOCK_NAMES if folder.is_dir() else set()
    if saved is None and any(not files.is_leftover(name) for name in held - {"parts"}):
        raise ValueError(f"{folder} holds something else than a sweep: choose another run_dir")
    saved = saved or formats.Facts()
    for name in ("num_evals", "num_eval_episodes"):
        old, new = saved.get(name), getattr(experiment, name)
        if old is not None and old != new:
            raise ValueError(
                f"{name}={new} but the results in {folder} have {old}: rows would not "
                "compare; choose another run_dir"
            )
    finished_rows(folder, experiment)
    begun(folder, "")
    return saved.get("seconds", 0.0)
