"""The tables of docs/accelerators.md: for each section, what its columns say of a row."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from accelerator.plan import FEW

Row = dict[str, Any]


def table(columns: dict[str, Callable[[Row], str]], rows: Iterable[Row]) -> str:
    """A table without the columns that no row fills."""
    cells = {name: [cell(row).replace("|", "/") for row in rows] for name, cell in columns.items()}
    kept = {name: column for name, column in cells.items() if any(column)}
    lines = [list(kept), ["---"] * len(kept), *map(list, zip(*kept.values(), strict=True))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name, ""))


def _whole(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,.0f}" if row.get(name) is not None else ""


def _number(name: str, form: str = ".3g") -> Callable[[Row], str]:
    return lambda row: f"{row[name]:{form}}" if row.get(name) is not None else ""


def _yes(name: str) -> Callable[[Row], str]:
    return lambda row: ("yes" if row[name] else "**no**") if name in row else ""


def _size(name: str) -> Callable[[Row], str]:
    return lambda row: in_bytes(row[name]) if name in row else ""


def _iteration(row: Row) -> str:
    return f"{median(row['iteration_s']):.3g}" if "iteration_s" in row else ""


def _executed(row: Row) -> str:
    """Steps a second of all executions but the first, which warms up."""
    return f"{row['timesteps'] / median(row['run_s'][1:]):,.0f}" if "run_s" in row else ""


def _build(row: Row) -> str:
    return f"{row['lower_s'] + row['compile_s']:.1f}" if "compile_s" in row else ""


def _ratio(above: str, below: str) -> Callable[[Row], str]:
    return lambda row: f"{row[above] / row[below]:.2f}" if above in row and below in row else ""


def _note(row: Row) -> str:
    """What a row says of why it has no numbers, or of how to read them."""
    return row.get("error") or row.get("skipped") or row.get("why") or row.get("note") or ""


def in_bytes(size: int) -> str:
    """Write a size in its unit."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:,.1f} {unit}"
    return f"{size} bytes"


_SPEED = {
    "steps/s": _whole("steps_per_s"),
    "an iteration, s": _iteration,
    "the first one, s": _number("first_s"),
    "trace and compile, s": _build,
    "program": _size("program_bytes"),
    "": _note,
}
_WHAT = {"environment": _text("env"), "agents": _whole("agents"), "environments": _whole("envs")}
COLUMNS: dict[str, dict[str, Callable[[Row], str]]] = {
    "device": {
        "limit": _text("limit"),
        "size": _text("size"),
        "at best": lambda row: f"{row['value']:,g} {row['unit']}",
    },
    "smoke": {
        "agent": _text("agent"),
        "parameters": _number("params", ".1e"),
        "metric": _number("metric", ".1e"),
        "which metric": _text("worst_metric"),
        "learned": _yes("learned"),
        "": _note,
    },
    "ppo": {**_WHAT, **_SPEED},
    "sac": {**_WHAT, "rows": _whole("rows"), **_SPEED},
    "brax": {**_WHAT, **_SPEED},
    "throughput": {**_WHAT, **_SPEED},
    "compile": {
        "program": _text("program"),
        "trace and lower, s": _number("lower_s", ".1f"),
        "compile, s": _number("compile_s", ".1f"),
        "": _note,
    },
    "memory": {
        "agent": _text("agent"),
        "environment": _text("env"),
        "environments": _whole("envs"),
        "rows": _whole("rows"),
        "estimate": _size("estimate_bytes"),
        "compiler": _size("program_bytes"),
        "peak": _size("peak_bytes"),
        "estimate / compiler": _ratio("estimate_bytes", "program_bytes"),
        "estimate / peak": _ratio("estimate_bytes", "peak_bytes"),
        "": _note,
    },
    "checkpoint": {
        "program": _text("program"),
        "size": _size("bytes"),
        "equal on the CPU": _yes("to_cpu_equal"),
        "trains there": _yes("trains_on_cpu"),
        "equal when back": _yes("from_cpu_equal"),
        "trains on": _yes("trains_here"),
        "": _note,
    },
    "resume": {
        "program": _text("program"),
        "the same bits again": _yes("repeats"),
        "the same bits after a stop": _yes("resumes"),
        "": _note,
    },
    "precision": {
        "program": _text("program"),
        "precision": _text("precision"),
        "steps/s": _whole("steps_per_s"),
        "an iteration, s": _iteration,
        "parameters after 1 iteration": _number("after_1", ".1e"),
        f"after {FEW}": _number(f"after_{FEW}", ".1e"),
        "": _note,
    },
    "peers": {
        "library": _text("published"),
        "environment": _text("env"),
        "agents": _whole("agents"),
        "steps of each": _whole("timesteps"),
        "published, s": _number("seconds", ",g"),
        "on": _text("hardware"),
        "here, s": _number("here_s"),
        "steps/s": _whole("steps_per_s"),
        "source": _text("source"),
        "": _note,
    },
    "loops": {
        **_WHAT,
        "rollout": _text("rollout"),
        "steps/s": _executed,
        "trace and compile, s": _build,
        "": _note,
    },
    "beside": {
        **_WHAT,
        "library": _text("library"),
        "steps/s": _executed,
        "trace and compile, s": _build,
        "parameters": _whole("num_params"),
        "": _note,
    },
}
