"""The figure of the benchmarks page: how many times as fast, row by row, with intervals."""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from libraries import LIBRARIES, ROOT
from rows import ROWS, describe
from summary import Beside

sys.path.append(str(ROOT / "experiments"))
import pictures

from jaxrl_pg.figures import canvas, looks

__all__ = ["PATH", "draw", "drawn"]

PATH = ROOT / "docs" / "benchmarks.png"
COLOURS = {
    "rejax": looks.BLUE,
    "purejaxrl": looks.VERMILLION,
    "ajax": looks.GREEN,
    "sbx": looks.PURPLE,
}
MARKERS = {1: "o", 2: "s"}
HEIGHT = 0.2  # inches of a line
TICKS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24)


def draw(pairs: Sequence[Beside], path: Path = PATH) -> None:
    """Draw the ratios of every row beside every library, on one device and on two."""
    lines = drawn(pairs)
    if not lines:
        return
    figure, (axes,) = pictures.new_figure(1, 1, 6.4, 0.9 + HEIGHT * (len(lines) + len(ROWS)))
    ticks, y, before, seen = {}, 0.0, None, set()
    for pair, devices, ratios in lines:
        y += 0.0 if before is None else 1.0 + (pair.row != before)
        before = pair.row
        ticks.setdefault(pair.row, []).append(y)
        kind = f"{LIBRARIES[pair.library].title}, ours on {devices} device{'s' * (devices > 1)}"
        middle = median(ratios)
        sides = [[middle - min(ratios)], [max(ratios) - middle]]
        look = {"color": COLOURS[pair.library], "fmt": MARKERS[devices], "capsize": 2.5}
        look |= {"mfc": "white" if devices == 1 else COLOURS[pair.library]}
        label = None if kind in seen else kind
        axes.errorbar(middle, y, xerr=sides, label=label, lw=1.4, ms=5, **look)
        seen.add(kind)
    axes.set_yticks([sum(places) / len(places) for places in ticks.values()])
    axes.set_yticklabels([_named(row) for row in ticks])
    axes.axvline(1.0, color=looks.INK, lw=0.9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    every = [ratio for _, _, ratios in lines for ratio in ratios]
    axes.set_xlim(min(0.9, 0.95 * min(every)), 1.1 * max(every))
    places = [tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(places, [f"{tick:g}" for tick in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("times as fast as the other library (median, least, most)")
    axes.grid(False, axis="y")
    canvas.add_legend(figure)
    pictures.save(figure, path)


def drawn(pairs: Sequence[Beside]) -> list[tuple[Beside, int, list[float]]]:
    """Return the lines of the figure: the ratios of each pair on each number of devices."""
    every = [(pair, devices, pair.ratios(devices)) for pair in pairs for devices in (1, 2)]
    return [line for line in every if line[2]]


def _named(row: str) -> str:
    task, envs, members = describe(ROWS[row])
    many = "" if members == "1" else f", {members.split()[0]} members"
    return f"{task}\n{envs} environments{many}"
