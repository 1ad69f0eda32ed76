"""Draw one part of a report into one set of matplotlib's axes, which are made elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxrl_pg.report import statistics
from jaxrl_pg.report.escaping import one_line
from jaxrl_pg.report.summary import Summary, curve, improvement, interval

__all__ = [
    "PALETTE",
    "Styles",
    "draw_chances",
    "draw_curves",
    "draw_profiles",
    "draw_sensitivity",
    "wrapped",
]

Styles = dict[str, dict[str, Any]]

_WIDE = 30  # numbers that span more than this get a logarithmic axis

PALETTE = (
    "#c8501e",
    "#2f6db3",
    "#3a9a5b",
    "#8d5fb8",
    "#d99a1c",
    "#1fa3a8",
    "#c2477f",
    "#6b6b6b",
)


def draw_curves(summaries: Sequence[Summary], env: str, styles: Styles, axes: Any) -> None:
    """Draw the learning curve of each setting, with its band."""
    for summary in summaries:
        style, band, steps = styles[summary.label], curve(summary), summary.setting.timesteps
        marker = "o" if len(steps) <= 25 else ""
        axes.plot(steps, band.value, marker=marker, ms=3, lw=1.8, **style)
        if len(steps) == 1:
            axes.vlines(steps, band.low, band.high, color=style["color"], lw=1.2)
        else:
            axes.fill_between(steps, band.low, band.high, color=style["color"], alpha=0.16, lw=0)
    _finish(axes, env, "environment steps", "return")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(_short)


def draw_profiles(
    lines: Sequence[tuple[str, list[np.ndarray]]],
    title: str,
    xlabel: str,
    styles: Styles,
    axes: Any,
) -> None:
    """Draw the performance profile of each label's scores, with its band."""
    every_score = [task for _, scores in lines for task in scores] or [np.zeros(1)]
    low, high = np.min(np.concatenate(every_score)), np.max(np.concatenate(every_score))
    margin = 0.04 * (high - low) or 0.05 * max(1.0, abs(high))
    levels = np.linspace(low - margin, high + margin, 201)
    for label, scores in lines:
        style = styles[label]
        band = interval(scores, lambda some: statistics.profile(some, levels))
        axes.plot(levels, band.value, lw=1.8, drawstyle="steps-post", **style)
        axes.fill_between(
            levels, band.low, band.high, step="post", color=style["color"], alpha=0.14, lw=0
        )
    _finish(axes, title, xlabel, "share of seeds above")
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlim(levels[0], levels[-1])


def draw_chances(lines: Sequence[tuple[str, list[np.ndarray]]], title: str, axes: Any) -> None:
    """Draw pairs of up to three settings as intervals, more settings as a table of colours."""
    if len(lines) > 3:
        _draw_chance_table(lines, title, axes)
        return
    pairs = [(a, b) for i, a in enumerate(lines) for b in lines[i + 1 :]]
    for row, ((first, x), (second, y)) in enumerate(pairs):
        chance = improvement(x, y)
        axes.hlines(row, chance.low, chance.high, color=PALETTE[1], lw=9, alpha=0.3)
        axes.plot(chance.value, row, "o", color=PALETTE[1], ms=7, clip_on=False, zorder=3)
        words = f"{first} > {second}"
        axes.annotate(
            wrapped(words, 60), (0.01, row), (0, 9), textcoords="offset points", fontsize=9
        )
    axes.axvline(0.5, color="0.4", lw=1, ls=":")
    _finish(axes, title, "probability", "")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(pairs) - 0.4, -0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_chance_table(
    lines: Sequence[tuple[str, list[np.ndarray]]], title: str, axes: Any
) -> None:
    chances = np.array([[float(statistics.improvement(x, y)) for _, y in lines] for _, x in lines])
    axes.imshow(chances, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for (row, column), chance in np.ndenumerate(chances):
        if row != column:
            color = "white" if abs(chance - 0.5) > 0.3 else "black"
            axes.text(
                column, row, f"{chance:.2f}", ha="center", va="center", fontsize=8, color=color
            )
    names = [wrapped(label, 26) for label, _ in lines]
    axes.set_yticks(
        range(len(names)), [f"{name}  {i}" for i, name in enumerate(names, 1)], fontsize=8
    )
    axes.set_xticks(range(len(names)), [str(i) for i in range(1, len(names) + 1)], fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(one_line(title), loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel("probability that row > column", fontsize=9)


def draw_sensitivity(summaries: Sequence[Summary], env: str, name: str, axes: Any) -> None:
    """Draw final returns against one hyper-parameter, with a line for each agent.

    A line goes through the pooled seeds of each value; it is left out where nearly every value
    belongs to one setting and other hyper-parameters differ too, as in a random search.
    """
    agents = sorted({s.setting.agent for s in summaries})
    dash = "-" if all(_is_number(s.setting.hyper.get(name)) for s in summaries) else ""
    positions, ticks = _positions([s.setting.hyper.get(name) for s in summaries])
    for i, agent in enumerate(agents):
        its_own = [s for s in summaries if s.setting.agent == agent]
        values = [s.setting.hyper.get(name) for s in its_own]
        if len(set(values)) < 2:
            continue
        color = PALETTE[i % len(PALETTE)]
        at = [positions[value] for value in values]
        scores = [float(s.iqm.value) for s in its_own]
        axes.plot(at, scores, "o", color=color, ms=3.5, alpha=0.45, label=None, mew=0)
        every_value = sorted(set(values), key=lambda value: positions[value])
        others = [other for other in its_own[0].setting.hyper if other != name]
        others_vary = any(_varies(other, its_own) for other in others)
        if others_vary and len(every_value) > 0.6 * len(its_own):
            continue
        bands = [
            interval(
                [s.scores for s, x in zip(its_own, values, strict=True) if x == value],
                statistics.iqm,
            )
            for value in every_value
        ]
        style = {"color": color, "label": wrapped(agent), "linestyle": dash}
        _draw_line([positions[value] for value in every_value], bands, style, axes)
    _finish(axes, env, name, "final return")
    if ticks is None:
        _set_scale(sorted(positions.values()), axes)
    else:
        axes.set_xticks(list(positions.values()), [wrapped(x) for x in ticks], fontsize=9)
        axes.set_xlim(-0.5, len(ticks) - 0.5)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _set_scale(numbers: Sequence[float], axes: Any) -> None:
    """Make the axis logarithmic if the numbers span much, with ticks at them if they are few."""
    places = np.array(numbers)
    if places[0] > 0 and places[-1] > _WIDE * places[0]:
        axes.set_xscale("log")
        places = np.log(places)
    if len(places) <= 8 and np.diff(places).min() > 0.09 * (places[-1] - places[0]):
        axes.set_xticks(numbers, [f"{x:.3g}" for x in numbers], fontsize=9)
        axes.set_xticks([], minor=True)


def _varies(name: str, summaries: Sequence[Summary]) -> bool:
    return len({summary.setting.hyper[name] for summary in summaries}) > 1


def _draw_line(
    at: Sequence[float],
    bands: Sequence[statistics.Interval],
    style: dict[str, Any],
    axes: Any,
) -> None:
    values = np.array([float(band.value) for band in bands])
    reach = np.array([[band.value - band.low, band.high - band.value] for band in bands]).T
    reach = np.nan_to_num(np.maximum(reach, 0))
    axes.errorbar(at, values, reach, marker="o", ms=5, lw=1.8, elinewidth=1.4, capsize=3, **style)


def _positions(values: Sequence[Any]) -> tuple[dict[Any, float], list[str] | None]:
    """Return where each value goes on the axis, and names for ticks if values are no scale."""
    distinct = list(dict.fromkeys(values))
    numbers = [x for x in distinct if _is_number(x)]
    if len(numbers) == len(distinct):
        positive = [x for x in numbers if x > 0]
        wide = bool(positive) and max(positive) > _WIDE * min(positive)
        if not wide or len(positive) == len(numbers):
            return {x: float(x) for x in distinct}, None
    ordered = [*sorted(numbers), *sorted((x for x in distinct if x not in numbers), key=str)]
    names = [f"{x:.3g}" if isinstance(x, float) else str(x) for x in ordered]
    return {x: float(i) for i, x in enumerate(ordered)}, names


def _short(count: float, _: int) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def _finish(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(one_line(title), loc="left", fontsize=11, parse_math=False)
    axes.set_xlabel(one_line(xlabel), parse_math=False)
    axes.set_ylabel(ylabel)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def wrapped(label: str, width: int = 46) -> str:
    """Return a label for matplotlib: without mathematics, in lines of at most some width."""
    return "\n".join(textwrap.wrap(one_line(label), width)).replace("$", r"\$").lstrip("_") or "-"
