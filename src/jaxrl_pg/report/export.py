"""Export a table run by run: each as a file of JSON lines, or as a run of TensorBoard.

TensorBoard's hparams plugin compares the runs by their hyper-parameters and last return.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.sweeps.results import Table

__all__ = ["Run", "runs", "write_jsonl", "write_tensorboard"]

Row = dict[str, Any]

_SCALARS = ("return_mean", "return_std", "length_mean")


class Run(NamedTuple):
    """One run of a table.

    Attributes:
        name: the run's id, with a number where two folders share it: the name of its files.
        rows: its rows, in the table's order, with None for what is not finite.
    """

    name: str
    rows: list[Row]


def runs(results: Table) -> list[Run]:
    """Return every run of a table under a name of its own.

    Raises:
        ValueError: for an id that is no name of a file.
    """
    rows_of: dict[tuple[str, str], list[Row]] = {}
    for i, source in enumerate(results.sources):
        row = {name: _plain(column[i]) for name, column in results.columns.items()}
        files.file_name(row["id"], f"{source}: id")
        rows_of.setdefault((row["id"], source), []).append(row)
    # Names that differ in case only would be one file on some systems.
    taken = {name.casefold() for name, _ in rows_of}
    found, seen = list[Run](), set[str]()
    for (name, _), rows in rows_of.items():
        own, number = name, 1
        while own.casefold() in (seen if number == 1 else seen | taken):
            number += 1
            own = f"{name}-{number}"
        seen.add(own.casefold())
        found.append(Run(own, rows))
    return found


def write_jsonl(some: Sequence[Run], folder: Path) -> None:
    """Write each run's rows as JSON objects to `<folder>/<name>.jsonl`."""
    files.make_folder(folder)
    for name, rows in some:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        files.write_atomic(folder / f"{name}.jsonl", text)


def write_tensorboard(some: Sequence[Run], hyper: Sequence[str], folder: Path) -> None:
    """Write each run's evaluations and hyper-parameters to `<folder>/<name>/`.

    Raises:
        ValueError: if tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams
    except ImportError:
        raise ValueError(
            'tensorboard=True needs the extra: pip install "jaxrl-pg[tensorboard]"'
        ) from None
    named = ("study", "agent", "env", "seed", *hyper)
    for name, rows in some:
        writer = SummaryWriter(os.fspath(files.make_folder(folder / name, within=folder.parent)))
        values = {key: rows[0][key] for key in named if rows[0][key] is not None}
        for summary in hparams(values, {"final/return_mean": None}):
            writer.file_writer.add_summary(summary)
        for row in rows:
            for key in _SCALARS:
                if row[key] is not None:
                    writer.add_scalar(f"eval/{key}", row[key], row["timesteps"])
        known = [row for row in rows if row["return_mean"] is not None]
        if known:
            last = known[-1]
            writer.add_scalar("final/return_mean", last["return_mean"], last["timesteps"])
        writer.close()


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
