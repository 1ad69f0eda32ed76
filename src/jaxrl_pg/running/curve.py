"""The learning curve of a run, as a PNG."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.running.rows import Row, known_return

if TYPE_CHECKING:  # imported only where a curve is drawn
    from matplotlib.axes import Axes

__all__ = ["save_curve"]


def save_curve(rows: Sequence[Row], path: str | os.PathLike[str], title: str) -> None:
    """Draw train and eval returns against timesteps, as a PNG that is replaced in one step.

    Args:
        rows: the metric rows; `eval/return_std`, where present, becomes a band of one standard
            deviation. Without any finished episode the picture says so.
        path: the PNG file.
        title: the text above the curve, drawn as it is (no mathematics).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_train(axes, rows)
    _draw_eval(axes, rows)
    if axes.lines:
        axes.legend(frameon=False, loc="best")
        axes.grid(color="0.9", linewidth=0.8)
    else:
        axes.text(0.5, 0.5, "no finished episode yet", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("episode return")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(0, 1.02 * max([1, *(row["timesteps"] for row in rows)]))
    axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    files.write_atomic(Path(path), png.getvalue())


def _draw_train(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw the noisy training curve thin and pale, a single point as a dot."""
    known = [(row["timesteps"], known_return(row, "train")) for row in rows]
    points = [(step, value) for step, value in known if value is not None]
    if points:
        marker = "o" if len(points) == 1 else ""
        axes.plot(*zip(*points, strict=True), color="#8fa6bf", lw=1.1, marker=marker, label="train")


def _draw_eval(axes: "Axes", rows: Sequence[Row]) -> None:
    """Draw the evaluation curve bold, with a band of one standard deviation if there is one."""
    known = [row for row in rows if known_return(row, "eval") is not None]
    if not known:
        return
    steps = [row["timesteps"] for row in known]
    means = np.array([known_return(row, "eval") for row in known], dtype=float)
    stds = np.array([row.get("eval/return_std") for row in known], dtype=float)  # None is NaN
    marker = "o" if len(known) <= 50 else ""
    color, banded = "#c8501e", bool(np.isfinite(stds[1:]).any())
    label = "eval, mean \N{PLUS-MINUS SIGN} std" if banded else "eval"
    axes.plot(steps, means, color=color, lw=2, marker=marker, ms=4, label=label, zorder=3)
    if banded:
        axes.fill_between(steps, means - stds, means + stds, color=color, alpha=0.18, lw=0)
