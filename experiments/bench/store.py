"""The raw results of a library: a file with a line for its setting, and one for every process.

A line is added when its process ends. A measurement that was interrupted goes on at the round that
it was in: what a round has, that is not complete, is measured again.
"""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from libraries import ROOT

__all__ = ["Results", "add", "begin", "complete", "hung", "read", "skip", "write"]

Results = dict[str, Any]
LABELS = ("row", "side", "devices", "round")


def begin(path: Path, setting: Results, groups: list[list[Results]]) -> Results:
    """Start a file, or go on with one of the same setting; return `setting` and `runs`.

    Of an older one those groups are kept whose every process ended well.
    """
    found = read(path)
    if found is None or any(found["setting"].get(name) != setting[name] for name in setting):
        found = {"setting": {**setting, **here()}, "runs": []}
    else:
        found["runs"] = [run for group in groups for run in complete(found, group)]
    write(path, found)
    return found


def complete(found: Results, group: list[Results]) -> list[Results]:
    """Return the records of a group, or none unless all are there and none failed by itself."""
    runs = [run for run in found["runs"] if {name: run[name] for name in LABELS} in group]
    failed = any("exit" in run.get("error", "") for run in runs)
    return [] if failed or len(runs) < len(group) else runs


def hung(found: Results, row: str) -> bool:
    """Say whether a program of a row was ended after its limit: it is not waited for again."""
    return any(run["row"] == row and "limit" in run.get("error", "") for run in found["runs"])


def add(path: Path, found: Results, record: Results) -> None:
    """Add the record of a process; versions are written where they are news."""
    known = [run.get("versions") for run in found["runs"] if run["side"] == record["side"]]
    if record.get("versions") in known:
        record = {name: value for name, value in record.items() if name != "versions"}
    found["runs"].append(record)
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def skip(path: Path, why: str, kept: Results | None) -> None:
    """Note why a library was not measured, above the results of an earlier time, if any."""
    setting = kept["setting"] if kept else {}
    write(path, {"setting": {**setting, "skipped": why}, "runs": kept["runs"] if kept else []})


def read(path: Path) -> Results | None:
    """Return `setting` and `runs` of a file, or None where there is none."""
    if not path.exists():
        return None
    lines = path.read_text().splitlines()
    return {"setting": json.loads(lines[0]), "runs": [json.loads(line) for line in lines[1:]]}


def write(path: Path, results: Results) -> None:
    """Write a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines: Iterable[Results] = [results["setting"], *results["runs"]]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def here() -> Results:
    """What is run, when and on what."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }
