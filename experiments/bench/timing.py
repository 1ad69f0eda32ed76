"""What both sides share, run in either virtual environment: compile once, execute, print JSON."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import jax

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def report(
    library: str, fn: Callable[..., Any], args: tuple[Any, ...], executions: int, **facts: Any
) -> Any:
    """Compile `fn(*args)`, execute it, and print one JSON line: the last one of this process.

    `xla_s` is all of XLA's compilation, or its loading from a cache, in this process: that of
    `fn` and of the single operations on the way to it.
    """
    start = time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    lowered_at = time.perf_counter()
    compiled = lowered.compile()
    compiled_at = time.perf_counter()
    result = {
        "lower_s": lowered_at - start,
        "compile_s": compiled_at - lowered_at,
        "xla_s": sum(_XLA_SECONDS),
        "run_s": [],
        "versions": {p: importlib.metadata.version(p) for p in (library, *_PACKAGES)},
        **facts,
    }
    for _ in range(executions):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        result["run_s"].append(time.perf_counter() - start)
    result["versions"]["python"] = platform.python_version()
    print(json.dumps(result))


def count(params: Any) -> int:
    """Parameters in a pytree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _note(event: str, seconds: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _XLA_SECONDS.append(seconds)


_XLA_SECONDS: list[float] = []
jax.monitoring.register_event_duration_secs_listener(_note)
