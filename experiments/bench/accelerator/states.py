"""The sections `checkpoint` and `resume`: a state that moves between devices, and goes on."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from accelerator.job import Job
from accelerator.programs import Program, build
from accelerator.record import told
from accelerator.speed import ppo_config, sac_config
from jaxrl_pg.config import BaseConfig

BEFORE, AFTER = 2, 2  # iterations before a state is saved, and after it


def configs_of(job: Job) -> dict[str, BaseConfig]:
    """Whose states are saved and resumed."""
    configs: dict[str, BaseConfig] = {"ppo, CartPole-v1": ppo_config(job, "CartPole-v1")}
    if not job.tiny:
        configs["ppo, Breakout-MinAtar"] = ppo_config(job, "Breakout-MinAtar")
        configs["sac, Pendulum-v1"] = sac_config(job, buffer_size=10_000, num_updates=64)
    return configs


def checkpoint_rows(job: Job) -> Iterator[dict[str, Any]]:
    """From the device to the CPU and back, each time through a checkpoint, and on from there."""
    try:
        from jaxrl_pg import checkpoint

        checkpoint.save_tree  # noqa: B018 (imports what checkpoints need)
    except ImportError as error:
        yield {"program": "all", "skipped": f"checkpoints cannot be imported: {told(error)}"}
        return
    for name, config in configs_of(job).items():
        if job.left() <= 0:
            yield {"program": name, "skipped": "no time was left"}
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                yield {"program": name, **_there_and_back(job, config, Path(folder))}
        except Exception as error:
            yield {"program": name, "error": told(error)}


def _there_and_back(job: Job, config: BaseConfig, folder: Path) -> dict[str, Any]:
    """Save here, restore on the CPU, go on; save there, restore here, go on."""
    here = build(config)
    with jax.default_device(job.cpu):
        there = here if job.device == job.cpu else build(config)
    state, _ = here.run(here.start(), BEFORE)
    row: dict[str, Any] = {
        "bytes": sum(x.nbytes for x in jax.tree.leaves(jax.device_get(_plain(state))))
    }
    on_cpu, row["to_cpu_s"] = _through(folder / "there", state, job.cpu)
    row["to_cpu_equal"] = same(state, on_cpu)
    with jax.default_device(job.cpu):
        on_cpu, metrics = there.run(on_cpu, AFTER)
    row["trains_on_cpu"] = _all_finite(metrics)
    back, row["from_cpu_s"] = _through(folder / "back", on_cpu, job.device)
    row["from_cpu_equal"] = same(on_cpu, back)
    _, metrics = here.run(back, AFTER)
    row["trains_here"] = _all_finite(metrics)
    return row


def _through(path: Path, state: Any, device: jax.Device) -> tuple[Any, float]:
    """The state, saved and restored on a device, and how long both took."""
    from jaxrl_pg import checkpoint

    started = time.perf_counter()
    checkpoint.save_tree(path, state, {})
    place = jax.sharding.SingleDeviceSharding(device)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)
    restored = checkpoint.load_tree(path, target)
    return restored, round(time.perf_counter() - started, 2)


def resume_rows(job: Job) -> Iterator[dict[str, Any]]:
    """The same run twice, and a run that was stopped and went on from a copy of its state."""
    for name, config in configs_of(job).items():
        if job.left() <= 0:
            yield {"program": name, "skipped": "no time was left"}
            continue
        try:
            yield {"program": name, "flags": os.environ.get("XLA_FLAGS", ""), **bits(build(config))}
        except Exception as error:
            yield {"program": name, "error": told(error)}


def bits(program: Program) -> dict[str, bool]:
    """Whether a program gives the same bits again, and after a stop half way."""
    straight, _ = program.run(program.start(), BEFORE + AFTER)
    again, _ = program.run(program.start(), BEFORE + AFTER)
    half, _ = program.run(program.start(), BEFORE)
    on_the_host = jax.tree.map(_to_host, half)
    resumed, _ = program.run(jax.tree.map(_from_host, half, on_the_host), AFTER)
    return {"repeats": same(straight, again), "resumes": same(straight, resumed)}


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal bit for bit, wherever they are."""
    mine, other = jax.device_get((_plain(a), _plain(b)))
    pairs = zip(jax.tree.leaves(mine), jax.tree.leaves(other), strict=True)
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


def _is_key(x: jax.Array) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _plain(state: Any) -> Any:
    """The state with its keys as numbers."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, state)


def _to_host(x: jax.Array) -> np.ndarray:
    return np.array(jax.random.key_data(x) if _is_key(x) else x)


def _from_host(like: jax.Array, x: np.ndarray) -> jax.Array:
    return jax.random.wrap_key_data(x) if _is_key(like) else jax.device_put(x)


def _all_finite(metrics: Any) -> bool:
    return all(bool(np.all(np.isfinite(x))) for name, x in metrics.items() if "loss" in name)
