"""One measurement is one process: with a time limit, and nothing of this one's environment."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["TIME_LIMIT", "run"]

TIME_LIMIT = 180.0  # seconds


def run(
    command: Sequence[str | Path],
    task: dict[str, Any],
    path: Path | None = None,
    cache: Path | None = None,
    time_limit: float = TIME_LIMIT,
) -> dict[str, Any]:
    """Run a program that is told its task as JSON and prints a record as its last line.

    Args:
        command: the program, without its task.
        task: what it is told; the time at which it was started is added.
        path: a folder that it imports from.
        cache: folder of a persistent compilation cache; None compiles anew.
        time_limit: in seconds; a program that hangs is ended and named, not waited for.

    Returns:
        The record, or what went wrong under "error".
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
    env |= {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": str(cache is not None)}
    if path is not None:
        env["PYTHONPATH"] = str(path)
    if cache is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    told = [*map(str, command), json.dumps({**task, "launched": time.time()})]
    try:
        done = subprocess.run(
            told, env=env, capture_output=True, text=True, check=True, timeout=time_limit
        )
    except subprocess.TimeoutExpired:
        return {"error": f"ended after the limit of {time_limit:g} s"}
    except subprocess.CalledProcessError as error:
        print(error.stderr, file=sys.stderr)
        return {"error": f"exit status {error.returncode}"}
    return _rounded(json.loads(done.stdout.splitlines()[-1]))


def _rounded(record: Any) -> Any:
    """To a microsecond, which is far less than the spread."""
    if isinstance(record, dict):
        return {name: _rounded(value) for name, value in record.items()}
    if isinstance(record, list):
        return [_rounded(value) for value in record]
    return round(record, 6) if isinstance(record, float) else record
