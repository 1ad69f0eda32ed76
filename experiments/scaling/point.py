"""One point in a process of its own: compile and count it, or time it and its memory.

    python point.py prepare '{"agent": ...}'
    python point.py measure '{"agent": ...}'

The last line printed is the result as JSON. `prepare` leaves the compiled program in JAX's
persistent cache, from which `measure` takes it, so that no compiler runs beside a measurement.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import hlo
import jax
import rates

import jaxrl_pg
from jaxrl_pg import ppo, sac
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.sweeps import batch
from jaxrl_pg.training import devices, population

__all__ = ["config_of"]

_LEAST, _MOST, _SECONDS = 3, 7, 2.5  # timed executions, and how long they may take together
# What of a point is no field of a config.
_OTHERS = ("axis", "value", "devices", "agent", "members", "layout", "iterations", "kept")


def config_of(point: dict[str, Any]) -> BaseConfig:
    """Return the config of a point."""
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in point.items()}
    fields = {k: v for k, v in fields.items() if k not in _OTHERS}
    if point["agent"] == "sac":
        return sac.Config(num_devices=point["devices"], learning_starts=256, **fields)
    return ppo.Config(num_devices=1 if "layout" in point else point["devices"], **fields)


def prepare(point: dict[str, Any]) -> dict[str, Any]:
    """Compile a point's programs, and count what one iteration does."""
    start, train, _ = _programs(point)
    start.compile()
    compiled = train.compile()
    plan, config = compiled.memory_analysis(), config_of(point)
    outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    counted = hlo.kernels(compiled.as_text())
    return {
        "steps": point["members"] * config.steps_per_iteration,
        "kernels": [[*kernel, times / point["iterations"]] for kernel, times in counted.items()],
        "planned": plan.argument_size_in_bytes + plan.temp_size_in_bytes + outputs,
        "estimate": _estimate(point),
    }


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """Time some executions, and see how far the process grew."""
    start, train, key = _programs(point)
    start, train = start.compile(), train.compile()
    Path("/proc/self/clear_refs").write_text("5")  # the highest memory so far is forgotten
    before = _kilobytes("VmRSS")
    state = jax.block_until_ready(start(key))
    # The first execution is not timed. It fills a replay to its warm-up, too.
    state, _ = jax.block_until_ready(train(state))
    seconds: list[float] = []
    others: list[float] = []
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    while len(seconds) < _LEAST or (len(seconds) < _MOST and sum(seconds) < _SECONDS):
        busy, began = _busy_elsewhere(), time.perf_counter()
        state, _ = jax.block_until_ready(train(state))
        seconds.append(time.perf_counter() - began)
        share = (_busy_elsewhere() - busy) / (seconds[-1] * (os.cpu_count() or 1))
        others.append(round(max(0.0, share), 3))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {
        "run_s": seconds,
        "others": others,
        "pages": faults / len(seconds),
        "grown": 1024 * (_kilobytes("VmHWM") - before),
    }


def _programs(point: dict[str, Any]) -> tuple[Any, Any, jax.Array]:
    """Return what makes a point's state and what trains it on, lowered, and the key for them."""
    config, key, num = config_of(point), jax.random.key(0), point["iterations"]

    def init(key: jax.Array) -> Any:
        return jaxrl_pg.init(config, key)

    def train(state: Any) -> Any:
        return jaxrl_pg.iterate(config, state, num)

    if "layout" not in point:
        placed = devices.state_shardings(config.num_devices)
        shapes = devices.state_shapes(config, config.num_devices)
        init_all, train_all = init, train
    else:
        layout, key = point["layout"], jax.random.split(key, point["members"])
        init_all = devices.over_members(lambda keys: population.each(layout, init, keys), (0,))
        train_all = devices.over_members(lambda x: population.each(layout, train, x), (0,))
        placed = devices.members_sharding()
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placed),
            jax.eval_shape(init_all, key),
        )
    start = jax.jit(init_all, out_shardings=placed).lower(key)
    return start, jax.jit(train_all, donate_argnums=0).lower(shapes), key


def _estimate(point: dict[str, Any]) -> int:
    """Return the memory that the library expects to need on each device."""
    if "layout" in point:
        return batch.num_bytes(config_of(point), point["members"], point["layout"])
    return memory_estimate.estimate(config_of(point))


def _rates(num_devices: int) -> dict[str, Any]:
    busy, began = _busy_elsewhere(), time.perf_counter()
    result = rates.measure(num_devices)
    share = (_busy_elsewhere() - busy) / (time.perf_counter() - began) / (os.cpu_count() or 1)
    return {**result, "others": [round(max(0.0, share), 3)]}


def _busy_elsewhere() -> float:
    """Return the seconds that the cores have worked for other processes than this one."""
    cpu = Path("/proc/stat").read_text().splitlines()[0].split()
    user, nice, system = (int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in cpu[1:4])
    own = resource.getrusage(resource.RUSAGE_SELF)
    return user + nice + system - own.ru_utime - own.ru_stime


def _kilobytes(name: str) -> int:
    """Return what Linux says of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Do one of both with a point, and print what came of it."""
    point = json.loads(sys.argv[2])
    devices.prepare(point["devices"])
    if point["axis"] == "rates":
        result = _rates(point["devices"]) if sys.argv[1] == "measure" else {}
    else:
        result = {"prepare": prepare, "measure": measure}[sys.argv[1]](point)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
