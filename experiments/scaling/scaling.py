"""Measure how time and memory grow here, and write docs/scaling.md: `make bench-scaling`.

Every point of `grid.py` is compiled once, and then timed in several rounds, each time in a process
of its own. What is done is kept after every point, so that a second call goes on where the first
one was stopped. The timing should have the machine to itself: on two cores the grid takes about
four minutes a round, and `--seconds` measures as much as fits and stops. What other processes
disturbed is not kept, and measured again by the next call. Compiling may be done
before, with `--only prepare`, beside other work.
"""

import argparse
import datetime
import gzip
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grid
import scaling_page

from jaxrl_pg import files

__all__: list[str] = []

HERE = Path(__file__).parent
TIME_LIMIT = 300


def main() -> None:
    """Parse the command line, measure what lacks, and write the page once nothing does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("prepare", "measure", "report"), help="only this part")
    parser.add_argument("--rounds", type=int, default=2, help="processes that time each point")
    parser.add_argument("--seconds", type=float, default=1e9, help="start nothing after these")
    parser.add_argument("--disturbed", action="store_true", help="keep what others disturbed too")
    parser.add_argument(
        "--out", type=Path, default=scaling_page.RESULTS, help="the results, as .json.gz"
    )
    parser.add_argument("--cache", type=Path, help="where compiled programs are kept in between")
    args = parser.parse_args()
    if args.only != "report":
        cache = args.cache or Path(tempfile.gettempdir()) / f"jaxrl_pg_scaling_{os.getuid()}"
        collect(args, cache, time.monotonic() + args.seconds)
    if (
        args.out == scaling_page.RESULTS
        and args.only != "prepare"
        and not lacking(scaling_page.load())
    ):
        scaling_page.write()


def collect(args: argparse.Namespace, cache: Path, end: float) -> None:
    """Compile every point, then measure all of them, round after round."""
    results = scaling_page.load(args.out) if args.out.exists() else {"facts": {}, "points": {}}
    points = results["points"]
    results["rounds"] = args.rounds
    for name, point in grid.POINTS.items():
        points.setdefault(name, {"point": point, "rounds": []})
        if args.only != "measure" and "prepared" not in points[name] and time.monotonic() < end:
            keep(args.out, results, name, {"prepared": run("prepare", point, cache)})
    if args.only == "prepare":
        return
    results["facts"] = facts()
    for i in range(args.rounds):
        for name, point in reversed(grid.POINTS.items()):  # the rates first, which all tables need
            done = points[name]["rounds"]
            due = len(done) <= i and "prepared" in points[name] and name not in grid.COMPILED_ONLY
            if due and time.monotonic() < end:
                measured = run("measure", point, cache)
                if args.disturbed or scaling_page.is_alone(measured):
                    keep(args.out, results, name, {"rounds": [*done, measured]})
                else:
                    print(f"{name}: disturbed by other processes, to be measured again", flush=True)


def run(what: str, point: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Do one part with one point, in a process of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    env |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    if point.get("kept"):
        env |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**33))
    command = [sys.executable, HERE / "point.py", what, json.dumps(point)]
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=TIME_LIMIT
    )
    return json.loads(done.stdout.splitlines()[-1])


def keep(out: Path, results: dict[str, Any], name: str, new: dict[str, Any]) -> None:
    """Write all results with what is new of one point."""
    results["points"][name].update(new)
    # Without a time in it, so that the same results are the same file.
    packed = gzip.compress(json.dumps(results, separators=(",", ":")).encode(), mtime=0)
    files.write_atomic(out, packed)
    print(name, *new, flush=True)


def lacking(results: dict[str, Any]) -> list[str]:
    """Return the points that are not measured in every round."""
    done = results["points"]
    return [
        name
        for name in grid.POINTS
        if name not in done
        or "prepared" not in done[name]
        or (len(done[name]["rounds"]) < results["rounds"] and name not in grid.COMPILED_ONLY)
    ]


def facts() -> dict[str, Any]:
    """Say when and on what it was measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ("jaxrl-pg", "jax", "jaxlib", "gymnax")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
