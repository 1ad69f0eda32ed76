"""Time 64 runs (8 learning rates x 8 seeds): together here, one after another, and in rejax.

`.venv/bin/python experiments/bench/sweep.py` prints the table in docs/benchmarks.md. It needs the
machine for itself, and `.venv-bench`, which `make bench` builds. Every run is PPO on CartPole-v1
with 64 environments and 100,000 steps. Every program is a process of its own, they take turns, and
compiling is timed apart.
"""

import json
import statistics
import subprocess
import sys
import time

import bench

ROUNDS = 2
RATES = [1e-4 * 2.0**i for i in range(8)]
SEEDS = 8
TIMESTEPS = 100_000
PROGRAMS = {
    "here, together, 2 devices": (sys.executable, "together"),
    "here, one after another": (sys.executable, "single"),
    "rejax, vmap": (str(bench.VENV / "bin" / "python"), "rejax"),
}


def main():
    """Run the programs in turn and print the table, or be one of them."""
    if len(sys.argv) > 1:
        print(json.dumps({"together": together, "single": single}[sys.argv[1]]()))
        return
    bench.prepare_venv()
    measured_runs = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, (python, program) in PROGRAMS.items():
            script = bench.HERE / "sweep_rejax.py" if program == "rejax" else __file__
            task = [python, str(script), program]
            result = subprocess.run(task, check=True, capture_output=True, text=True, timeout=600)
            measured_runs[name].append(json.loads(result.stdout.splitlines()[-1]))
            print(name, measured_runs[name][-1], flush=True)
    print("| program | steps/s | times one after another | compile, s |")
    print("|---|---|---|---|")
    base = measured_runs["here, one after another"]
    for name, runs in measured_runs.items():
        speeds = [run["steps"] / run["run_s"] for run in runs]
        ratios = [b["run_s"] / b["steps"] * s for b, s in zip(base, speeds, strict=True)]
        compiled = statistics.median(run["compile_s"] for run in runs)
        print(
            f"| {name} | {statistics.median(speeds):,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {compiled:.1f} |"
        )


def together():
    """Time the sweep's own engine on two devices."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_num_cpu_devices", 2)
    from jaxrl_pg.training import population

    config = config_of()
    configs = population.stack([config.replace(learning_rate=r) for r in RATES * SEEDS])
    keys = jnp.stack([jax.random.key(s) for s in range(SEEDS) for _ in RATES])
    start = time.perf_counter()
    init = jax.jit(population.init, static_argnums=2).lower(configs, keys, "map").compile()
    members = init(configs, keys)
    advance = jax.jit(population.advance, static_argnums=(4, 5), donate_argnums=1)
    whole_run = (jnp.int32(config.num_iterations), jnp.asarray(False))
    advance = advance.lower(configs, members, *whole_run, 1, "map").compile()
    compiled = time.perf_counter()
    jax.block_until_ready(advance(configs, members, *whole_run))
    return measured(config, start, compiled, time.perf_counter())


def single():
    """Time the compiled program of one run, called for each."""
    import jax

    import jaxrl_pg

    config, key = config_of(), jax.random.key(0)
    start = time.perf_counter()
    train = jax.jit(jaxrl_pg.train).lower(config, key).compile()
    compiled = time.perf_counter()
    for seed in range(SEEDS):
        for rate in RATES:
            key = jax.random.key(seed)
            jax.block_until_ready(train(config.replace(learning_rate=rate), key))
    return measured(config, start, compiled, time.perf_counter())


def config_of():
    """Return the config of every run, apart from the learning rate."""
    from jaxrl_pg import ppo

    fixed = {**bench.HYPER, "clip_eps_vf": bench.HYPER["clip_eps"], "anneal_lr": False}
    return ppo.Config(num_envs=64, total_timesteps=TIMESTEPS, **fixed)


def measured(config, start, compiled, end):
    """Return the seconds and steps of a program."""
    steps = config.num_iterations * config.steps_per_iteration * len(RATES) * SEEDS
    return {"compile_s": compiled - start, "run_s": end - compiled, "steps": steps}


if __name__ == "__main__":
    main()
