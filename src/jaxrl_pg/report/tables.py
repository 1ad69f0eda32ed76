"""The tables of a report: made of cells, and written as Markdown and as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg.report.escaping import in_latex, in_markdown, one_line
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.report.summary import Across, Results, Summary, improvement, shown

__all__ = ["Cell", "Sheet", "decimals", "estimate", "fixed", "latex", "markdown", "sheets"]

_MAX_PAIRS = 8  # settings that are compared with the best of their environment
# The columns that say what settings reach, and what stands below them.
_OF_SEEDS = (
    ["IQM", "95% interval", "mean", "std", "worst", "best", "seeds"],
    "Mean return of each seed's last evaluation: interquartile mean (IQM) with its 95% "
    "stratified-bootstrap interval, mean, standard deviation, worst and best seed. The best of an "
    "environment is bold where all settings took equally many steps, and it has two seeds.",
)
_OF_ONE_SEED = (
    ["return"],
    "Mean return of the last evaluation of one seed: another seed may do otherwise.",
)


class Cell(NamedTuple):
    """One cell.

    Attributes:
        text: what is shown.
        value: a number to sort by; None to sort by the text.
        best: whether to set it in bold.
    """

    text: str
    value: float | None = None
    best: bool = False


class Sheet(NamedTuple):
    """One table.

    Attributes:
        key: short name, for links.
        title: title, one line.
        note: what its numbers are.
        header: names of the columns.
        rows: rows of cells, one for each column.
    """

    key: str
    title: str
    note: str
    header: list[str]
    rows: list[list[Cell]]


def sheets(results: Results) -> list[Sheet]:
    """Make every table: settings, all environments together, best against the rest."""
    result = [_settings_sheet(results)]
    if results.across and results.has_intervals:
        result.append(_across_sheet(results.across))
    pairs = _pairs_sheet(results)
    return [*result, pairs] if pairs.rows else result


def markdown(some: Sequence[Sheet], title: str) -> str:
    """Write tables as Markdown; a bold number is the best of its environment."""
    parts = [f"# {in_markdown(title)}\n"]
    for sheet in some:
        numeric = _numeric(sheet)
        rule = ["---:" if right else "---" for right in numeric]
        rows = [[_markdown_cell(cell) for cell in row] for row in sheet.rows]
        lines = [[in_markdown(name) for name in sheet.header], rule, *rows]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"## {in_markdown(sheet.title)}\n\n{in_markdown(sheet.note)}\n\n{body}\n")
    return "\n".join(parts)


def latex(some: Sequence[Sheet], title: str) -> str:
    """Write tables as LaTeX tabulars that need no package."""
    parts = [f"% {one_line(title)}"]
    for sheet in some:
        columns = "".join("r" if right else "l" for right in _numeric(sheet))
        rows = [" & ".join(_latex_cell(cell) for cell in row) for row in sheet.rows]
        header = " & ".join(in_latex(name) for name in sheet.header)
        lines = [rf"\hline {header} \\ \hline", *(rf"{row} \\" for row in rows)]
        body = "\n".join(lines)
        note = f"% {one_line(sheet.title)}: {one_line(sheet.note)}"
        parts.append(f"{note}\n\\begin{{tabular}}{{{columns}}}\n{body} \\hline\n\\end{{tabular}}")
    return "\n\n".join(parts) + "\n"


def _settings_sheet(results: Results) -> Sheet:
    summaries = results.summaries
    names = {source.path: source.name for source in results.sources}
    optional = {
        "setting": [s.label if s.label.startswith("#") else "" for s in summaries],
        "study": [s.setting.study for s in summaries],
        "folder": [names.get(s.setting.source, "several") for s in summaries],
    }
    optional = {name: values for name, values in optional.items() if len(set(values)) > 1}
    counts = {
        "diverged": [int(s.setting.diverged.sum()) for s in summaries],
        "unfinished": [s.num_unfinished for s in summaries],
    }
    counts = {name: values for name, values in counts.items() if any(values)}
    as_text = {x: shown([s.setting.hyper.get(x) for s in summaries]) for x in results.varying}
    columns, note = _OF_SEEDS if results.has_intervals else _OF_ONE_SEED
    rows: list[list[Cell]] = []
    for env, summaries_here in results.by_env.items():
        digits = decimals([s.scores for s in summaries_here])
        for rank, summary in enumerate(summaries_here):
            i = len(rows)
            setting = summary.setting
            rows.append(
                [
                    Cell(env),
                    *(Cell(values[i]) for values in optional.values()),
                    Cell(setting.agent),
                    *(_hyper_cell(setting.hyper.get(x), as_text[x][i]) for x in results.varying),
                    *(
                        _score_cells(summary, digits, rank == 0 and _is_best(summaries_here))
                        if results.has_intervals
                        else [_number_cell(summary.iqm.value, digits)]
                    ),
                    *(Cell(str(values[i]), values[i]) for values in counts.values()),
                    Cell(f"{setting.timesteps[-1]:,}", float(setting.timesteps[-1])),
                ]
            )
    return Sheet(
        "settings",
        "Final returns",
        note,
        ["environment", *optional, "agent", *results.varying, *columns, *counts, "steps"],
        rows,
    )


def _is_best(summaries: Sequence[Summary]) -> bool:
    """Whether the first of some settings can be called the best of them."""
    steps = {int(summary.setting.timesteps[-1]) for summary in summaries}
    return len(summaries) > 1 and len(steps) == 1 and len(summaries[0].scores) > 1


def _score_cells(summary: Summary, digits: int, best: bool) -> list[Cell]:
    scores = summary.scores
    if not len(scores):
        return [*[Cell("-", -math.inf)] * 6, Cell("0", 0)]
    numbers = [scores.mean(), scores.std(ddof=1) if len(scores) > 1 else np.nan]
    numbers += [scores.min(), scores.max()]
    return [
        _number_cell(summary.iqm.value, digits, best),
        _interval_cell(summary.iqm, digits),
        *(_number_cell(number, digits) for number in numbers),
        Cell(str(len(scores)), len(scores)),
    ]


def _across_sheet(across: Sequence[Across]) -> Sheet:
    rows = []
    for rank, one in enumerate(across):
        cells = [Cell(one.label)]
        for interval in (one.iqm, one.median, one.mean, one.optimality_gap):
            best = rank == 0 and interval is one.iqm and len(across) > 1
            cells += [_number_cell(interval.value, 3, best), _interval_cell(interval, 3)]
        rows.append(cells)
    names = ["IQM", "median", "mean", "optimality gap"]
    header = [text for name in names for text in (name, "95% interval")]
    return Sheet(
        "across",
        "All environments together",
        "Normalised returns: 0 is the lowest final return of any seed in the environment, 1 the "
        "best setting's IQM there (the highest return where that IQM is the lowest, too). The "
        "optimality gap is 1 - mean(min(x, 1)): less is better.",
        ["setting", *header],
        rows,
    )


def _pairs_sheet(results: Results) -> Sheet:
    rows = []
    for env, summaries in results.by_env.items():
        scored = [s for s in summaries if len(s.scores) > 1]
        for other in scored[1 : 1 + _MAX_PAIRS]:
            best = scored[0]
            chance = improvement([best.scores], [other.scores])
            names = Cell(env), Cell(best.label), Cell(other.label)
            rows.append([*names, _number_cell(chance.value, 2), _interval_cell(chance, 2)])
    return Sheet(
        "pairs",
        "Probability of improvement",
        "How likely a seed of the best setting returns more than one of another setting, ties "
        "counting half. An interval that holds 0.5 leaves open which is better.",
        ["environment", "best setting", "other setting", "probability", "95% interval"],
        rows,
    )


def _hyper_cell(value: Any, text: str) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell("-" if value is None else text)
    return Cell(text, float(value))


def _number_cell(value: Any, digits: int, best: bool = False) -> Cell:
    number = float(value)
    if not math.isfinite(number):
        return Cell("-", -math.inf)
    return Cell(fixed(number, digits), number, best)


def _interval_cell(interval: Interval, digits: int) -> Cell:
    low, high = float(interval.low), float(interval.high)
    if not math.isfinite(low):
        return Cell("-", -math.inf)
    return Cell(f"[{fixed(low, digits)}, {fixed(high, digits)}]", low)


def estimate(interval: Interval, digits: int) -> str:
    """Write an estimate with its interval, such as `10.5 [9.2, 11.8]`."""
    return f"{fixed(float(interval.value), digits)} {_interval_cell(interval, digits).text}"


def fixed(number: float, digits: int) -> str:
    """Write a number with some digits after the point, and commas between thousands."""
    text = f"{number:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text  # no -0.0


def decimals(scores: Sequence[np.ndarray]) -> int:
    """Return how many digits after the point suit the largest of some scores."""
    known = np.abs(np.concatenate(scores))
    largest = known.max(initial=0.0)
    return next((digits for size, digits in ((1000, 0), (10, 1), (1, 2)) if largest >= size), 3)


def _numeric(sheet: Sheet) -> list[bool]:
    """Say which columns to align right: those with numbers."""
    return [
        bool(sheet.rows) and any(row[i].value is not None for row in sheet.rows)
        for i in range(len(sheet.header))
    ]


def _markdown_cell(cell: Cell) -> str:
    text = in_markdown(cell.text)
    return f"**{text}**" if cell.best else text


def _latex_cell(cell: Cell) -> str:
    if cell.value is None or cell.text == "-":
        text = in_latex(cell.text)
        return rf"\textbf{{{text}}}" if cell.best else text
    text = cell.text.replace(",", "{,}") if not cell.text.startswith("[") else cell.text
    return rf"$\mathbf{{{text}}}$" if cell.best else f"${text}$"
