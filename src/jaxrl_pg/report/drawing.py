"""The figures of a report, as PNG: curves, profiles, probabilities of improvement, sensitivity.

The only part of the report that knows matplotlib, which is imported when a figure is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from jaxrl_pg.report.axes import (
    PALETTE,
    Styles,
    draw_chances,
    draw_curves,
    draw_profiles,
    draw_sensitivity,
    wrapped,
)
from jaxrl_pg.report.summary import Results, Summary

__all__ = ["Figure", "figures"]

_MAX_SETTINGS = 8  # drawn in one set of axes
_MAX_AXES = 24
_COLUMNS = 3
_DPI = 150
_DASHES = ("-", "--", ":", "-.")

Draw = Callable[[Any], None]


class Figure(NamedTuple):
    """A drawn figure.

    Attributes:
        key: short name; that of the file without .png.
        title: title, one line.
        note: what is drawn.
        png: the file's bytes.
        width: width in CSS pixels.
    """

    key: str
    title: str
    note: str
    png: bytes
    width: int


def figures(results: Results) -> list[Figure]:
    """Draw every figure for which the results suffice."""
    styles = _styles(results)
    drawn = [
        _figure(
            "curves",
            "Learning curves",
            "Interquartile mean over seeds of the evaluations' mean return; the band is its 95% "
            f"stratified-bootstrap interval.{_best_only(results)}",
            [partial(draw_curves, some, env, styles) for env, some in _drawn(results).items()],
        )
    ]
    drawn.append(
        _figure(
            "profiles",
            "Performance profiles",
            "The share of seeds whose final return lies above each level, with 95% bands: higher "
            f"is better everywhere.{_best_only(results)}",
            _profile_axes(results, styles),
        )
    )
    chances = _improvement_axes(results)
    if chances:
        drawn.append(
            _figure(
                "improvement",
                "Probability of improvement",
                "How likely a seed of one setting returns more than a seed of another, ties "
                f"counting half; 0.5 is no difference.{_best_only(results)}",
                chances,
                height=0.55 if max(map(len, results.by_env.values())) == 2 else 1.0,
            )
        )
    sensitive = _sensitivity_axes(results)
    if sensitive:
        drawn.append(
            _figure(
                "sensitivity",
                "Sensitivity",
                "Final return by hyper-parameter. The line is the interquartile mean over all "
                "seeds of all settings with that value, with its 95% interval; dots are settings.",
                sensitive,
                columns=min(_COLUMNS, len(results.by_env)) if len(results.by_env) > 1 else _COLUMNS,
            )
        )
    return drawn


def _figure(
    key: str,
    title: str,
    note: str,
    draws: Sequence[Draw],
    columns: int = _COLUMNS,
    height: float = 1.0,
) -> Figure:
    """Lay out a set of axes for each drawing, and one legend for all of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    if len(draws) > _MAX_AXES:
        note += f" Shown are the first {_MAX_AXES} of {len(draws)}."
        draws = draws[:_MAX_AXES]
    columns = min(columns, len(draws))
    lines = -(-len(draws) // columns)
    size = {1: (7.2, 4.4), 2: (5.4, 3.9), 3: (4.2, 3.3)}[columns]
    inches = size[0] * columns, size[1] * lines * height
    figure = Canvas(dpi=_DPI, layout="constrained")
    legend: dict[str, Any] = {}
    for number, draw in enumerate(draws, start=1):
        axes = figure.add_subplot(lines, columns, number)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        legend.update((x, h) for x, h in zip(labels, handles, strict=True) if x not in legend)
    high = inches[1]
    if len(legend) > 1:
        longest = max(len(line) for label in legend for line in label.split("\n"))
        across = max(1, min(len(legend), int(inches[0] * 11 / (longest + 6))))
        high += 0.19 * -(-len(legend) // across) * max(x.count("\n") + 1 for x in legend)
        figure.legend(
            legend.values(),
            legend,
            loc="outside lower center",
            ncols=across,
            frameon=False,
            fontsize=9,
        )
    figure.set_size_inches(inches[0], high)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return Figure(key, title, note, file.getvalue(), round(96 * inches[0]))


def _drawn(results: Results) -> dict[str, list[Summary]]:
    """Return the best settings of each environment, without those that have no score."""
    scored = {env: [s for s in some if len(s.scores)] for env, some in results.by_env.items()}
    return {env: some[:_MAX_SETTINGS] for env, some in scored.items()}


def _best_only(results: Results) -> str:
    """Say that not all settings are drawn, where that is so."""
    largest = max(len(summaries) for summaries in results.by_env.values())
    if largest <= _MAX_SETTINGS:
        return ""
    return f" Of up to {largest} settings the best {_MAX_SETTINGS} are drawn."


def _styles(results: Results) -> Styles:
    """Return a colour and a dash for every label, the same in every figure."""
    labels = dict.fromkeys(s.label for some in _drawn(results).values() for s in some)
    labels |= dict.fromkeys(across.label for across in results.across)
    return {
        label: {
            "color": PALETTE[i % len(PALETTE)],
            "linestyle": _DASHES[i // len(PALETTE) % len(_DASHES)],
            "label": wrapped(label),
        }
        for i, label in enumerate(labels)
    }


def _profile_axes(results: Results, styles: Styles) -> list[Draw]:
    draws: list[Draw] = []
    for env, some in _drawn(results).items():
        lines = [(s.label, [s.scores]) for s in some]
        draws.append(partial(draw_profiles, lines, env, "final return", styles))
    if results.across:
        lines = [(across.label, across.scores) for across in results.across[:_MAX_SETTINGS]]
        name = "all environments"
        draws.append(partial(draw_profiles, lines, name, "normalised final return", styles))
    return draws


def _improvement_axes(results: Results) -> list[Draw]:
    draws: list[Draw] = []
    for env, some in _drawn(results).items():
        if len(some) > 1:
            draws.append(partial(draw_chances, [(s.label, [s.scores]) for s in some], env))
    if len(results.across) > 1:
        lines = [(across.label, across.scores) for across in results.across[:_MAX_SETTINGS]]
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
