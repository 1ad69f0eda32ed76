"""The parts of a sweep, each checked against what its name, its count and the experiment say.

A part is believed for what is in it, not for its name: ids of runs are hashes of their settings,
and the name of a part is a hash of its ids. So a part that was renamed, cut, mixed with another or
edited is found out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl_pg import files
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.sweeps import formats
from jaxrl_pg.sweeps.batch import batch_id, described
from jaxrl_pg.sweeps.experiment import Experiment, Point, later
from jaxrl_pg.sweeps.formats import Part, Row
from jaxrl_pg.training.program import evaluation_iterations

__all__ = ["checked_rows", "finished_rows", "parts"]

_REMEDY = "delete the file, and its runs are trained again"


def parts(folder: Path) -> Iterator[tuple[Path, Part]]:
    """Yield the path and the content of every part, in the order of their names.

    Raises:
        ValueError: for a part that is a link, or no part, or not the one that its name says, or
            that has fewer or more rows than it counts.
    """
    place = folder / "parts"
    files.require_no_link(place)
    for path in sorted(place.glob("*.json")):
        part = formats.read_part(path)
        ids = list(dict.fromkeys(row["id"] for row in part["rows"]))
        if batch_id(ids) != path.stem:
            raise ValueError(
                f"{path} holds the rows of {len(ids)} runs that are not batch {path.stem}: it was "
                f"renamed, or rows are missing: {_REMEDY}"
            )
        for name, found in (("num_agents", len(ids)), ("num_rows", len(part["rows"]))):
            if part.get(name, found) != found:
                raise ValueError(f"{path} has {found} of {part.get(name)} {name[4:]}: {_REMEDY}")
        yield path, part


def finished_rows(folder: Path, experiment: Experiment) -> dict[str, list[Row]]:
    """Return the rows of every finished run, by the id of its point.

    Runs that the experiment does not have (any more) are among them.

    Raises:
        ValueError: for a part that `parts` refuses, a run that two parts have, or rows that are not
            those of the run's setting, or not all of them.
    """
    points = {point.id: point for point in experiment.points}
    rows: dict[str, list[Row]] = {}
    for path, part in parts(folder):
        of_part: dict[str, list[Row]] = {}
        for row in part["rows"]:
            cls = type(points[row["id"]].config) if row["id"] in points else BaseConfig
            missing = {name: x for name, x in later(cls).items() if name not in row}
            of_part.setdefault(row["id"], []).append({**row, **missing})
        for name, some in of_part.items():
            if name in rows:
                raise ValueError(f"{path} has run {name}, which another part has too: {_REMEDY}")
            rows[name] = some
        known = [points[name] for name in of_part if name in points]
        checked_rows(known, of_part, experiment, path, _REMEDY)
    return rows


def checked_rows(
    points: Sequence[Point],
    rows: Mapping[str, Sequence[Row]],
    experiment: Experiment,
    path: Path,
    remedy: str,
    until: int | None = None,
) -> None:
    """Refuse rows that are not a point's own, or not all of them.

    Args:
        points: the runs.
        rows: each run's rows, by its id.
        experiment: says how many evaluations a run has, of how many episodes.
        path: where the rows were read, for messages.
        remedy: what to do, for messages.
        until: the last iteration that was done; None for all.
    """
    for point in points:
        its_own, config = rows.get(point.id, []), point.config
        own_columns = described(point, 0)
        for row in its_own:
            measured = row["num_episodes"] is not None
            count = {"num_episodes": experiment.num_eval_episodes} if measured else {}
            for name, value in (own_columns | count).items():
                if name not in ("study", "timesteps") and row.get(name, value) != value:
                    raise ValueError(
                        f"{path} gives run {point.id} {name}={row[name]!r}, which has {value!r}: "
                        f"{remedy}"
                    )
        due: list[Any] = [
            iteration * config.steps_per_iteration
            for iteration in evaluation_iterations(config, experiment.num_evals)
            if until is None or iteration <= until
        ]
        ended = bool(its_own) and its_own[-1]["status"] == "diverged"
        found = [row["timesteps"] for row in its_own]
        if found != (due[: len(found)] if ended else due):
            raise ValueError(
                f"{path} has {len(found)} of the {len(due)} rows of run {point.id}, or others: "
                f"{remedy}"
            )
