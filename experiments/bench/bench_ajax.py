"""PPO here and in Ajax (`ajax-rl`, Python 3.12): `make bench-ajax` prints a table.

Both are installed in one virtual environment, so that they run with the same JAX. Every measurement
is a process of its own that compiles once, executes once untimed and then is timed; the two take
turns, and ratios are taken within a round. It wants the machine for itself.
"""

import json
import os
import statistics
import subprocess
import sys

import bench

ROUNDS, EXECUTIONS = 3, 4
ROWS = {
    "cartpole-64": bench.ROWS["cartpole-64"],
    "cartpole-1024": bench.ROWS["cartpole-1024"],
    "pendulum-64": {
        "env": "brax:inverted_pendulum",
        "num_envs": 64,
        "seeds": 1,
        "timesteps": 2**15,
    },
}
PROGRAMS = {
    "Ajax": "run_ajax.py",
    "ours, 1 device": "run_ours.py",
    "ours, 2 devices": "run_ours.py",
}


def main() -> None:
    """Run the rows that are named, or all."""
    print("| environment | envs | program | steps/s | times Ajax | compile, s |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:] or ROWS:
        found: dict[str, list[dict]] = {program: [] for program in PROGRAMS}
        for _ in range(ROUNDS):
            for program in PROGRAMS:
                found[program].append(measure(ROWS[name], program))
                print(name, program, found[program][-1]["run_s"], file=sys.stderr, flush=True)
        for line in lines_of(ROWS[name], found):
            print(line, flush=True)


def measure(row: dict, program: str) -> dict:
    """One process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
    env |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "False"}
    devices = 2 if "2" in program else 1
    task = {"row": row, "hyper": bench.HYPER, "devices": devices, "executions": EXECUTIONS}
    command = [sys.executable, str(bench.HERE / PROGRAMS[program]), json.dumps(task)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=900)
    return json.loads(done.stdout.splitlines()[-1])


def lines_of(row: dict, found: dict[str, list[dict]]) -> list[str]:
    """The rows of the table for one row of the benchmark."""
    speeds = {
        program: [run["timesteps"] / statistics.median(run["run_s"][1:]) for run in runs]
        for program, runs in found.items()
    }
    lines = []
    for program, runs in found.items():
        ratios = [a / b for a, b in zip(speeds[program], speeds["Ajax"], strict=True)]
        seconds = statistics.median(run["lower_s"] + run["compile_s"] for run in runs)
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if program != "Ajax" else ""
        lines.append(
            f"| {row['env']} | {row['num_envs']:,} | {program} "
            f"| {statistics.median(speeds[program]):,.0f} "
            f"| {statistics.median(ratios):.2f}{spread} | {seconds:.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
