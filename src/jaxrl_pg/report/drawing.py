"""The figures of a report: curves, profiles, probabilities of improvement, sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.report.axes import (
    Styles,
    draw_chances,
    draw_curves,
    draw_profiles,
    draw_sensitivity,
)
from jaxrl_pg.report.summary import Results, Summary

__all__ = ["Figure", "figures"]

_MAX_SETTINGS = 8  # drawn in one set of axes
_MAX_AXES = 24
_COLUMNS = 3
_ALONE = 5.0, 3.6  # inches of axes that have a figure for themselves

# What the figures show, in the words that stand below them.
_CURVES = (
    "Interquartile mean over seeds of the evaluations' mean return; the band is its 95% "
    "stratified-bootstrap interval. A setting with one seed has none."
)
_CURVES_OF_ONE_SEED = "Mean return of the evaluations of one seed: another seed may do otherwise."
_PROFILES = (
    "The share of seeds whose final return lies above each level, with 95% bands: higher is better "
    "everywhere."
)
_IMPROVEMENT = (
    "How likely a seed of one setting returns more than a seed of another, ties counting half; 0.5 "
    "is no difference."
)
_SENSITIVITY = (
    "Final return by hyper-parameter. The line is the interquartile mean over all seeds of all "
    "settings with that value, with its 95% interval where these are several; dots are settings."
)

Draw = Callable[[Any], None]


class Figure(NamedTuple):
    """A drawn figure.

    Attributes:
        key: short name; that of its files without .png and .pdf.
        title: title, one line.
        note: what is drawn.
        png: the bytes of the PNG, all axes and the legend together.
        pdf: the same as PDF.
        panels: each set of axes as SVG, for a page, which lays them out as it is wide.
        legend: the label and the sample line, as SVG, of each line; empty if there is one only.
    """

    key: str
    title: str
    note: str
    png: bytes
    pdf: bytes
    panels: list[str]
    legend: list[tuple[str, str]]


def figures(results: Results) -> list[Figure]:
    """Draw every figure for which the results suffice.

    One seed has a curve and a return, and nothing else can be said of it: no interval, no profile,
    no probability that it improves on another.
    """
    styles, best_only = _styles(results), _best_only(results)
    note = (_CURVES if results.has_intervals else _CURVES_OF_ONE_SEED) + best_only
    curves = [partial(draw_curves, some, env, styles) for env, some in _drawn(results).items()]
    drawn = [_figure("curves", "Learning curves", note, curves, styles)]
    if results.has_intervals:
        profiles, note = _profile_axes(results, styles), _PROFILES + best_only
        drawn.append(_figure("profiles", "Performance profiles", note, profiles, styles))
    if chances := _improvement_axes(results):
        height = 0.55 if max(map(len, results.by_env.values())) == 2 else 1.0
        title, note = "Probability of improvement", _IMPROVEMENT + best_only
        drawn.append(_figure("improvement", title, note, chances, {}, height=height))
    if sensitive := _sensitivity_axes(results):
        agents = looks.assign({s.setting.agent: s.setting.agent for s in results.summaries})
        num_envs = len(results.by_env)
        columns = min(_COLUMNS, num_envs) if num_envs > 1 else _COLUMNS
        drawn.append(
            _figure("sensitivity", "Sensitivity", _SENSITIVITY, sensitive, agents, columns)
        )
    return drawn


def _figure(
    key: str,
    title: str,
    note: str,
    draws: Sequence[Draw],
    styles: Styles,
    columns: int = _COLUMNS,
    height: float = 1.0,
) -> Figure:
    """Lay out a set of axes for each drawing, and one legend for all of them."""
    if len(draws) > _MAX_AXES:
        note += f" Shown are the first {_MAX_AXES} of {len(draws)}."
        draws = draws[:_MAX_AXES]
    columns = min(columns, len(draws))
    lines = -(-len(draws) // columns)
    width, one_high = _ALONE if len(draws) == 1 else canvas.PANEL
    with canvas.style():
        figure = canvas.new(columns, lines, (width, one_high * height))
        for number, draw in enumerate(draws, start=1):
            draw(figure.add_subplot(lines, columns, number))
        shown = canvas.add_legend(figure)
        legend = [(label, canvas.swatch(look)) for label, look in styles.items()] if shown else []
    png, pdf = canvas.png(figure), canvas.pdf(figure)
    return Figure(key, title, note, png, pdf, canvas.panels(figure), legend)


def _drawn(results: Results) -> dict[str, list[Summary]]:
    """Return the best settings of each environment, without those that have no return at all."""
    return {
        env: [s for s in some if np.isfinite(s.setting.returns).any()][:_MAX_SETTINGS]
        for env, some in results.by_env.items()
    }


def _best_only(results: Results) -> str:
    """Say that not all settings are drawn, where that is so."""
    largest = max(len(summaries) for summaries in results.by_env.values())
    if largest <= _MAX_SETTINGS:
        return ""
    return f" Of up to {largest} settings the best {_MAX_SETTINGS} are drawn."


def _styles(results: Results) -> Styles:
    """Return the look of every label, the same in every figure."""
    methods = {s.label: _method(s) for some in _drawn(results).values() for s in some}
    return looks.assign(methods | {x.label: methods.get(x.label, x.label) for x in results.across})


def _method(summary: Summary) -> str:
    """Return whose look a setting has: that of a study such as `V-MPO`, or of its agent."""
    return summary.label if looks.known(summary.label) else summary.setting.agent


def _seeded(some: Sequence[Summary]) -> list[tuple[str, list[Any]]]:
    """Return label and scores of the settings with several seeds."""
    return [(s.label, [s.scores]) for s in some if len(s.scores) > 1]


def _across(results: Results) -> list[tuple[str, list[Any]]]:
    """Return label and scores of those settings that have several seeds in every environment."""
    return [
        (across.label, across.scores)
        for across in results.across[:_MAX_SETTINGS]
        if all(len(task) > 1 for task in across.scores)
    ]


def _profile_axes(results: Results, styles: Styles) -> list[Draw]:
    draws: list[Draw] = []
    for env, some in _drawn(results).items():
        lines = _seeded(some)
        if lines:
            draws.append(partial(draw_profiles, lines, env, "final return", styles))
    lines = _across(results)
    if lines:
        name = "all environments"
        draws.append(partial(draw_profiles, lines, name, "normalised final return", styles))
    return draws


def _improvement_axes(results: Results) -> list[Draw]:
    draws: list[Draw] = []
    for env, some in _drawn(results).items():
        if len(_seeded(some)) > 1:
            draws.append(partial(draw_chances, _seeded(some), env))
    lines = _across(results)
    if len(lines) > 1:
        draws.append(partial(draw_chances, lines, "all environments"))
    return draws


def _sensitivity_axes(results: Results) -> list[Draw]:
    draws: list[Draw] = []
    for name in results.varying:
        for env, summaries in results.by_env.items():
            scored = [s for s in summaries if len(s.scores)]
            if len({s.setting.hyper.get(name) for s in scored}) > 1:
                draws.append(partial(draw_sensitivity, scored, env, name))
    return draws
