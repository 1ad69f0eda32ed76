"""Metric rows: one flat dict of scalars for each iteration and for each evaluation."""

import math
import re
from typing import Any

import numpy as np

from jaxrl_pg.ops.metric_names import is_watched

__all__ = ["Row", "columns", "first_not_finite", "known", "known_return"]

Row = dict[str, Any]


def known(row: Row) -> Row:
    """Return a training row with NaN for the means over episodes where none ended.

    They are so already, unless `jax_debug_nans` forbids the compiled program to make a NaN.
    """
    if row.get("train/episodes") != 0:
        return row
    return {**row, **{k: math.nan for k in row if re.fullmatch(r"train/(return|length)_mean", k)}}


def known_return(row: Row, kind: str) -> float | None:
    """Return the mean return in a row, or None when no finished episode stands behind it.

    Args:
        row: the metrics; `<kind>/return_mean` and `<kind>/num_episodes` are read.
        kind: "train" or "eval".

    Returns:
        The mean; None when it is absent, null, not finite, or over no episodes.
    """
    value = row.get(f"{kind}/return_mean")
    if value is None or not math.isfinite(value) or row.get(f"{kind}/num_episodes") == 0:
        return None
    return float(value)


def first_not_finite(rows: list[Row]) -> tuple[int, str] | None:
    """Find the first loss or gradient norm that is not a finite number.

    Returns:
        The number of the row and the name of the metric; None if all are finite.
    """
    for number, row in enumerate(rows):
        for name, value in row.items():
            if is_watched(name) and not np.isfinite(value):
                return number, name
    return None


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    """Turn rows into arrays by name, null into NaN.

    Returns:
        The training metrics, each `[iterations]`; the `eval/...` metrics and `eval/timesteps`,
        each `[evaluations]`.
    """
    training = [row for row in rows if "eval/return_mean" not in row]
    evaluations = [row for row in rows if "eval/return_mean" in row]
    values = {name: [row.get(name) for row in training] for name in (training or [{}])[0]}
    for name in (evaluations or [{}])[0]:
        if name.startswith("eval/"):
            values[name] = [row[name] for row in evaluations]
    if evaluations:
        values["eval/timesteps"] = [row["timesteps"] for row in evaluations]
    return {
        name: np.array([np.nan if x is None else x for x in column])
        for name, column in values.items()
    }
