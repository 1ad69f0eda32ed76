"""The section `precision`: what products of less precision save, and what they change."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from accelerator.job import Job
from accelerator.ladder import LATE, ROUNDS, measure
from accelerator.plan import FEW
from accelerator.programs import Program, Rung, build, with_precision
from accelerator.record import told
from accelerator.speed import ppo_config, sac_config
from jaxrl_pg.config import BaseConfig

EXACT = "highest"


def rungs_of(job: Job) -> list[Rung]:
    """A small network, a convolution, a wide network, and a replay."""
    wide = {"num_envs": 1024, "hidden_sizes": (512, 512)}
    configs: dict[str, BaseConfig] = {
        "ppo, CartPole-v1": ppo_config(job, "CartPole-v1"),
        "ppo, Breakout-MinAtar": ppo_config(job, "Breakout-MinAtar"),
        "ppo, CartPole-v1, 1,024 environments, 512 x 512": ppo_config(job, "CartPole-v1", **wide),
        "sac, Pendulum-v1": sac_config(job, num_updates=64, buffer_size=100_000),
    }
    rungs = [Rung({"program": name}, config) for name, config in configs.items()]
    return rungs[:1] if job.tiny else rungs


def precision_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Each program in full precision, then otherwise, with its distance from full precision."""
    for part, rung in zip(job.parts(len(rungs_of(job))), rungs_of(job), strict=True):
        exact: dict[int, np.ndarray] = {}
        for name, config in variants(rung.config).items():
            row = {**rung.labels, "precision": name}
            if part.left() <= 0:
                yield {**row, "skipped": "no time was left"}
                continue
            try:
                with jax.default_matmul_precision("default" if name == "default" else EXACT):
                    program = build(config)
                started = time.time()
                found = {1: _params(program, 1)}
                need = (FEW + ROUNDS + 2) * (time.time() - started)
                if need > max(part.left(), LATE):
                    why = f"no time: it needs {need:.0f} s, and {part.left():.0f} are left"
                    yield {**row, "skipped": why}
                    continue
                found[FEW] = _params(program, FEW)
                exact = exact or found
                apart = {f"after_{n}": _apart(found[n], exact[n]) for n in found}
                yield {**row, **measure(part, program, rung), **apart}
            except Exception as error:
                yield {**row, "error": told(error)}


def variants(config: BaseConfig) -> dict[str, BaseConfig]:
    """The config in full precision, as JAX multiplies by default, and with layers in bfloat16."""
    found = {name: with_precision(config, name) for name in (EXACT, "default")}
    if "dtype" in {field.name for field in dataclasses.fields(config)}:
        found["bfloat16"] = config.replace(dtype="bfloat16")
    return found


def _params(program: Program, num_iterations: int) -> np.ndarray:
    """All parameters after some iterations from the same start."""
    states, _ = program.run(program.start(), num_iterations)
    leaves = jax.tree.leaves(jax.device_get(states.learner.params))
    return np.concatenate([np.ravel(x).astype(np.float64) for x in leaves])


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(f"{np.linalg.norm(a - b) / np.linalg.norm(b):.3g}")
