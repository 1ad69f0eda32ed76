"""The section `device`: what is measured here, with which versions, and how fast it can be."""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxrl_pg
from accelerator.job import Job
from jaxrl_pg.running import memory_estimate

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "gymnax", "brax", "numpy")
SMI_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")
REPEATS = 5


def device_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Versions, the device and its host; then the limits of products, copies and short steps."""
    yield {"versions": versions()}
    yield {"device": device_facts(job.device)}
    yield {"host": host()}
    yield from products(job)
    yield copies(job)
    yield loops(job)


def versions() -> dict[str, str]:
    """Versions of what is installed."""
    found = {"jaxrl-pg": jaxrl_pg.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def device_facts(one: jax.Device) -> dict[str, Any]:
    """What JAX and the driver say of the device."""
    return {
        "kind": one.device_kind,
        "platform": one.platform,
        "platform_version": " ".join(one.client.platform_version.split()),
        "compute_capability": getattr(one, "compute_capability", None),
        "num_devices": jax.device_count(),
        "memory_bytes": memory_estimate.available(),
        "default_matmul_precision": jax.config.jax_default_matmul_precision,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        **_driver(),
    }


def _driver() -> dict[str, str]:
    """What nvidia-smi says, where there is one."""
    command = ["nvidia-smi", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    first = done.stdout.strip().splitlines()[0].split(", ")
    return dict(zip(SMI_FIELDS, first, strict=False))


def host() -> dict[str, Any]:
    """The machine around the device."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def products(job: Job) -> Iterator[dict[str, Any]]:
    """Square matrix products: float32, float32 as JAX does it by default, and bfloat16."""
    n = job.sizes.matrix[jax.default_backend() == "cpu"]
    kinds = {"float32": "highest", "float32, default": "default", "bfloat16": "default"}
    for name, precision in kinds.items():
        dtype = jnp.bfloat16 if name == "bfloat16" else jnp.float32
        x = jax.random.normal(jax.random.key(0), (n, n), dtype)
        with jax.default_matmul_precision(precision):
            multiply = jax.jit(lambda x, y: x @ y).lower(x, x).compile()
        yield {
            "limit": f"matrix product, {name}",
            "size": f"{n:,} x {n:,}",
            "value": _significant(2 * n**3 / best(lambda f=multiply, x=x: f(x, x)) / 1e12),
            "unit": "TFLOP/s",
        }


def copies(job: Job) -> dict[str, Any]:
    """Read and write one large array."""
    n = job.sizes.copied
    x = jnp.ones((n,))
    double = jax.jit(lambda x: 2 * x).lower(x).compile()
    return {
        "limit": "read and write an array",
        "size": f"{4 * n / 2**20:,.0f} MiB" if n >= 2**18 else f"{4 * n:,} bytes",
        "value": _significant(2 * 4 * n / best(lambda: double(x)) / 1e9),
        "unit": "GB/s",
    }


def loops(job: Job) -> dict[str, Any]:
    """A loop of one tiny operation that needs the one before: what a step costs at least."""
    n = job.sizes.loops

    def repeat(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, n, lambda _, x: jnp.sin(x), x)

    x = jnp.ones((64,))
    repeat_compiled = jax.jit(repeat).lower(x).compile()
    return {
        "limit": "an iteration of a loop",
        "size": f"64 sines, {n:,} times",
        "value": _significant(1e6 * best(lambda: repeat_compiled(x)) / n),
        "unit": "microseconds",
    }


def best(call: Callable[[], Any]) -> float:
    """The least seconds of a few calls, after one that is not counted."""
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _significant(value: float) -> float:
    return float(f"{value:.4g}")
