"""How the committed figures are drawn and kept: in the project's style, as small PNG and as PDF.

The PDF beside each PNG is for papers and is not committed.
"""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
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
    long = [line for line in axes.lines if len(line.get_xdata()) > 8]
    colours = {to_hex(line.get_color()) for line in long} & MARKERS.keys()
    if len(colours) < 2:
        return
    legend = axes.get_legend()
    for line in [*long, *(legend.get_lines() if legend else [])]:
        colour = to_hex(line.get_color())
        if line.get_marker() == "None" and colour in colours:
            where = 0.13 if line in long else [0]
            line.set(marker=MARKERS[colour], markersize=4, markevery=where)


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
