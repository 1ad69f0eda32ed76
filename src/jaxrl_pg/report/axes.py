"""Draw one part of a report into one set of matplotlib's axes, which are made elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.figures.looks import Look
from jaxrl_pg.report import statistics
from jaxrl_pg.report.escaping import one_line
from jaxrl_pg.report.summary import Summary, curve, improvement, interval

__all__ = [
    "Styles",
    "draw_chances",
    "draw_curves",
    "draw_profiles",
    "draw_sensitivity",
    "wrapped",
]

Styles = Mapping[str, Look]  # by label

_WIDE = 30  # numbers that span more than this get a logarithmic axis


def draw_curves(summaries: Sequence[Summary], env: str, styles: Styles, axes: Any) -> None:
    """Draw the learning curve of each setting, with its band where it has several seeds."""
    for summary in summaries:
        look, band, steps = styles[summary.label], curve(summary), summary.setting.timesteps
        every = max(1, len(steps) // 8)
        axes.plot(steps, band.value, markevery=every, label=wrapped(summary.label), **look.line())
        if len(steps) == 1:
            axes.vlines(steps, band.low, band.high, color=look.colour, lw=1.2)
        else:
            axes.fill_between(steps, band.low, band.high, color=look.colour, alpha=0.2, lw=0)
    _finish(axes, env, "environment steps", "return")
    axes.set_xlim(left=0)
    canvas.in_steps(axes.xaxis)


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
        look = styles[label]
        band = interval(scores, lambda some: statistics.profile(some, levels))
        axes.plot(
            levels,
            band.value,
            markevery=len(levels) // 8,
            drawstyle="steps-post",
            label=wrapped(label),
            **look.line(),
        )
        axes.fill_between(
            levels, band.low, band.high, step="post", color=look.colour, alpha=0.2, lw=0
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
        axes.hlines(row, chance.low, chance.high, color=looks.BLUE, lw=9, alpha=0.35)
        axes.plot(chance.value, row, "o", color=looks.BLUE, ms=7, clip_on=False, zorder=3)
        words = f"{first} > {second}"
        axes.annotate(wrapped(words), (0.01, row), (0, 9), textcoords="offset points", fontsize=9)
    axes.axvline(0.5, color=looks.INK, lw=1, ls=":")
    _finish(axes, title, "probability", "")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(pairs) - 0.4, -0.9)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_chance_table(
    lines: Sequence[tuple[str, list[np.ndarray]]], title: str, axes: Any
) -> None:
    chances = np.array([[float(statistics.improvement(x, y)) for _, y in lines] for _, x in lines])
    axes.pcolormesh(chances, cmap="RdBu", vmin=0, vmax=1)
    axes.invert_yaxis()
    for (row, column), chance in np.ndenumerate(chances):
        if row != column:
            color = "white" if abs(chance - 0.5) > 0.3 else "black"
            place = {"ha": "center", "va": "center", "fontsize": 9, "color": color}
            axes.text(column + 0.5, row + 0.5, f"{chance:.2f}", **place)
    names = [wrapped(label, 24) for label, _ in lines]
    places = np.arange(len(names)) + 0.5
    axes.set_yticks(places, [f"{name}  {i}" for i, name in enumerate(names, 1)], fontsize=9)
    axes.set_xticks(places, [str(i) for i in range(1, len(names) + 1)], fontsize=9)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title(one_line(title), parse_math=False)
    axes.set_xlabel("probability that row > column")


def draw_sensitivity(summaries: Sequence[Summary], env: str, name: str, axes: Any) -> None:
    """Draw final returns against one hyper-parameter, with a line for each agent.

    A line goes through the pooled seeds of each value; it is left out where nearly every value
    belongs to one setting and other hyper-parameters differ too, as in a random search.
    """
    agents = sorted({s.setting.agent for s in summaries})
    scale = all(_is_number(s.setting.hyper.get(name)) for s in summaries)
    positions, ticks = _positions([s.setting.hyper.get(name) for s in summaries])
    styles = looks.assign({agent: agent for agent in agents})
    for agent in agents:
        its_own = [s for s in summaries if s.setting.agent == agent]
        values = [s.setting.hyper.get(name) for s in its_own]
        if len(set(values)) < 2:
            continue
        look = styles[agent]
        at = [positions[value] for value in values]
        scores = [float(s.iqm.value) for s in its_own]
        dots = {"color": look.colour, "ms": 3.5, "alpha": 0.45, "mew": 0}
        axes.plot(at, scores, look.marker, **dots)
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
        style = {**look.line(), "label": wrapped(agent)} | ({} if scale else {"linestyle": ""})
        _draw_line([positions[value] for value in every_value], bands, style, axes)
    _finish(axes, env, name, "final return")
    if ticks is None:
        _set_scale(sorted(positions.values()), axes)
    else:
        axes.set_xticks(list(positions.values()), [wrapped(x) for x in ticks])
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
        axes.set_xticks(numbers, [f"{x:.3g}" for x in numbers])
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
    axes.errorbar(at, values, np.maximum(reach, 0), elinewidth=1.4, capsize=3, **style)


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


def _finish(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    axes.set_title(one_line(title), parse_math=False)
    axes.set_xlabel(one_line(xlabel), parse_math=False)
    axes.set_ylabel(ylabel)


def wrapped(label: str, width: int = 46) -> str:
    """Return a label for matplotlib: without mathematics, in lines of at most some width."""
    return "\n".join(textwrap.wrap(one_line(label), width)).replace("$", r"\$").lstrip("_") or "-"
