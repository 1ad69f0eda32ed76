"""The zoo as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from jaxrl_pg.zoo.entries import Entry

__all__ = ["count", "fixed", "score", "table"]


def table(entries: Sequence[Entry]) -> str:
    """Return a table of entries, in at most 80 columns, a section for each suite."""
    sections = []
    for suite, some in groupby(entries, lambda entry: entry.suite):
        rows = [_row(entry) for entry in some]
        header = (suite, "agent", "steps", "IQM [95% interval]", "n", "")
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        sections.append("\n".join(_line(row, widths) for row in [header, *rows]))
    return "\n\n".join(sections)


def score(entry: Entry) -> str:
    """Write what was reached: the IQM and, of several seeds, its 95% interval."""
    value, *ends = [
        fixed(entry, number)
        for number in (entry.recorded["iqm"], *entry.recorded.get("interval", ()))
    ]
    return f"{value} [{', '.join(ends)}]" if ends else value


def fixed(entry: Entry, number: float) -> str:
    """Write a return with as many digits as suit the entry's returns."""
    recorded = entry.recorded
    known = [recorded[name] for name in ("iqm", "worst", "best")]
    largest = max(map(abs, known))
    return f"{number:,.{0 if largest >= 1000 else 1 if largest >= 10 else 2}f}"


def count(number: int) -> str:
    """Write a number of steps in few letters: `151k`, `1.0M`."""
    return f"{number / 1e6:.1f}M" if number >= 999_500 else f"{number / 1e3:.0f}k"


def _row(entry: Entry) -> tuple[str, ...]:
    recorded = entry.recorded
    return (
        entry.env,
        entry.agent,
        count(recorded["timesteps"]),
        score(entry),
        str(len(recorded["seeds"])),
        "*" if entry.pretrained is not None else "",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    env, agent, steps, reached, seeds, mark = row
    cells = [env.ljust(widths[0]), agent.ljust(widths[1]), steps.rjust(widths[2])]
    return " ".join([*cells, reached.rjust(widths[3]), seeds.rjust(widths[4]), mark]).rstrip()
