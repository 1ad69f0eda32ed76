"""How the committed figures are drawn and kept: in the project's style, as small PNG and as PDF.

The PDF beside each PNG is for papers and is not committed.
"""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from jaxrl_pg import files
from jaxrl_pg.figures import canvas, looks

ROOT = Path(__file__).parents[1]
DPI = 110
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
    """Give every line of several colours a marker by its colour, in the legend too."""
    lines = [x for x in axes.lines if x.get_color() in MARKERS and len(x.get_xdata()) > 8]
    if len({line.get_color() for line in lines}) < 2:
        return
    for line in lines:
        if line.get_marker() == "None":
            line.set(marker=MARKERS[line.get_color()], markersize=4, markevery=0.13)
    legend = axes.get_legend()
    for line in legend.get_lines() if legend else []:
        if line.get_marker() == "None" and line.get_color() in {x.get_color() for x in lines}:
            line.set(marker=MARKERS[line.get_color()], markersize=4, markevery=[1])


def save(figure: Figure, path: Path, dpi: int = DPI) -> None:
    """Write a figure as PNG, of so few colours that it is small, and as PDF beside it."""
    with Image.open(io.BytesIO(canvas.png(figure, dpi))) as picture:
        for colours in (256, 128, 64, 32):
            file = io.BytesIO()
            small = picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE)
            small.save(file, "PNG", optimize=True)
            if len(file.getvalue()) < SMALL_FILE:
                break
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, file.getvalue())
    files.write_atomic(path.with_suffix(".pdf"), canvas.pdf(figure))
    print(f"wrote {path.resolve().relative_to(ROOT)} ({len(file.getvalue()) / 1000:.0f} kB)")
