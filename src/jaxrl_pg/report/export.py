"""Export a table run by run: each as a file of JSON lines, or as a run of TensorBoard.

TensorBoard's hparams plugin compares the runs by their hyper-parameters and last return.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_pg.sweeps.results import Table

__all__ = ["write_jsonl", "write_tensorboard"]

Row = dict[str, Any]

_SCALARS = ("return_mean", "return_std", "length_mean")


def write_jsonl(results: Table, folder: Path) -> None:
    """Write each run's rows as JSON objects to `<folder>/<id>.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in _runs(results):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def write_tensorboard(results: Table, folder: Path) -> None:
    """Write each run's evaluations and hyper-parameters to `<folder>/<id>/`.

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
    named = ("study", "agent", "env", "seed", *results.hyper)
    for name, rows in _runs(results):
        writer = SummaryWriter(str(folder / name))
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


def _runs(results: Table) -> Iterator[tuple[str, list[Row]]]:
    """Yield every run's id and rows, with None for NaN; number the ids that two folders share."""
    rows_of: dict[tuple[str, str], list[Row]] = {}
    for i, source in enumerate(results.sources):
        row = {name: _plain(column[i]) for name, column in results.columns.items()}
        rows_of.setdefault((row["id"], source), []).append(row)
    seen: dict[str, int] = {}
    for (name, _), rows in rows_of.items():
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}", rows


def _plain(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
