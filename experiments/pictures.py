"""How the committed figures are drawn and kept: in the project's style, as small PNG and as PDF.

The PDF beside each PNG is for papers and is not committed.
"""

import io
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from jaxrl_pg import files
from jaxrl_pg.figures import canvas, looks

ROOT = Path(__file__).parents[1]
DPIS = (110, 100, 90, 80)
_DOTS = ("o", ".")
SMALL_FILE = 80_000  # bytes
SMALL = {"axes.titlesize": 10, "font.size": 9, "legend.fontsize": 8}
# Each colour has the marker that it has for the method it belongs to.
MARKERS = {look.colour: look.marker for look in reversed(looks.METHODS.values())}


def new_figure(
    columns: int, rows: int = 1, width: float = 4.2, height: float = 3.3
) -> tuple[Figure, list[Axes]]:
    """Return a figure and a flat list of its axes, each of some inches."""
    mpl.rcParams.update({**canvas.STYLE, **SMALL})
    figure = canvas.new(columns, rows, (width, height))
    return figure, list(np.ravel(figure.subplots(rows, columns)))


def mark(axes: Axes) -> None:
    """Give every line of several colours a marker by its colour, in the legend too.

    Lines of few points that have none keep none; so do those with another marker than a dot, and
    those whose gid is "plain".
    """
    lines = [x for x in axes.lines if to_hex(x.get_color()) in MARKERS and x.get_gid() != "plain"]
    lines = [x for x in lines if len(x.get_xdata()) > 8 or x.get_marker() in _DOTS]
    lines = [x for x in lines if x.get_marker() in ("None", *_DOTS) and x.get_linestyle() != "None"]
    colours = {to_hex(line.get_color()) for line in lines}
    if len(colours) < 2:
        return
    for line in lines:
        where = line.get_markevery() if line.get_marker() in _DOTS else 0.13
        _mark(line, where)
    legend = axes.get_legend()
    for line in legend.get_lines() if legend else []:
        if line.get_marker() in ("None", *_DOTS) and to_hex(line.get_color()) in colours:
            _mark(line, [0])


def _mark(line: Line2D, where: Any) -> None:
    line.set(marker=MARKERS[to_hex(line.get_color())], markersize=4, markevery=where)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG of 256 colours, smaller where it is large, and as PDF beside it."""
    for dpi in DPIS:
        with Image.open(io.BytesIO(canvas.png(figure, dpi))) as picture:
            small, file = (
                picture.convert("RGB").quantize(256, dither=Image.Dither.NONE),
                io.BytesIO(),
            )
        small.save(file, "PNG", optimize=True)
        if len(file.getvalue()) < SMALL_FILE:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, file.getvalue())
    files.write_atomic(path.with_suffix(".pdf"), canvas.pdf(figure))
    print(f"wrote {os.path.relpath(path, ROOT)} ({len(file.getvalue()) / 1000:.0f} kB)")
