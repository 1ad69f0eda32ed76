"""Medians and ratios of the raw results: what the page's tables and its figure are made of."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from libraries import LIBRARIES, MACHINE
from rows import ROWS

__all__ = ["Beside", "besides", "check_equal_work", "median_of", "select", "speeds", "spread"]

Runs = Sequence[dict[str, Any]]
WORK = ("timesteps", "num_params", "obs_size", "num_actions")


class Beside(NamedTuple):
    """This library beside another one in a row.

    Attributes:
        row: the row's name.
        library: the other library's.
        theirs: its records without errors.
        ours: ours by the number of devices.
    """

    row: str
    library: str
    theirs: Runs
    ours: dict[int, Runs]

    def ratios(self, devices: int) -> list[float]:
        """Return how many times as fast ours was, in each round that has both."""
        theirs = {run["round"]: median(speeds([run])) for run in self.theirs}
        return [
            median(speeds([run])) / theirs[run["round"]]
            for run in self.ours[devices]
            if run["round"] in theirs
        ]


def besides(results: Mapping[str, dict[str, Any]]) -> list[Beside]:
    """Return all pairs that were measured, row by row."""
    found = []
    for row in ROWS:
        for name in LIBRARIES:
            if name in results and name != MACHINE:
                runs = results[name]["runs"]
                ours = {devices: select(runs, row, "ours", devices) for devices in (1, 2)}
                pair = Beside(row, name, select(runs, row, name, 1), ours)
                if pair.theirs or ours[1]:
                    found.append(pair)
    return found


def check_equal_work(runs: Runs) -> None:
    """Refuse programs of a row that stepped or trained networks of different sizes."""
    for row in {run["row"] for run in runs if "error" not in run}:
        for fact in WORK:
            seen = {run[fact] for run in runs if run["row"] == row and fact in run}
            if len(seen) > 1:
                raise ValueError(f"{row}: unequal work, {fact} is {seen}: make it the same")


def select(runs: Runs, row: str, side: str, devices: int) -> Runs:
    """Return the records of a program in a row that have no error."""
    wanted = (row, side, devices)
    labels = ("row", "side", "devices")
    return [r for r in runs if tuple(r[x] for x in labels) == wanted and "error" not in r]


def speeds(runs: Runs) -> list[float]:
    """Return the environment steps per second of every execution but each process's first."""
    return [run["timesteps"] / seconds for run in runs for seconds in run["run_s"][1:]]


def spread(values: Sequence[float], form: str) -> str:
    """`median (least to most)`, or the value alone where there is one."""
    if len(values) < 2:
        return median_of(values, form)
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def median_of(values: Sequence[float], form: str) -> str:
    """Return the median as a cell of a table."""
    return f"{median(values):{form}}" if values else "-"
