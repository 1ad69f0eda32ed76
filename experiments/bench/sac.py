"""Soft actor-critic here and in rejax, one gradient step for every environment step.

`.venv/bin/python experiments/bench/sac.py [row ...]` (`make bench-sac`) prints a table; what it
gave is in docs/benchmarks.md. It wants the machine for itself. Both have two Q networks and a
policy of two layers of 64, batches of 256, a learned temperature, and 8 environments stepped once
between 8 gradient steps. Every program is a process of its own, they take turns, and compiling is
timed apart.
"""

import json
import statistics
import subprocess
import sys

import bench

ROUNDS, EXECUTIONS = 3, 2
HYPER = {"num_envs": 8, "batch_size": 256, "learning_rate": 1e-3, "gamma": 0.99}
ROWS = {
    "Pendulum-v1, 10,000 rows": {"env": "Pendulum-v1", "buffer_size": 10_000, "steps": 8192},
    "Pendulum-v1, 100,000 rows": {"env": "Pendulum-v1", "buffer_size": 100_000, "steps": 8192},
    "Pendulum-v1, 1,000,000 rows": {"env": "Pendulum-v1", "buffer_size": 1_000_000, "steps": 1024},
    "CartPole-v1, 100,000 rows": {"env": "CartPole-v1", "buffer_size": 100_000, "steps": 8192},
}
PROGRAMS = {
    "rejax": (bench.VENV / "bin" / "python", bench.HERE / "sac_rejax.py"),
    "ours": (sys.executable, bench.HERE / "sac.py"),
}


def main():
    """Run the programs in turn and print the table, or be one of them."""
    if len(sys.argv) > 1 and sys.argv[1].startswith("{"):
        ours(json.loads(sys.argv[1]))
        return
    bench.prepare_venv()
    print("| environment, replay | rejax, steps/s | ours, steps/s | ratio | compile, s |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or ROWS:
        found = {program: [] for program in PROGRAMS}
        for _ in range(ROUNDS):
            for program, (python, script) in PROGRAMS.items():
                task = [str(python), str(script), json.dumps(ROWS[name])]
                done = subprocess.run(task, check=True, capture_output=True, text=True, timeout=600)
                found[program].append(json.loads(done.stdout.splitlines()[-1]))
        print(row_of(name, found), flush=True)


def row_of(name, found):
    """Medians over rounds; ratios are taken within a round."""
    speeds = {
        program: [ROWS[name]["steps"] / min(run["run_s"][1:]) for run in runs]
        for program, runs in found.items()
    }
    compiled = {p: statistics.median(run["compile_s"] for run in runs) for p, runs in found.items()}
    ratios = [a / b for a, b in zip(speeds["ours"], speeds["rejax"], strict=True)]
    return (
        f"| {name} | {statistics.median(speeds['rejax']):,.0f} "
        f"| {statistics.median(speeds['ours']):,.0f} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) "
        f"| {compiled['rejax']:.0f} and {compiled['ours']:.0f} |"
    )


def ours(row):
    """Time a row of the table."""
    import jax
    import timing

    import jaxrl_pg
    from jaxrl_pg import sac

    steps = row.pop("steps")
    loop = {"num_steps": 1, "num_updates": 8, "learning_starts": 256}
    config = sac.Config(**row, **HYPER, **loop, total_timesteps=steps)
    timing.report("jaxrl-pg", jaxrl_pg.train, (config, jax.random.key(0)), EXECUTIONS)


if __name__ == "__main__":
    main()
