"""The sections `ppo`, `sac`, `brax` and `throughput`: environment steps a second."""

import time
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np

from accelerator.job import Job
from accelerator.programs import Program, Rung
from accelerator.turns import CALLS, Row, Task, rung_task
from jaxrl_pg import ppo, sac
from jaxrl_pg.running import memory_estimate

PPO = {"num_epochs": 4, "num_minibatches": 4, "total_timesteps": 10_000_000}
ENVIRONMENTS = ("CartPole-v1", "Breakout-MinAtar")
BRAX = "brax:ant?backend=spring"
CPU_SHARE = 0.4  # of a machine's memory, which other programs want too
ROUNDS = 2  # timed calls


def ppo_config(job: Job, env: str, **changes: Any) -> ppo.Config:
    """PPO's settings in all sections: two towers of 64 and 64, a convolution for images."""
    sizes = {"num_envs": job.sizes.num_envs, "num_steps": job.sizes.num_steps}
    return ppo.Config(env=env, **{**PPO, **sizes, **changes})


def sac_config(job: Job, **changes: Any) -> sac.Config:
    """SAC with one gradient step for each of its 8 environments' steps."""
    loop = {"num_envs": 8, "num_steps": 1, "num_updates": 8}
    begin = {"learning_starts": 0, "buffer_size": job.sizes.replay, "total_timesteps": 1_000_000}
    return sac.Config(env="Pendulum-v1", **{**loop, **begin, **changes})


def ppo_rungs(job: Job) -> list[Rung]:
    """Agents side by side, each with its own environments: few to many."""
    return [
        Rung({"env": env, "agents": n, "envs": job.sizes.num_envs}, ppo_config(job, env), n)
        for env in ENVIRONMENTS
        for n in job.sizes.members
    ]


def sac_rungs(job: Job) -> list[Rung]:
    """Agents side by side, each with its own large replay."""
    config = sac_config(job)
    labels = {"env": config.env, "rows": config.buffer_size, "envs": config.num_envs}
    return [Rung({**labels, "agents": n}, config, n) for n in job.sizes.replay_members]


def throughput_rungs(job: Job) -> list[Rung]:
    """One agent with few to many environments."""
    return [
        Rung({"env": env, "agents": 1, "envs": n}, ppo_config(job, env, num_envs=n))
        for env in ENVIRONMENTS
        for n in job.sizes.envs
    ]


def brax_rungs(job: Job) -> list[Rung]:
    """PPO on Brax's ant."""
    return [
        Rung(
            {"env": BRAX, "agents": 1, "envs": n},
            ppo_config(job, BRAX, num_envs=n, num_steps=16, num_minibatches=2),
        )
        for n in job.sizes.brax_envs
    ]


def rung_tasks(job: Job, section: str, rungs: list[Rung]) -> list[Task]:
    """The tasks of a section's rungs; those of one environment are a ladder."""
    return [
        rung_task(
            section,
            i,
            job,
            rung.labels,
            steps=rung.steps,
            ladder=f"{section} {rung.config.env}",
        )
        for i, rung in enumerate(rungs)
    ]


def ppo_tasks(job: Job) -> list[Task]:
    """Agents side by side, as far as memory goes."""
    return rung_tasks(job, "ppo", ppo_rungs(job))


def sac_tasks(job: Job) -> list[Task]:
    """Agents side by side, each with its own large replay."""
    return rung_tasks(job, "sac", sac_rungs(job))


def brax_tasks(job: Job) -> list[Task]:
    """PPO on Brax, if it is installed."""
    if find_spec("brax") is None:
        return [Task({"env": BRAX, "skipped": "brax is not installed"})]
    return rung_tasks(job, "brax", brax_rungs(job))


def throughput_tasks(job: Job) -> list[Task]:
    """One agent with more and more environments."""
    return rung_tasks(job, "throughput", throughput_rungs(job))


def measure(job: Job, program: Program, rung: Rung) -> Row:
    """Execute a program a few times, if it fits.

    Raises:
        MemoryError: if by the compiler's figure it does not.
    """
    room = available()
    if program.bytes > room:
        raise MemoryError(f"needs {program.bytes / 2**30:.1f} GiB of {room / 2**30:.1f}")
    states = program.start(rung.members)
    seconds = []
    repeats = 1
    for i in range(CALLS):  # one untimed, one to choose the length of the others, and these
        started = time.perf_counter()
        states, metrics = program.run(states, repeats)
        seconds.append((time.perf_counter() - started) / repeats)
        if i == 1:
            most = max(1, int(min(job.sizes.timed, job.left() / 4) / seconds[-1]))
            repeats = min(1000, most)
    _require_finite(metrics)
    steps_per_s = [rung.steps / s for s in seconds[-ROUNDS:]]
    return {
        **program.seconds,
        "first_s": round(seconds[0], 4),
        "iteration_s": [float(f"{s:.4g}") for s in seconds[-ROUNDS:]],
        "iterations": repeats,
        "steps_per_s": round(float(np.median(steps_per_s))),
        "program_bytes": program.bytes,
    }


def available() -> int:
    """Bytes that a program may take: the device's, or a share of the machine's on a CPU."""
    share = CPU_SHARE if jax.default_backend() == "cpu" else 1.0
    return int(share * memory_estimate.available())


def _require_finite(metrics: Any) -> None:
    bad = [name for name, x in metrics.items() if not np.all(np.isfinite(x)) and "loss" in name]
    if bad:
        raise FloatingPointError(f"{', '.join(bad)} is not finite")
