"""The marked part of the benchmarks page: what was run, and the tables of its results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import page_tables
import store
from libraries import LIBRARIES, MACHINE, RESULTS, ROOT
from rows import ROWS, describe
from summary import besides, check_equal_work

__all__ = ["PAGE", "load", "render", "write"]

PAGE = ROOT / "docs" / "benchmarks.md"
Results = Mapping[str, dict[str, Any]]
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"


def load(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return what was measured beside each library."""
    found = {name: store.read(folder / f"{name}.jsonl") for name in LIBRARIES}
    return {name: results for name, results in found.items() if results}


def write(page: Path = PAGE) -> None:
    """Replace what stands between the page's markers, and draw the figure."""
    import figure

    results, text = load(), page.read_text()
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{page} lacks the lines {_BEGIN} and {_END}: put them back")
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n{render(results)}\n{_END}{after}")
    figure.draw(besides(results))


def render(results: Results) -> str:
    """Everything measured, as Markdown."""
    for one in results.values():
        check_equal_work(one["runs"])
    pairs = besides(results)
    parts = [_setting(results), "### Speed", page_tables.speed(pairs), _failures(results)]
    parts += ["### Before the first step, and after", page_tables.first_step(pairs)]
    parts += ["### With a persistent compilation cache", page_tables.start(results)]
    machine = results.get(MACHINE, {"runs": []})["runs"]
    if any(run["row"] == "products" for run in machine):
        parts += ["### What bounds it", page_tables.bound(pairs, machine)]
    if any(run["row"] == "resets" for run in machine):
        parts += ["### Environment steps", page_tables.resets(machine)]
    return "\n\n".join(part for part in parts if part)


def _setting(results: Results) -> str:
    lines = []
    for name, one in results.items():
        setting, title = one["setting"], LIBRARIES[name].title
        if "skipped" in setting:
            lines.append(f"**{title}** was skipped: {setting['skipped']}.")
        if "date" not in setting:
            continue
        versions = {run["side"]: run["versions"] for run in one["runs"] if "versions" in run}
        lines.append(
            f"**{title}**: {setting['date']}, commit `{setting['commit']}`; {setting['cpu']}, "
            f"{setting['cores']} cores, {setting['system']}, load average at the start "
            f"{setting['load']}; rounds: {setting['rounds']}, timed executions in each process: "
            f"{setting['executions'] - 1}; [raw results](../experiments/bench/results/{name}.jsonl)"
        )
        for side, packages in versions.items():
            said = ", ".join(f"{package} {version}" for package, version in packages.items())
            lines.append(f"    - {side}: {said}")
        jax = {packages["jax"] for packages in versions.values()}
        if len(jax) > 1:
            lines.append(f"    - not equal: the two sides have JAX {' and '.join(sorted(jax))}")
    missing = [library.title for name, library in LIBRARIES.items() if name not in results]
    if missing:
        lines.append(f"not measured yet: {', '.join(missing)}")
    return "\n".join(line if line.startswith(" ") else f"- {line}" for line in lines)


def _failures(results: Results) -> str:
    lines = []
    for name, one in results.items():
        for run in one["runs"]:
            if "error" in run:
                side = LIBRARIES[name].title if run["side"] == name else run["side"]
                task = describe(ROWS[run["row"]]) if run["row"] in ROWS else [run["row"], "-", "-"]
                lines.append(
                    f"- {side}, {task[0]}; environments: {task[1]}, members: {task[2]}, "
                    f"devices: {run['devices']}: {run['error']}"
                )
    return "\n".join(dict.fromkeys(lines))
