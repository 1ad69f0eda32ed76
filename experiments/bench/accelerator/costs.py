"""The sections `compile` and `memory`: what a program costs before it runs, and while it does."""

from collections.abc import Iterator
from typing import Any

import jax

from accelerator.job import Job
from accelerator.programs import Program, Rung, build
from accelerator.record import told
from accelerator.speed import available, ppo_config, sac_config
from accelerator.turns import Row, Task, rung_task
from jaxrl_pg import analytical
from jaxrl_pg.running.memory_estimate import estimate


def compile_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Tracing and lowering, and compiling, of one agent's programs; one after the other."""
    sizes = {"num_envs": job.sizes.num_envs, "num_steps": job.sizes.num_steps}
    configs = {
        "ppo, CartPole-v1": ppo_config(job, "CartPole-v1"),
        "ppo, Breakout-MinAtar": ppo_config(job, "Breakout-MinAtar"),
        "analytical, CartPole-v1": analytical.Config(**sizes),
        "sac, Pendulum-v1": sac_config(job),
    }
    for name, config in list(configs.items())[: 1 if job.tiny else None]:
        if job.left() <= 0:
            yield {"program": name, "skipped": "no time was left"}
            continue
        jax.clear_caches()  # tracing, too, is measured from the beginning
        try:
            yield {"program": name, **build(config).seconds}
        except Exception as error:
            yield {"program": name, "error": told(error)}


def memory_rungs(job: Job) -> list[Rung]:
    """Programs from small to large."""
    n = job.sizes.num_envs
    every = [
        Rung({"agent": "ppo", "env": env, "envs": num}, ppo_config(job, env, num_envs=num))
        for env, num in (
            ("CartPole-v1", 16 * n),
            ("CartPole-v1", 256 * n),
            ("Breakout-MinAtar", 16 * n),
            ("Breakout-MinAtar", 128 * n),
        )
    ]
    config = sac_config(job, buffer_size=10 * job.sizes.replay)
    every.append(Rung({"agent": "sac", "env": config.env, "rows": config.buffer_size}, config))
    rungs = sorted(every, key=lambda rung: estimate(rung.config))
    return rungs[:1] if job.tiny else rungs


def memory_tasks(job: Job) -> list[Task]:
    """The library's estimate, the compiler's figure, and the device's peak in a new process."""
    return [
        rung_task("memory", i, job, {**rung.labels, "estimate_bytes": estimate(rung.config)})
        for i, rung in enumerate(memory_rungs(job))
    ]


def used(job: Job, program: Program, rung: Rung) -> Row:
    """What the compiler says that an iteration takes, and what the device has seen."""
    row: Row = {"program_bytes": program.bytes}
    if program.bytes > available():
        return {**row, "error": f"does not fit: there are {available():,} bytes"}
    before = _peak(job.device)
    if before is None:
        return {**row, "note": "this device does not count its memory"}
    program.run(program.start(), 1)
    after = _peak(job.device)
    if before == after:
        return {**row, "note": f"below what compiling took, {before:,} bytes"}
    return {**row, "peak_bytes": after}


def _peak(device: jax.Device) -> int | None:
    stats = device.memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None
