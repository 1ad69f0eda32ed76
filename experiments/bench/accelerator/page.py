"""The measured part of docs/accelerators.md, made from the files of results."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from accelerator.plan import FEW, SECTIONS

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PATTERN = "accelerator*.json"

Row = dict[str, Any]


def write(page: Path, folder: Path) -> None:
    """Replace what stands between the page's markers by what the results in a folder give."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}: put them back")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{render(read(folder))}\n{END}{after}", encoding="utf-8")


def read(folder: Path) -> list[Row]:
    """The results of all runs, accelerators before CPUs."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(PATTERN))]
    return sorted(found, key=lambda run: _facts(run)["device"].get("platform") == "cpu")


def render(runs: list[Row]) -> str:
    """Every run, as Markdown."""
    measured = {_facts(run)["device"].get("platform", "cpu") for run in runs}
    parts = []
    if not measured - {"cpu"}:
        parts.append(
            "**No GPU and no TPU has been measured yet.** What follows is the same command on a "
            "CPU: it shows that every section works, and nothing of an accelerator's speed."
        )
    return "\n\n".join([*parts, *map(_run, runs)])


def _run(run: Row) -> str:
    """One run, under the name of its hardware."""
    parts = [f"### {_hardware(run)}", _about(run)]
    for name, section in run["sections"].items():
        parts.append(f"#### {SECTIONS[name].title}")
        rows = [row for row in section["rows"] if not {"versions", "device", "host"} & row.keys()]
        if rows:
            shown = _merged(rows) if name == "peers" else shortened(rows)
            parts.append(table(COLUMNS[name], shown))
        if section["status"] != "done":
            parts.append(f"This section is {section['status']}: {section.get('why', 'no word')}.")
    return "\n\n".join(parts)


def _hardware(run: Row) -> str:
    facts = _facts(run)
    kind, host = facts["device"].get("kind", "unknown device"), facts["host"]
    if kind == "cpu":
        return f"CPU: {host.get('cpu', 'unknown')}, {host.get('cores')} cores"
    num = facts["device"]["num_devices"]
    return kind if num == 1 else f"{num} x {kind}"


def _about(run: Row) -> str:
    facts = _facts(run)
    one, host, versions = facts["device"], facts["host"], facts["versions"]
    packages = ", ".join(f"{name} {v}" for name, v in versions.items() if v != "none")
    memory = f"{_bytes(one['memory_bytes'])} for arrays" if "memory_bytes" in one else "unknown"
    lines = [
        f"{run['date']}, commit `{run['commit']}`, {run.get('seconds', 'more than 0')} s of "
        f"{run['seconds_allowed']:.0f} allowed" + (", tiny sizes" if run["tiny"] else ""),
        f"device: {one.get('kind')}, {one.get('platform_version')}, {memory}"
        + "".join(f", {name} {one[name]}" for name in _DRIVER if name in one),
        f"host: {host.get('cpu')}, {host.get('cores')} cores, {host.get('system')}, load average "
        f"at the start {host.get('load')}",
        packages,
    ]
    return "\n".join(f"- {line}" for line in lines)


_DRIVER = ("driver_version", "memory.total", "power.limit", "clocks.max.sm")


def _facts(run: Row) -> dict[str, Row]:
    """Versions, device and host, empty where the run was cut before it had them."""
    found: dict[str, Row] = {"versions": {}, "device": {}, "host": {}}
    for row in run["sections"].get("device", {}).get("rows", []):
        found |= {name: row[name] for name in found if name in row}
    return found


def _merged(rows: list[Row]) -> list[Row]:
    """Each published figure with our row of the same work."""
    same = ("env", "agents", "timesteps")
    ours = {(row["ours"], *(row[x] for x in same)): row for row in rows if "ours" in row}
    merged = []
    for row in (row for row in rows if "published" in row):
        mine = ours.get((row["published"], *(row[x] for x in same)), {})
        others = {name: value for name, value in mine.items() if name != "seconds"}
        merged.append({**row, **others, "here_s": mine.get("seconds")})
    return merged


def shortened(rows: list[Row]) -> list[Row]:
    """Of rows after each other for which there was no time, the first, which counts the others."""
    shown: list[Row] = []
    folded = 0
    for row in rows:
        if "skipped" in row and shown and "skipped" in shown[-1]:
            folded += 1
            text = shown[-1]["skipped"].partition("; ")[0]
            shown[-1] = {**shown[-1], "skipped": f"{text}; nor for the next {folded}"}
        else:
            shown.append(row)
            folded = 0
    return shown


# --- cells ----------------------------------------------------------------------------------------


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name, ""))


def _whole(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:,.0f}" if row.get(name) is not None else ""


def _number(name: str, form: str = ".3g") -> Callable[[Row], str]:
    return lambda row: f"{row[name]:{form}}" if row.get(name) is not None else ""


def _yes(name: str) -> Callable[[Row], str]:
    return lambda row: ("yes" if row[name] else "**no**") if name in row else ""


def _size(name: str) -> Callable[[Row], str]:
    return lambda row: _bytes(row[name]) if name in row else ""


def _iteration(row: Row) -> str:
    return f"{median(row['iteration_s']):.3g}" if "iteration_s" in row else ""


def _build(row: Row) -> str:
    return f"{row['lower_s'] + row['compile_s']:.1f}" if "compile_s" in row else ""


def _ratio(above: str, below: str) -> Callable[[Row], str]:
    return lambda row: f"{row[above] / row[below]:.2f}" if above in row and below in row else ""


def _note(row: Row) -> str:
    """What a row says of why it has no numbers, or of how to read them."""
    return row.get("error") or row.get("skipped") or row.get("why") or row.get("note") or ""


def _bytes(size: int) -> str:
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
}


def table(columns: dict[str, Callable[[Row], str]], rows: Iterable[Row]) -> str:
    """A table without the columns that no row fills."""
    cells = {name: [cell(row).replace("|", "/") for row in rows] for name, cell in columns.items()}
    kept = {name: column for name, column in cells.items() if any(column)}
    lines = [list(kept), ["---"] * len(kept), *map(list, zip(*kept.values(), strict=True))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
