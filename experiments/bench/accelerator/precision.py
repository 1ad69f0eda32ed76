"""The section `precision`: what products of less precision save, and what they change."""

import os
import tempfile
from functools import cache
from pathlib import Path

import jax
import numpy as np

from accelerator import speed
from accelerator.job import Job
from accelerator.plan import FEW
from accelerator.programs import Program, Rung
from accelerator.speed import ppo_config, sac_config
from accelerator.turns import Row, Task, rung_task
from jaxrl_pg.config import BaseConfig

EXACT = "highest"
FOLDER = "ACCELERATOR_PARAMETERS"  # in whose folder programs leave their parameters for others


def rungs_of(job: Job) -> list[Rung]:
    """A convolution, a wide network and a replay, each in full precision first."""
    wide = {"num_envs": 1024, "hidden_sizes": (512, 512)}
    configs: dict[str, BaseConfig] = {
        "ppo, Breakout-MinAtar": ppo_config(job, "Breakout-MinAtar"),
        "ppo, CartPole-v1, 1,024 environments, 512 x 512": ppo_config(job, "CartPole-v1", **wide),
        "sac, Pendulum-v1": sac_config(job, num_updates=64, buffer_size=100_000),
    }
    rungs = [
        Rung({"program": name, "precision": precision}, config)
        for name, one in configs.items()
        for precision, config in variants(one).items()
    ]
    return rungs[:2] if job.tiny else rungs


def variants(config: BaseConfig) -> dict[str, BaseConfig]:
    """The config in full precision, as JAX multiplies by default, and with layers in bfloat16."""
    return {
        **{name: config.replace(matmul_precision=name) for name in (EXACT, "default")},
        "bfloat16": config.replace(dtype="bfloat16"),
    }


def precision_tasks(job: Job) -> list[Task]:
    """Each program in full precision, then otherwise, with its distance from full precision."""
    os.environ[FOLDER] = _folder().name
    return [
        rung_task("precision", i, job, rung.labels, steps=rung.steps, ladder=rung.labels["program"])
        for i, rung in enumerate(rungs_of(job))
    ]


def measure(job: Job, program: Program, rung: Rung) -> Row:
    """Its speed, and how far its parameters are from those of full precision."""
    row: Row = {}
    for n in (1, FEW):
        states, _ = program.run(program.start(), n)
        leaves = jax.tree.leaves(jax.device_get(states.learner.params))
        mine = np.concatenate([np.ravel(x).astype(np.float64) for x in leaves])
        path = Path(os.environ[FOLDER], f"{rung.labels['program']} {n}.npy")
        if rung.labels["precision"] == EXACT:
            np.save(path, mine)
        if path.exists():
            exact = np.load(path)
            row[f"after_{n}"] = float(f"{np.linalg.norm(mine - exact) / np.linalg.norm(exact):.3g}")
    return {**speed.measure(job, program, rung), **row}


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
