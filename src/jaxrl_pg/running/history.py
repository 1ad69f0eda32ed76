"""What a run was trained with: a line for each process that began or went on with it.

`history.jsonl` in the run's folder says when, by which command, with which versions, on which
device, and at which commit if the working directory is in a git repository. It is read by people;
no command needs it, so that a folder of an earlier version, or one without the file, is as good.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax

from jaxrl_pg import envs, files

__all__ = ["device", "facts", "record", "versions"]

_PACKAGES = ("jaxrl-pg", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")
_GIT_SECONDS = 5.0
# `-dirty` is added where files differ from the commit; fsmonitor would start a program.
_GIT = ("git", "-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=40")


def record(folder: Path, iteration: int, env: Any) -> None:
    """Add a line to a run's history; to be called by the process that holds its lock.

    Args:
        folder: the run's.
        iteration: where the process begins.
        env: the environment's name, or an object.
    """
    line = json.dumps({"iteration": iteration, **facts([env])})
    with contextlib.closing(files.GrowingFile(folder / "history.jsonl")) as file:
        file.append(f"{line}\n".encode())


def facts(some_envs: Iterable[Any]) -> dict[str, Any]:
    """Return when, by what and on what this process trains, as JSON values.

    Args:
        some_envs: the environments that it trains in; the versions of their suites are given.
    """
    commit = _commit()
    # What products are left to by matmul_precision="default"; the config has any other precision.
    products = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined, unused-ignore]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": _command(),
        "versions": versions(some_envs),
        "device": device(),
        **({"jax_default_matmul_precision": products} if products else {}),
        **({"commit": commit} if commit else {}),
    }


def versions(some_envs: Iterable[Any]) -> dict[str, str]:
    """Return the versions of what trains, and of the suites of some environments."""
    suites = {env.partition(":")[0] for env in some_envs if envs.is_name(env)} - {"python"}
    found = {}
    for name in (*_PACKAGES, *sorted(suites)):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # a copied package
            found[name] = importlib.metadata.version(name)
    return {**found, "python": platform.python_version()}


def device() -> str:
    """Return the number and the kind of the devices, such as `1 x cpu`."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def _command() -> str:
    """Return what this process was started as, ready to be pasted into a shell."""
    program, *args = sys.argv or [""]
    path = Path(program)
    is_ours = path.name == "jaxrl-pg" or path.parts[-3:] == ("jaxrl_pg", "cli", "__main__.py")
    return shlex.join([*(["jaxrl-pg"] if is_ours else ["python", path.name]), *args])


def _commit() -> str:
    """Return the commit of the working directory; empty without git or outside a repository."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*_GIT, "--exclude=*"],
            capture_output=True,
            timeout=_GIT_SECONDS,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
        if done.returncode == 0:
            return done.stdout.decode("ascii", "replace").strip()
    return ""
