"""The learning curve of a run, as a PNG."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.running.rows import Row, known_return

__all__ = ["curve_png", "save_curve", "standard_error"]

_SIZE = 7.0, 4.2  # inches


def save_curve(
    rows: Sequence[Row], path: str | os.PathLike[str], title: str, agent: str = ""
) -> None:
    """Draw a run's curve, see `curve_png`, to a file that is replaced in one step."""
    files.write_atomic(Path(path), curve_png(rows, title, agent))


def curve_png(rows: Sequence[Row], title: str, agent: str = "") -> bytes:
    """Draw train and eval returns against timesteps, and return the PNG.

    Args:
        rows: the metric rows. Where an evaluation's spread is known, a band shows the standard
            error of its mean, see `standard_error`. Without any finished episode the picture says
            so.
        title: the text above the curve, drawn as it is (no mathematics).
        agent: the agent's name, whose colour the curve has.
    """
    with canvas.style():
        figure = canvas.new(size=_SIZE)
        axes = figure.add_subplot()
        _draw_train(axes, rows)
        _draw_eval(axes, rows, looks.look_of(agent))
        if axes.lines:
            axes.legend(loc="best")
        else:
            axes.text(0.5, 0.5, "no finished episode yet", transform=axes.transAxes, ha="center")
            axes.set_yticks([])
        axes.set_title(title, parse_math=False)
        axes.set_xlabel("environment steps")
        axes.set_ylabel("episode return")
        axes.set_xlim(0, 1.02 * max([1, *(row["timesteps"] for row in rows)]))
        canvas.in_steps(axes.xaxis)
    return canvas.png(figure)


def _draw_train(axes: Any, rows: Sequence[Row]) -> None:
    """Draw the noisy training curve thin and grey, a single point as a dot."""
    known = [(row["timesteps"], known_return(row, "train")) for row in rows]
    points = [(step, value) for step, value in known if value is not None]
    if points:
        marker = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color="#8a939e", lw=1.1, marker=marker, label="train")


def standard_error(row: Row) -> float:
    r"""Return the standard error of an evaluation's mean return, NaN where it is not known.

    It is $s / \sqrt{n - 1}$ with the standard deviation $s$ (divided by $n$) of the $n$ returns: of
    the seeds in a run of several, else of the episodes. The mean plus or minus it is never outside
    those returns, because $\max_i x_i - \bar x \ge s / \sqrt{n - 1}$ for any $n \ge 2$ numbers,
    and likewise below; the mean plus or minus $s$ may be more than any episode can give.
    """
    num, std = row.get("eval/num_episodes") or 0, row.get("eval/return_std")
    several = [x for name, x in row.items() if name.startswith("eval/return_mean/seed_")]
    if several:
        found = [x for x in several if x is not None and math.isfinite(x)]
        num, std = len(found), float(np.std(found)) if found else None
    return std / math.sqrt(num - 1) if num > 1 and std is not None else math.nan


def _draw_eval(axes: Any, rows: Sequence[Row], look: looks.Look) -> None:
    """Draw the evaluation curve bold, with a band of its standard error if that is known."""
    known = [row for row in rows if known_return(row, "eval") is not None]
    if not known:
        return
    steps = [row["timesteps"] for row in known]
    means = np.array([known_return(row, "eval") for row in known], dtype=float)
    errors = np.array([standard_error(row) for row in known])
    banded = bool(np.isfinite(errors[1:]).any())
    label = "eval, mean \N{PLUS-MINUS SIGN} standard error" if banded else "eval"
    every = max(1, len(known) // 25)
    axes.plot(steps, means, **look.line(), lw=2, markevery=every, label=label, zorder=3)
    if banded:
        low, high = means - errors, means + errors
        axes.fill_between(steps, low, high, color=look.colour, alpha=0.2, lw=0)
