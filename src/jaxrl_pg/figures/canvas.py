"""A matplotlib figure in the project's style, and what it is written as: PNG, PDF or SVG.

    with canvas.style():
        figure = canvas.new(columns=2)
        axes = figure.add_subplot(1, 2, 1)
        ...
        png = canvas.png(figure)

The room of matplotlib, which is imported when a figure is made; pyplot, which chooses a window
system, never is. The bytes hold no date, so that equal figures are equal files.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jaxrl_pg.figures.looks import COLOURS, INK, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "PANEL",
    "STYLE",
    "add_legend",
    "in_steps",
    "new",
    "panels",
    "pdf",
    "png",
    "style",
    "svg",
    "swatch",
]

PANEL = 4.2, 3.3  # inches of one set of axes: read at its size on a telephone
GRID = "#e3e6ea"
_PAPER = "#ffffff"
_IN_THE_DARK = {INK: "#e6e9ed", GRID: "#343a42", _PAPER: "#15181c"}
_PLAIN: dict[str, Any] = {"metadata": {"Date": None}, "facecolor": "none"}
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": _PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 3.0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,  # whole letters, which can be searched, and which conferences ask for
    "svg.hashsalt": "jaxrl_pg",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style inside the block, whatever matplotlib is set to outside."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        rc: Any = mpl.rcParams
        rc.update(STYLE)
        yield


def new(columns: int = 1, lines: int = 1, size: tuple[float, float] = PANEL) -> Figure:
    """Return an empty figure with room for so many axes, each of a size in inches."""
    from matplotlib.figure import Figure

    inches = columns * size[0], lines * size[1]
    return Figure(figsize=inches, layout="constrained")


def add_legend(figure: Figure) -> bool:
    """Add one legend of all axes below a figure, which grows by its height; say if it has any.

    A figure in which every line has the same label needs none.
    """
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) < 2:
        return False
    width, height = figure.get_size_inches()
    longest = max(len(line) for label in handles for line in label.split("\n"))
    across = max(1, min(len(handles), int(width * 11 / (longest + 6))))
    lines = -(-len(handles) // across) * max(label.count("\n") + 1 for label in handles)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=across)
    figure.set_size_inches(width, height + 0.19 * lines)
    return True


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as PNG, on white."""
    return _written(figure, "png", dpi=dpi)


def pdf(figure: Figure) -> bytes:
    """Return the figure as PDF, for a paper."""
    fonts = logging.getLogger("fontTools")  # it warns of dates in matplotlib's own fonts
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        return _written(figure, "pdf", metadata={"CreationDate": None})
    finally:
        fonts.setLevel(level)


def svg(figure: Figure) -> str:
    """Return the figure as SVG, transparent, and dark where its page is dark.

    Text is drawn as outlines, so that it looks the same everywhere.
    """
    return _adapted(_written(figure, "svg", **_PLAIN))


def panels(figure: Figure) -> list[str]:
    """Return each set of axes as an SVG like that of `svg`, all of one size, without a legend.

    The figure must have been laid out, by `png` or `pdf`.
    """
    from matplotlib.transforms import Bbox

    inches = figure.dpi_scale_trans.inverted()
    found: list[Any] = [axes.get_tightbbox() for axes in figure.axes]
    boxes = [box.transformed(inches).padded(0.04) for box in found]
    width, height = max(box.width for box in boxes), max(box.height for box in boxes)
    parts = [*figure.axes, *figure.legends]
    pictures = []
    for axes, box in zip(figure.axes, boxes, strict=True):
        for part in parts:
            part.set_visible(part is axes)
        room = Bbox.from_extents(box.x1 - width, box.y1 - height, box.x1, box.y1)
        pictures.append(_adapted(_written(figure, "svg", bbox_inches=room, **_PLAIN)))
    for part in parts:
        part.set_visible(True)
    return pictures


def swatch(look: Look) -> str:
    """Return the sample of a look that stands in a page's legend, as SVG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with style():
        figure = Figure(figsize=(0.42, 0.16))
        line = Line2D([0.0, 0.5, 1.0], [0.5] * 3, lw=1.8, ms=5.0, markevery=[1], **look.line())
        figure.add_artist(line)
        return svg(figure)


def in_steps(axis: Any) -> None:
    """Write an axis of environment steps as 20k, 1M."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter(sep=""))


def _written(figure: Figure, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    with style():  # fonts and identifiers are chosen when a figure is written
        figure.savefig(file, format=kind, **how)
        figure.set_layout_engine(None)  # it is laid out once, which takes as long as drawing
    return file.getvalue()


def _adapted(data: bytes) -> str:
    """Replace the colours of ink, grid and paper by variables that a dark page sets otherwise."""
    text = data.decode()
    names = {colour: f"--c{i}" for i, colour in enumerate(_IN_THE_DARK)}
    for colour, name in names.items():
        text = text.replace(f": {colour}", f": var({name})")
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{_IN_THE_DARK[colour]}" for colour, name in names.items())
    rules = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    text = text[text.index("<svg") :]
    return re.sub(r"(<svg[^>]*>)", rf"\1<style>{rules}</style>", text, count=1)
