"""The style and the folder that the figures of this folder share."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

FOLDER = Path(__file__).parents[2] / "docs" / "theory"
STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.dpi": 150,
}


def new_figure(columns, rows=1, width=4.2, height=3.2):
    """Return a figure and a flat list of its axes."""
    mpl.rcParams.update(STYLE)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows))
    return figure, list(axes.flat) if rows * columns > 1 else [axes]


def save(figure, name):
    """Write `docs/theory/<name>.png`."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png")
    plt.close(figure)
    print(f"wrote docs/theory/{name}.png")
