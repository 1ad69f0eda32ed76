"""Reading checkpoints: the newest one that is good, checked leaf by leaf."""

import contextlib
import math
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, trees
from jaxrl_pg.checkpoint.errors import DamagedError

__all__ = [
    "Found",
    "Restored",
    "find",
    "newest_host",
    "place",
    "read_arrays",
    "require_fit",
    "restore",
]

Json = dict[str, Any]


class Restored(NamedTuple):
    """What `restore` returns.

    Attributes:
        step: the checkpoint's.
        state: a pytree with the structure, dtypes and shardings of the target.
        host: the JSON values kept beside it; tuples have become lists.
        skipped: one line for each newer checkpoint that was passed over, and why.
    """

    step: int
    state: Any
    host: Json
    skipped: tuple[str, ...]


class Found(NamedTuple):
    """A checkpoint read, but not yet made into arrays of a target.

    Attributes:
        step: the checkpoint's.
        leaves: each leaf's description by name.
        data: the array of each leaf that the target has; that of a random key is its uint32 data.
        host: the JSON values kept beside the state.
        skipped: one line for each newer checkpoint that was passed over, and why.
    """

    step: int
    leaves: Json
    data: dict[str, np.ndarray]
    host: Json
    skipped: tuple[str, ...]


def restore(
    directory: Path | str, target: Any, step: int | None = None, optional: str | None = None
) -> Restored:
    """Restore the newest good checkpoint, or the one of `step` and no other.

    Args:
        directory: the folder of the checkpoints.
        target: pytree of arrays or `jax.ShapeDtypeStruct`s, such as a fresh state. A committed
            array, or a struct with a sharding, says where its leaf goes; others go uncommitted
            to the default device, as fresh ones do. NumPy leaves stay NumPy.
        step: of the checkpoint to restore; None for the newest good one.
        optional: a branch that the target may lack though the checkpoint has it.

    Raises:
        ValueError: if there is no such checkpoint, none is good, the target's leaves differ, or
            an earlier version of this library wrote it.
    """
    found = find(directory, target, step, optional)
    return Restored(found.step, place(found, target), found.host, found.skipped)


def find(
    directory: Path | str, target: Any, step: int | None = None, optional: str | None = None
) -> Found:
    """Read what `restore` restores, so that of several processes one reads and all `place` it.

    The `optional` branch may be missing from the checkpoint too, and then from the result.
    """
    available, skipped = manifests.steps(directory), []
    if not available:
        why = "no save was finished" if Path(directory).is_dir() else "there is no such folder"
        raise ValueError(f"no checkpoint in {directory}: {why}")
    if step is not None and step not in available:
        raise ValueError(f"no checkpoint {step} in {directory}: choose from {available}")
    for candidate in available[::-1] if step is None else [step]:
        path = Path(directory).absolute() / str(candidate)
        try:
            manifest = manifests.read(path)
            where = f"checkpoint {candidate} in {directory}"
            require_fit(manifest, target, where, optional)
            names = trees.leaves_by_path(target)
            leaves = {name: leaf for name, leaf in manifest["leaves"].items() if name in names}
            data = read_arrays(path, leaves)
        except DamagedError as error:
            skipped.append(f"checkpoint {candidate} is damaged ({error})")
            continue
        lines = tuple(f"{line}; restored {candidate}" for line in skipped)
        return Found(candidate, manifest["leaves"], data, manifest["host"], lines)
    raise ValueError(f"no good checkpoint in {directory}: {'; '.join(skipped)}")


def place(found: Found, target: Any) -> Any:
    """Return the state of a checkpoint with its leaves where the target's are; see `restore`."""
    leaves = trees.leaves_by_path(target)
    placed = [
        trees.place(found.data[name], found.leaves[name]["key_impl"], leaf)
        for name, leaf in leaves.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(target), placed)


def newest_host(directory: Path | str) -> Json:
    """Return the JSON values beside the newest state whose manifest can be read, {} if none can."""
    for step in manifests.steps(directory)[::-1]:
        with contextlib.suppress(DamagedError):
            return dict(manifests.read(Path(directory).absolute() / str(step))["host"])
    return {}


def read_arrays(path: Path, leaves: Json) -> dict[str, np.ndarray]:
    """Read arrays that a manifest describes, and check each.

    Args:
        path: the checkpoint's folder.
        leaves: the manifest's description of each by name.

    Raises:
        DamagedError: if one cannot be read, or is not the one that was saved.
    """
    stored_as = {k: leaf["stored_as"] for k, leaf in leaves.items() if math.prod(leaf["shape"])}
    saved = orbax_file.load(path, stored_as)
    arrays = {}
    for name, leaf in leaves.items():
        dtype, shape = jnp.dtype(leaf["dtype"]), tuple(leaf["shape"])
        array = saved.get(name, np.zeros(shape, dtype))
        if (array.dtype, array.shape) != (dtype, shape):
            raise DamagedError(f"leaf {name}: type or shape differs")
        if zlib.crc32(trees.bytes_of(array)) != leaf["crc32"]:
            raise DamagedError(f"leaf {name}: checksum differs")
        arrays[name] = array
    return arrays


def require_fit(manifest: Json, target: Any, where: str, optional: str | None = None) -> None:
    """Refuse a target whose leaves are not the checkpoint's.

    Args:
        manifest: the checkpoint's.
        target: the pytree to restore.
        where: names the checkpoint in the message.
        optional: a branch that either may lack.

    Raises:
        ValueError: with a line for each leaf that differs.
    """
    asked = trees.spec(target)
    saved = {name: leaf["spec"] for name, leaf in manifest["leaves"].items()}
    differing = [name for name in {**asked, **saved} if saved.get(name) != asked.get(name)]
    branches = [{n for n in names if n.startswith(f"{optional}/")} for names in (asked, saved)]
    if not all(branches):
        differing = [name for name in differing if name not in set.union(*branches)]
    lines = [f"{where} does not fit this config:"]
    for name in differing[:8]:
        here, there = asked.get(name, "nothing"), saved.get(name, "nothing")
        lines.append(f"{name}: checkpoint {there}, config {here}")
    if len(differing) > 8:
        lines.append(f"and {len(differing) - 8} more")
    if differing:
        raise ValueError("\n  ".join(lines))
