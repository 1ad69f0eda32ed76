"""Compare the speed of this library's PPO with rejax's on this machine: `make bench-ppo`.

Every measurement is a process of its own that compiles once and then executes several times.
The programs of a row take turns, round after round, so that a machine that slows down slows
all of them, and ratios are taken within a round. A complete run writes `results.json` and the
measured part of `docs/benchmarks.md`; `--quick` or `--rows` only print it.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs" / "benchmarks.md"
RESULTS = HERE / "results.json"
VENV = ROOT / ".venv-bench"
REQUIREMENTS = HERE / "requirements-rejax.txt"
SIDES = {
    "rejax": (VENV / "bin" / "python", HERE / "run_rejax.py"),
    "ours": (sys.executable, HERE / "run_ours.py"),
}
PROGRAMS = (("rejax", 1), ("ours", 2), ("ours", 1))
TIME_LIMIT = 180
HYPER = {
    "num_steps": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
}
# Steps of one execution (of each seed): one to a few seconds on two cores, two iterations at least.
ROWS = {
    "cartpole-64": {"env": "CartPole-v1", "num_envs": 64, "seeds": 1, "timesteps": 2**17},
    "cartpole-1024": {"env": "CartPole-v1", "num_envs": 1024, "seeds": 1, "timesteps": 2**18},
    "breakout-64": {"env": "Breakout-MinAtar", "num_envs": 64, "seeds": 1, "timesteps": 2**16},
    "breakout-1024": {"env": "Breakout-MinAtar", "num_envs": 1024, "seeds": 1, "timesteps": 2**18},
    "cartpole-64x16": {"env": "CartPole-v1", "num_envs": 64, "seeds": 16, "timesteps": 2**14},
}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, one timed execution")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each program")
    parser.add_argument("--executions", type=int, default=3, help="of each, the first untimed")
    parser.add_argument("--report", action="store_true", help="rewrite the page, measure nothing")
    args = parser.parse_args()
    if args.report:
        report.write(DOCS, json.loads(RESULTS.read_text()))
        return
    if args.quick:
        args.rounds, args.executions = 1, 2
    prepare_venv()
    results = {**describe(args), **measure(args.rows, args.rounds, args.executions)}
    if list(ROWS) == args.rows and not args.quick:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        report.write(DOCS, results)
    print(report.render(results))
    sys.exit(bool(results["failures"]))


def prepare_venv() -> None:
    """Build rejax's environment, unless one with these very requirements is there."""
    installed = VENV / REQUIREMENTS.name
    if installed.exists() and installed.read_text() == REQUIREMENTS.read_text():
        return
    python = VENV / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    subprocess.run([python, "-m", "pip", "install", "-qq", "-r", REQUIREMENTS], check=True)
    installed.write_text(REQUIREMENTS.read_text())


def describe(args: argparse.Namespace) -> dict[str, Any]:
    """What was run, when and on what."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join([".venv/bin/python experiments/bench/bench.py", *sys.argv[1:]]),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
        "rounds": args.rounds,
        "executions": args.executions,
        "hyper": HYPER,
        "rows": {name: ROWS[name] for name in args.rows},
    }


def measure(rows: list[str], rounds: int, executions: int) -> dict[str, Any]:
    """Run every process; each leaves a record, or its name among the failures."""
    records = []
    with tempfile.TemporaryDirectory() as cache:
        for labels in plan(rows, rounds):
            row = ROWS.get(rows[0] if labels["row"] == "start" else labels["row"])
            task = {"row": row, "hyper": HYPER, "devices": labels["devices"]}
            folder = Path(cache, labels["side"]) if labels["row"] == "start" else None
            records.append({**labels, **run({**task, "executions": executions}, labels, folder)})
    failed = [record for record in records if "error" in record]
    return {"runs": [r for r in records if "error" not in r], "failures": failed}


def plan(rows: list[str], rounds: int) -> Iterator[dict[str, Any]]:
    """Every process in the order they run: the programs of a row in turn, in every round."""
    for i in range(rounds):
        for row in rows:
            for side, devices in PROGRAMS:
                yield {"row": row, "side": side, "devices": devices, "round": i}
        for devices in (1, 2):
            yield {"row": "products", "side": "ours", "devices": devices, "round": i}
    for side in SIDES:
        for cache in ("empty", "filled"):
            yield {"row": "start", "side": side, "devices": 1, "round": cache}


def run(task: dict[str, Any], labels: dict[str, Any], cache: Path | None) -> dict[str, Any]:
    """One process, with a time limit: a program that hangs is named, not waited for."""
    title = " ".join(str(value) for value in labels.values())
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
    env |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": str(cache is not None)}
    if cache is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    command = [*SIDES[labels["side"]], json.dumps(task)]
    try:
        child = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, timeout=TIME_LIMIT
        )
    except subprocess.TimeoutExpired:
        record: dict[str, Any] = {"error": f"hung, ended after {TIME_LIMIT} s"}
    except subprocess.CalledProcessError as error:
        record = {"error": f"exit status {error.returncode}"}
        print(error.stderr, file=sys.stderr)
    else:
        record = json.loads(child.stdout.splitlines()[-1])
    said = {k: v for k, v in record.items() if k in ("error", "compile_s", "run_s")}
    print(f"{title}: {said}", flush=True)
    return record


if __name__ == "__main__":
    main()
