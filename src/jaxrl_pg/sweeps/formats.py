"""The JSON files of a sweep's folder: what each holds, and how it is checked when it is read.

sweep.json               the experiment, and with what it was run
parts/ID.json            the rows of a finished batch
batches/ID/batch.json    the runs of an unfinished batch

Reading them needs no JAX.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from jaxrl_pg import files
from jaxrl_pg.files import schema

__all__ = [
    "Facts",
    "Measured",
    "Note",
    "Part",
    "Row",
    "Value",
    "read_facts",
    "read_note",
    "read_part",
]

Row = dict[str, Any]
Scalar = str | int | float | bool | None
# What an experiment's file may hold, and no deeper: a list of studies, their [sample] tables, a
# field's choices, of which each may be a list.
_Level1 = Scalar | list[Scalar] | dict[str, Scalar]
_Level2 = Scalar | list[_Level1] | dict[str, _Level1]
_Level3 = Scalar | list[_Level2] | dict[str, _Level2]
_Level4 = Scalar | list[_Level3] | dict[str, _Level3]
_Level5 = Scalar | list[_Level4] | dict[str, _Level4]
Value = Scalar | list[_Level5] | dict[str, _Level5]


class Facts(TypedDict, total=False):
    """What sweep.json holds; a sweep of an earlier version may lack some of it."""

    name: str
    experiment: dict[str, Value]
    num_evals: schema.Positive
    num_eval_episodes: schema.Positive
    versions: dict[str, str]
    command: str
    device: str
    seconds: schema.Amount


class Measured(TypedDict):
    """What every row of a part holds, beside hyper-parameters."""

    id: str
    study: str
    agent: str
    env: str
    seed: schema.Count
    timesteps: schema.Count
    return_mean: float | None
    return_std: float | None
    length_mean: float | None
    num_episodes: schema.Count | None
    status: Literal["diverged", "ok"]


class Part(TypedDict):
    """What a part holds: all rows of a batch, how many, and what old policy they started from."""

    group: str
    steps_per_second: schema.Amount | None
    num_agents: NotRequired[schema.Count]
    num_rows: NotRequired[schema.Count]
    digest: NotRequired[str]
    rows: list[Measured]


class Note(TypedDict):
    """What batch.json holds: the ids of the batch's runs."""

    group: str
    points: list[str]


def read_facts(folder: Path) -> Facts | None:
    """Return what sweep.json says; None if there is none.

    Raises:
        ValueError: if it is a link, or holds anything else than a sweep's facts.
    """
    remedy = "restore the file, or choose another run_dir"
    return _read(folder / "sweep.json", Facts, remedy)


def read_part(path: Path) -> Part:
    """Return a part.

    Raises:
        ValueError: if it is a link, or holds anything else than a batch's rows.
    """
    part = _read(path, Part, "delete the file, and its runs are trained again")
    if part is None:
        raise ValueError(f"{path} is gone: run the sweep again")
    return part


def read_note(path: Path) -> Note:
    """Return what a batch.json says.

    Raises:
        ValueError: if it is a link, or holds anything else than a batch's runs.
    """
    note = _read(path, Note, f"delete {path.parent}, and its runs are trained again")
    if note is None:
        raise ValueError(f"{path} is gone: run the sweep again")
    return note


def _read(path: Path, kind: Any, remedy: str) -> Any:
    files.require_no_link(path)
    try:
        return schema.read(path, kind, remedy)
    except FileNotFoundError:
        return None
