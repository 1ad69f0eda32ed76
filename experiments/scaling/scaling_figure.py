"""The figure of docs/scaling.md: what was measured, with its spread, and the model's line."""

from pathlib import Path
from statistics import median
from typing import Any

import pictures
import scaling_page
from matplotlib.axes import Axes

from jaxrl_pg.figures import canvas, looks

__all__ = ["draw"]

LOOKS = {
    "1 device": looks.Look(looks.INK, looks.SOLID, "o"),
    "2 devices": looks.Look(looks.ORANGE, looks.DASHED, "s"),
    "vmap, 1 device": looks.Look(looks.GREEN, looks.DOTTED, "^"),
}
PANELS = (
    ("envs", "environments", {"1 device": ("envs", 1), "2 devices": ("envs", 2)}),
    (
        "agents",
        "members of 64 environments",
        {"1 device": ("map", 1), "2 devices": ("map", 2), "vmap, 1 device": ("vmap", 1)},
    ),
    ("width", "units a layer", {"1 device": ("width", 1), "2 devices": ("width", 2)}),
    ("replay", "rows of SAC's replay", {"1 device": ("replay", 1)}),
)


def draw(results: dict[str, Any], path: Path) -> None:
    """Draw steps a second along every axis, memory, and how good the model is."""
    figure, places = pictures.new_figure(3, 2, 3.6, 3.1)
    for axes, (_, label, lines) in zip(places, PANELS, strict=False):
        for name, (axis, devices) in lines.items():
            _speeds(axes, results, name, scaling_page.names(results, axis, devices))
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="steps/s")
    _memory(places[4], results)
    _errors(places[5], results)
    canvas.add_legend(figure)
    pictures.save(figure, path)


def _speeds(axes: Axes, results: dict[str, Any], label: str, names: list[str]) -> None:
    """Draw medians with bars from the least to the most, and the model as a thin line."""
    look = LOOKS[label]
    sizes = [results["points"][name]["point"]["value"] for name in names]
    found = [scaling_page.speeds(results, name) for name in names]
    middle = [median(some) for some in found]
    bars = [
        [m - min(some) for m, some in zip(middle, found, strict=True)],
        [max(some) - m for m, some in zip(middle, found, strict=True)],
    ]
    drawn = {"color": look.colour, "marker": look.marker, "linestyle": "none", "markersize": 4}
    axes.errorbar(sizes, middle, bars, label=label, capsize=2, lw=1, **drawn)
    if results["points"][names[0]]["point"]["axis"] == "replay":
        return  # whose gradient steps are a loop that ends by its data, which the model counts once
    modelled = [scaling_page.predicted(results, name) for name in names]
    axes.plot(sizes, modelled, color=look.colour, linestyle=look.dash, lw=1, gid="plain")


def _memory(axes: Axes, results: dict[str, Any]) -> None:
    """Draw what PPO's process grew by beside what was planned and estimated."""
    names = scaling_page.names(results, "envs")
    points = [results["points"][name] for name in names]
    sizes = [one["point"]["value"] for one in points]
    grown = [[each["grown"] / 1e6 for each in one["rounds"]] for one in points]
    middle = [median(some) for some in grown]
    bars = [
        [m - min(some) for m, some in zip(middle, grown, strict=True)],
        [max(some) - m for m, some in zip(middle, grown, strict=True)],
    ]
    axes.errorbar(
        sizes, middle, bars, color=looks.INK, marker="o", lw=0, elinewidth=1, markersize=4
    )
    for key, colour, dash in (
        ("planned", looks.SKY, looks.DASHED),
        ("estimate", looks.GREEN, looks.DOTTED),
    ):
        values = [one["prepared"][key] / 1e6 for one in points]
        name = {"planned": "compiler's plan (memory)", "estimate": "estimate (memory)"}[key]
        axes.plot(sizes, values, color=colour, linestyle=dash, label=name, gid="plain")
    axes.set(xscale="log", yscale="log", xlabel="environments", ylabel="memory, MB")


def _errors(axes: Axes, results: dict[str, Any]) -> None:
    """Draw the model's speed over the measured one, all points."""
    for label, devices in (("1 device", 1), ("2 devices", 2)):
        names = [
            name
            for axis in ("envs", "vmap", "map", "width")
            for name in scaling_page.names(results, axis, devices)
        ]
        measured = [median(scaling_page.speeds(results, name)) for name in names]
        ratios = [
            scaling_page.predicted(results, n) / m for n, m in zip(names, measured, strict=True)
        ]
        look = LOOKS[label]
        axes.plot(
            measured, ratios, color=look.colour, marker=look.marker, linestyle="none", markersize=4
        )
    axes.axhline(1, color="0.5", lw=0.8)
    axes.set(xscale="log", yscale="log", xlabel="measured steps/s", ylabel="model / measured")
