"""Where the figures of this folder are written, in the style of all the project's figures."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
import pictures
from pictures import MARKERS, new_figure

__all__ = ["FOLDER", "MARKERS", "new_figure", "save"]

FOLDER = Path(__file__).parents[2] / "docs" / "theory"


def save(figure, name):
    """Write `docs/theory/<name>.png`, with a marker for each colour of lines."""
    for axes in figure.axes:
        pictures.mark(axes)
    pictures.save(figure, FOLDER / f"{name}.png")
