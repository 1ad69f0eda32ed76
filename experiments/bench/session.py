"""A session: all processes that measure this library beside one other, in the order they run."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import process
import store
import venvs
from libraries import HERE, LIBRARIES, MACHINE, ROOT
from rows import HYPER, ROWS

__all__ = ["measure", "plan", "programs", "setting"]

PROCESS_SECONDS = 20  # about what a process takes on two cores
Group = list[dict[str, Any]]
Sides = dict[str, dict[str, Any]]


def programs(name: str, checkout: str | None) -> Sides:
    """Return what runs each side: a command, a folder to import from, and versions beside pip's."""
    folder = venvs.checkout(checkout) if name == "purejaxrl" else None
    python = venvs.prepare(name)
    ours = python if LIBRARIES[name].with_ours else sys.executable
    sides = {"ours": {"command": [ours, HERE / "run_ours.py"], "path": ROOT / "src"}}
    if folder is not None:
        commit = {"purejaxrl": venvs.commit_of(folder)[:7] or "of an unknown commit"}
        sides[name] = {"path": folder / "purejaxrl", "versions": commit}
    if name == MACHINE:
        sides["resets"] = {"command": [ours, HERE / "resets.py"], "path": ROOT / "src"}
    else:
        sides.setdefault(name, {})["command"] = [python, HERE / f"run_{name}.py"]
    return sides


def setting(name: str, rows: list[str], rounds: int, executions: int) -> dict[str, Any]:
    """Return what a session measures; one with another setting begins anew."""
    source = ["git", "-C", str(ROOT), "rev-parse", "HEAD:src"]
    return {
        "library": name,
        "rounds": rounds,
        "executions": executions,
        "source": subprocess.run(source, capture_output=True, text=True).stdout.strip(),
        "hyper": HYPER,
        "rows": {row: ROWS[row] for row in rows},
    }


def measure(setting: dict[str, Any], sides: Sides, path: Path, limit: float) -> Group:
    """Run the processes of a session that are not there yet, and return the records of all."""
    name, rows = setting["library"], setting["rows"]
    groups = list(plan(name, list(rows), setting["rounds"]))
    found = store.begin(path, setting, groups)
    missing = [group for group in groups if not store.complete(found, group)]
    minutes = sum(map(len, missing)) * PROCESS_SECONDS / 60
    print(f"{LIBRARIES[name].title}: about {minutes:.0f} minutes", flush=True)
    for group in missing:
        if store.hung(found, group[0]["row"]):
            continue
        with tempfile.TemporaryDirectory() as cache:
            for labels in group:
                row, folder = rows.get(labels["row"]), None
                if labels["row"] == "start":
                    row, folder = next(iter(rows.values())), Path(cache, labels["side"])
                hyper = HYPER[row["agent"]] if row else None
                task = {"row": row, "hyper": hyper, "devices": labels["devices"]}
                task["executions"] = setting["executions"]
                record = run(sides[labels["side"]], task, labels, folder, limit)
                store.add(path, found, record)
    return found["runs"]


def plan(name: str, rows: list[str], rounds: int) -> Iterator[Group]:
    """Yield what belongs together: the programs of a row in turn, in every round."""
    for row in rows if name != MACHINE else ["products", "resets"]:
        for i in range(rounds):
            yield [
                {"row": row, "side": side, "devices": devices, "round": i}
                for side, devices in turns(name, row)
            ]
    if rows:
        yield [
            {"row": "start", "side": side, "devices": 1, "round": cache}
            for side in (name, "ours")
            for cache in ("empty", "filled")
        ]


def turns(name: str, row: str) -> list[tuple[str, int]]:
    """Return the sides and devices that take turns in a row."""
    if row == "resets":
        return [("resets", 1)]
    if row == "products":
        return [("ours", 2), ("ours", 1)]
    # Eight environments that are stepped once between gradient steps are not shared out.
    ours = [("ours", 1)] if ROWS[row]["agent"] == "sac" else [("ours", 2), ("ours", 1)]
    return [(name, 1), *ours]


def run(
    side: dict[str, Any],
    task: dict[str, Any],
    labels: dict[str, Any],
    cache: Path | None,
    limit: float,
) -> dict[str, Any]:
    """Run one process, and say in a line what it gave."""
    record = process.run(side["command"], task, side.get("path"), cache, limit)
    if "versions" in record:
        record["versions"] |= side.get("versions", {})
    said = {k: v for k, v in record.items() if k in ("error", "compile_s", "run_s")}
    print(f"{' '.join(str(value) for value in labels.values())}: {said}", flush=True)
    return {**labels, **record}
