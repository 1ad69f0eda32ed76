"""Measure programs from small to large, as far as time and memory go."""

import gc
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from accelerator.job import Job
from accelerator.programs import Program, Rung, build_each
from accelerator.record import told
from jaxrl_pg.running import memory_estimate

CPU_SHARE = 0.4  # of a machine's memory, which other programs want too
ROUNDS = 2  # timed calls
LATE = 5.0  # seconds that what is compiled already may take, whatever is left


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


def _need(rung: Rung, built_s: float, speed: float) -> float:
    """Seconds that a rung takes at least, if it is built and runs no faster than the last ones."""
    return built_s + ((ROUNDS + 2) * rung.steps / speed if speed else 0.0)


def _require_finite(metrics: Any) -> None:
    bad = [name for name, x in metrics.items() if not np.all(np.isfinite(x)) and "loss" in name]
    if bad:
        raise FloatingPointError(f"{', '.join(bad)} is not finite")
