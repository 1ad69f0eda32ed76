"""Compile the training of one config, or of many members of it, and time it."""

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from accelerator.job import Job
from accelerator.record import told
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.training import population

CPU_SHARE = 0.4  # of a machine's memory, which other programs want too
ROUNDS = 2  # timed calls
LATE = 5.0  # seconds that what is compiled already may take, whatever is left


class Rung(NamedTuple):
    """One row of a ladder: what the row says of itself, the config, and how many members."""

    labels: dict[str, Any]
    config: BaseConfig
    members: int = 1

    @property
    def steps(self) -> int:
        """Environment steps of one iteration of all members."""
        return self.members * self.config.steps_per_iteration


class Program(NamedTuple):
    """A compiled training program.

    Attributes:
        config: of every member; with one member nothing has an axis of members.
        init: `(config, keys) -> states`.
        advance: `(config, states, num_iterations) -> (states, metrics)`; the states are donated.
        seconds: `lower_s` and `compile_s`, of both together.
        bytes: what the compiler says that `advance` takes.
    """

    config: BaseConfig
    init: Any
    advance: Any
    seconds: dict[str, float]
    bytes: int

    def start(self, members: int = 1, seed: int = 0) -> Any:
        """Fresh states."""
        return self.init(self.config, _keys(members, seed))

    def run(self, states: Any, num_iterations: int) -> Any:
        """States some iterations later, and the last metrics, when they are there."""
        return jax.block_until_ready(self.advance(self.config, states, jnp.int32(num_iterations)))


class _Lowered(NamedTuple):
    config: BaseConfig
    init: Any
    advance: Any
    seconds: float


def build(config: BaseConfig, members: int = 1) -> Program:
    """Compile one config's training for JAX's default device."""
    return _compile(_lower(config, members))


def build_each(rungs: Sequence[Rung], workers: int) -> list[Program | Exception]:
    """Compile several at a time, each of which may fail for itself."""

    def attempt(function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except Exception as error:
            return error

    lowered = [attempt(_lower, rung.config, rung.members) for rung in rungs]
    with ThreadPoolExecutor(workers) as pool:
        return list(
            pool.map(
                lambda one: one if isinstance(one, Exception) else attempt(_compile, one), lowered
            )
        )


def climb(job: Job, rungs: Sequence[Rung]) -> Iterator[dict[str, Any]]:
    """Measure one rung after the other, as far as memory and time go.

    An error (as when memory ends) ends the ladder, and what the time does not suffice for is left
    out; either is said in the row.
    """
    built_s, speed = 0.0, 0.0
    rungs = list(rungs)
    while rungs:
        batch, rungs = rungs[: job.compilers], rungs[job.compilers :]
        started, chosen = time.time(), [x for x in batch if _need(x, built_s, speed) < job.left()]
        programs = dict(zip(map(id, chosen), build_each(chosen, job.compilers), strict=True))
        built_s = (time.time() - started) if chosen else built_s
        for rung in batch:
            if id(rung) not in programs or _need(rung, 0.0, speed) > max(job.left(), LATE):
                need = _need(rung, built_s, speed)
                why = f"no time: it needs {need:.0f} s, and {max(0, job.left()):.0f} are left"
                yield {**rung.labels, "skipped": why}
                continue
            program = programs.pop(id(rung))
            try:
                if isinstance(program, Exception):
                    raise program
                row = measure(job, program, rung)
            except Exception as error:
                yield {**rung.labels, "error": told(error)}
                return
            speed = row["steps_per_s"]
            yield {**rung.labels, **row}
            del program
            gc.collect()


def measure(job: Job, program: Program, rung: Rung) -> dict[str, Any]:
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
    for i in range(ROUNDS + 2):  # one untimed, and one to choose the length of the others
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


def with_precision(config: BaseConfig, precision: str) -> BaseConfig:
    """The config with matrix products of this precision, if it can say so.

    Where it has no such field, `jax.default_matmul_precision` around tracing does the same.
    """
    names = {field.name for field in dataclasses.fields(config)}
    return config.replace(matmul_precision=precision) if "matmul_precision" in names else config


def _lower(config: BaseConfig, members: int) -> _Lowered:
    agent = config.agent

    def each(fn: Callable[[Any], Any], values: Any) -> Any:
        return population.each(population.layout_here(), fn, values) if members > 1 else fn(values)

    def init(config: BaseConfig, keys: jax.Array) -> Any:
        return each(lambda key: agent.init(config, key), keys)

    def advance(config: BaseConfig, states: Any, num_iterations: jax.Array) -> Any:
        def advance_one(state: Any) -> Any:
            metrics = jax.tree.map(_zeros, jax.eval_shape(agent.iterate, config, state)[1])
            return jax.lax.fori_loop(
                0,
                num_iterations,
                lambda _, carry: agent.iterate(config, carry[0]),
                (state, metrics),
            )

        return each(advance_one, states)

    started = time.perf_counter()
    keys = _keys(members, 0)
    shapes = jax.eval_shape(init, config, keys)
    lowered_init = jax.jit(init).lower(config, keys)
    lowered = jax.jit(advance, donate_argnums=1).lower(config, shapes, jnp.int32(1))
    return _Lowered(config, lowered_init, lowered, time.perf_counter() - started)


def _compile(lowered: _Lowered) -> Program:
    started = time.perf_counter()
    init, advance = lowered.init.compile(), lowered.advance.compile()
    seconds = {"lower_s": lowered.seconds, "compile_s": time.perf_counter() - started}
    plan = advance.memory_analysis()
    size = 0
    if plan is not None:
        outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
        size = plan.argument_size_in_bytes + plan.temp_size_in_bytes + outputs
    rounded = {name: round(s, 2) for name, s in seconds.items()}
    return Program(lowered.config, init, advance, rounded, size)


def _need(rung: Rung, built_s: float, speed: float) -> float:
    """Seconds that a rung takes at least, if it is built and runs no faster than the last ones."""
    return built_s + ((ROUNDS + 2) * rung.steps / speed if speed else 0.0)


def _require_finite(metrics: Any) -> None:
    bad = [name for name, x in metrics.items() if not np.all(np.isfinite(x)) and "loss" in name]
    if bad:
        raise FloatingPointError(f"{', '.join(bad)} is not finite")


def _keys(members: int, seed: int) -> jax.Array:
    key = jax.random.key(seed)
    return jax.random.split(key, members) if members > 1 else key


def _zeros(shape: Any) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)
