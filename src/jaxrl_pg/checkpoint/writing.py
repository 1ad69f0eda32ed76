"""Writing one checkpoint: a snapshot of a pytree in memory, then the folder that holds it."""

import importlib.metadata
import json
import math
import platform
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, trees

__all__ = ["Snapshot", "take", "write"]

CHUNK = 1 << 24  # bytes compressed and written as one piece
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")  # whose versions are noted
Json = dict[str, Any]


class Snapshot(NamedTuple):
    """A pytree as it was at one moment.

    Attributes:
        tree: dicts in dicts of the arrays, as Orbax saves them.
        arrays: the same arrays by name, and those without elements, which Orbax does not save.
        manifest: describes them; `write` adds the checksums.
    """

    tree: Any
    arrays: dict[str, np.ndarray]
    manifest: Json


def take(tree: Any, host: Json, step: int, metric: float | None = None, run: str = "") -> Snapshot:
    """Copy a tree, so that it may be donated or changed while it is written.

    Args:
        tree: a pytree of JAX or NumPy arrays.
        host: JSON values to keep beside it.
        step: names the checkpoint.
        metric: ranks it, higher is better; None, NaN and infinities never do.
        run: the id of the run that saves it, "" for one without.

    Raises:
        ValueError: if a leaf is no array.
        TypeError: if `host` is no JSON.
    """
    arrays = trees.to_host(tree)
    manifest = {
        "format": manifests.FORMAT,
        "step": int(step),
        **({"run": run} if run else {}),
        "metric": float(metric) if metric is not None and math.isfinite(metric) else None,
        "host": json.loads(json.dumps(host)),
        "leaves": trees.described(tree, arrays),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    return Snapshot(trees.nested(tree, arrays), arrays, manifest)


def write(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot to a new folder, which gets its name only once it is complete."""
    for name, array in snapshot.arrays.items():
        snapshot.manifest["leaves"][name]["crc32"] = zlib.crc32(trees.bytes_of(array))
    orbax_file.save(path, snapshot.tree, manifests.seal(snapshot.manifest), CHUNK)
