"""What all programs share, run in any virtual environment: compile once, execute, print JSON."""

import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "gymnasium", "brax", "numpy")
_COMPILING = "/jax/core/compile/"
_XLA = _COMPILING + "backend_compile_duration"


def task() -> dict[str, Any]:
    """Return what this process was told to do, and note that it has started and imported."""
    told = json.loads(sys.argv[1])
    _STARTED.append(time.time() - told["launched"])
    _WAITS.append(told.get("wait", False))
    return told


def report(
    library: str, fn: Callable[..., Any], args: tuple[Any, ...], executions: int, **facts: Any
) -> None:
    """Compile `fn(*args)`, execute it, and print one JSON line: the last one of this process.

    `xla_s` is all of XLA's compilation, or its loading from a cache, in this process: that of
    `fn` and of the single operations on the way to it.
    """
    start = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    seconds = {"lower_s": lowered_at - start, "compile_s": time.perf_counter() - lowered_at}
    seconds["xla_s"] = _spent(_XLA)
    if _WAITS[0]:  # for its turn, on a device that others compile for meanwhile
        print("compiled", flush=True)
        sys.stdin.readline()
    runs = [elapsed(lambda: jax.block_until_ready(compiled(*args))) for _ in range(executions)]
    say(library, {**seconds, "run_s": runs, **facts})


def say(library: str, record: dict[str, Any]) -> None:
    """Print the record of this process, with the versions of what it ran on."""
    versions = {"python": platform.python_version()}
    for name in (library, *_PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    print(json.dumps({"startup_s": _STARTED[0], **record, "versions": versions}))


def elapsed(run: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compiling() -> dict[str, float]:
    """Return the seconds of tracing and lowering, and of XLA, so far in this process."""
    xla = _spent(_XLA)
    return {"lower_s": _spent(_COMPILING) - xla, "compile_s": xla, "xla_s": xla}


def count(params: Any) -> int:
    """Parameters in a pytree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _spent(event: str) -> float:
    return sum(seconds for name, seconds in _EVENTS if name.startswith(event))


def _note(event: str, seconds: float, **_: Any) -> None:
    if event.startswith(_COMPILING):
        _EVENTS.append((event, seconds))


_STARTED: list[float] = []
_WAITS: list[bool] = []
_EVENTS: list[tuple[str, float]] = []
jax.monitoring.register_event_duration_secs_listener(_note)
