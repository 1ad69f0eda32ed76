"""A report as one HTML page that needs nothing else: figures inside, no network.

Click a column's name to sort by it; the address then ends in `#sort=<table>.<column>` (with a `-`
in front of the column for descending), which sorts the page in the same way when it is opened.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from jaxrl_pg.report.drawing import Figure
from jaxrl_pg.report.escaping import in_html
from jaxrl_pg.report.sources import Source, as_toml
from jaxrl_pg.report.style import SCRIPT, STYLE
from jaxrl_pg.report.summary import Results
from jaxrl_pg.report.tables import Sheet

__all__ = ["page"]

_MAX_CARDS = 12
# Scripts and styles of the page itself, embedded images, and nothing from anywhere else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(
    title: str,
    results: Results,
    some_figures: Sequence[Figure],
    some_sheets: Sequence[Sheet],
    command: str,
) -> str:
    """Write the whole page.

    Args:
        title: title of the report.
        results: what the report is about.
        some_figures: the figures, in the order in which they are shown.
        some_sheets: the tables, that of the settings first; they stand before the figures, but
            the table of pairs beside the figure that shows the same.
        command: the command that writes this report again.
    """
    first = some_sheets[0]
    blocks = [(x.key, x.title, _sheet(x)) for x in some_sheets if x.key != "pairs"]
    pairs = [x for x in some_sheets if x.key == "pairs"]
    for figure in some_figures:
        beside = "".join(map(_sheet, pairs)) if figure.key == "improvement" else ""
        blocks.append((figure.key, figure.title, _figure(figure) + beside))
    blocks.append(("method", "How it was computed", _method(results)))
    blocks.append(("sources", "How it was made", _sources(results, command)))
    links = "".join(f'<a href="#{key}">{in_html(name)}</a>' for key, name, _ in blocks)
    body = "".join(
        f'<section id="{key}"><h2>{in_html(name)}</h2>{inside}</section>'
        for key, name, inside in blocks
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{in_html(title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head>\n<body><header><h1>{in_html(title)}</h1>"
        f'<p class="soft">{in_html(_in_short(results))}</p>{_best(results, first)}'
        f"<nav>{links}</nav></header>\n<main>{body}</main>\n<script>{SCRIPT}</script></body></html>\n"
    )


def _in_short(results: Results) -> str:
    summaries = results.summaries
    num_seeds = sum(len(s.setting.seeds) for s in summaries)
    seconds = [source.facts.get("seconds") for source in results.sources]
    known = [x for x in seconds if isinstance(x, int | float)]
    parts = [
        _count(len(results.by_env), "environment"),
        _count(len(summaries), "setting"),
        _count(num_seeds, "trained agent"),
    ]
    num_diverged = sum(int(s.setting.diverged.sum()) for s in summaries)
    parts += [f"{num_diverged:,} diverged"] if num_diverged else []
    return " \N{MIDDLE DOT} ".join(parts + ([_duration(sum(known))] if known else []))


def _best(results: Results, sheet: Sheet) -> str:
    """Write a card for each environment: its best setting, which is first in the sheet."""
    at = sheet.header.index("IQM" if results.has_intervals else "return")
    cards = []
    for env, summaries in list(results.by_env.items())[:_MAX_CARDS]:
        row = next(row for row in sheet.rows if row[0].text == env)
        known = results.has_intervals and len(summaries[0].scores) > 1
        reach = row[sheet.header.index("95% interval")].text if known else "one seed, no interval"
        reach = reach if len(summaries[0].scores) else "no seed was trained to the end"
        cards.append(
            f"<div><small>{in_html(env)}</small><b>{in_html(row[at].text)}</b>"
            f"<small>{in_html(reach)}</small><small>{in_html(summaries[0].label)}</small></div>"
        )
    return f'<div class="best">{"".join(cards)}</div>'


def _figure(figure: Figure) -> str:
    lines = "".join(f"<li>{_image(svg)}{in_html(label)}</li>" for label, svg in figure.legend)
    legend = f'<ul class="legend">{lines}</ul>' if lines else ""
    panels = "".join(_image(svg, figure.title) for svg in figure.panels)
    alone = " alone" if len(figure.panels) == 1 else ""
    return (
        f'<p class="soft">{in_html(figure.note)}</p>'
        f'<figure class="panels{alone}">{panels}</figure>{legend}'
    )


def _image(svg: str, words: str = "") -> str:
    data = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{in_html(words)}" src="data:image/svg+xml;base64,{data}">'


def _sheet(sheet: Sheet) -> str:
    numbers = [
        any(row[i].value is not None for row in sheet.rows) for i in range(len(sheet.header))
    ]
    kinds = [' class="number"' if number else "" for number in numbers]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{in_html(name)}</button></th>'
        for name, kind in zip(sheet.header, kinds, strict=True)
    )
    lines = []
    for row in sheet.rows:
        cells = []
        for cell, kind in zip(row, kinds, strict=True):
            value = "" if cell.value is None else f' data-value="{_javascript(cell.value)}"'
            text = f"<b>{in_html(cell.text)}</b>" if cell.best else in_html(cell.text)
            cells.append(f"<td{kind}{value}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<p class="soft">{in_html(sheet.note)}</p>'
        f'<div class="scroll"><table id="table-{sheet.key}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _method(results: Results) -> str:
    words = (
        "The score of a seed is the mean return of its last evaluation. The interquartile mean "
        "drops a quarter of the scores at each end, in whole scores (as scipy's trim_mean and "
        "rliable do). Intervals and bands are 95% percentile intervals of a stratified bootstrap "
        f"with {results.num_resamples:,} resamples: seeds are drawn with replacement within each "
        "environment, and within each setting where several are pooled (Agarwal et al. 2021, "
        "arXiv 2108.13264). With fewer than about five seeds such an interval is too narrow; "
        "with one there is none. The best of many settings was chosen by the very seeds that "
        "score it, so new seeds will find it somewhat worse."
    )
    lost = (
        "A seed that diverged counts, from there on, as the lowest return that any seed of its "
        "environment showed. A seed that was not trained to the end has no score."
    )
    unlucky = any(s.setting.diverged.any() or s.num_unfinished for s in results.summaries)
    return f"<p>{in_html(words)}</p>" + (f"<p>{in_html(lost)}</p>" if unlucky else "")


def _sources(results: Results, command: str) -> str:
    parts = [f"<p>This report: <code>{in_html(command)}</code></p>"]
    for source in results.sources:
        facts = {"command": source.command, "folder": source.path}
        facts |= {"seeds": _ranges(source.seeds), **_facts(source)}
        listed = "".join(f"<dt>{in_html(k)}</dt><dd>{in_html(v)}</dd>" for k, v in facts.items())
        what = source.facts.get("experiment" if source.is_sweep else "config", {})
        shown = "\n".join(map(in_html, as_toml(what).split("\n")))
        parts.append(
            f"<h3>{in_html(source.name)}</h3><dl>{listed}</dl>"
            + (f"<pre><code>{shown}</code></pre>" if shown else "")
        )
    return "".join(parts)


def _facts(source: Source) -> dict[str, str]:
    facts, shown = source.facts, {}
    if "device" in facts:
        shown["device"] = str(facts["device"])
    if isinstance(facts.get("seconds"), int | float):
        shown["time"] = _duration(facts["seconds"])
    if isinstance(facts.get("versions"), dict):
        shown["versions"] = ", ".join(f"{name} {x}" for name, x in facts["versions"].items())
    return shown


def _ranges(seeds: Sequence[int]) -> str:
    """Write ascending seeds as ranges: 0, 1, 2, 5 as "0-2, 5"."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _javascript(number: float) -> str:
    return repr(number) if math.isfinite(number) else ("-" if number < 0 else "") + "Infinity"
