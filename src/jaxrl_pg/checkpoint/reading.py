"""Reading checkpoints: the newest one that is good, checked leaf by leaf."""

import contextlib
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, packing
from jaxrl_pg.checkpoint.manifest import DamagedError

__all__ = ["Found", "Restored", "find", "newest_host", "place", "restore"]

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
        data: each leaf's bytes by name.
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
        ValueError: if there is no such checkpoint, none is good, or the target's leaves differ.
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
            _require_fit(manifest, packing.spec(target), directory, optional)
            data = _read_leaves(path, manifest["leaves"])
        except DamagedError as error:
            skipped.append(f"checkpoint {candidate} is damaged ({error})")
            continue
        lines = tuple(f"{line}; restored {candidate}" for line in skipped)
        return Found(candidate, manifest["leaves"], data, manifest["host"], lines)
    raise ValueError(f"no good checkpoint in {directory}: {'; '.join(skipped)}")


def place(found: Found, target: Any) -> Any:
    """Return the state of a checkpoint with its leaves where the target's are; see `restore`."""
    leaves = packing.leaves_by_path(target)
    placed = [packing.place(found.data[k], found.leaves[k], leaf) for k, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(target), placed)


def newest_host(directory: Path | str) -> Json:
    """Return the JSON values beside the newest state whose manifest can be read, {} if none can."""
    for step in manifests.steps(directory)[::-1]:
        with contextlib.suppress(DamagedError):
            return dict(manifests.read(Path(directory).absolute() / str(step))["host"])
    return {}


def _read_leaves(path: Path, leaves: Json) -> dict[str, np.ndarray]:
    try:
        data = packing.split(orbax_file.load(path), leaves)
    except Exception as error:
        raise DamagedError(f"leaves: {manifests.reason(error)}") from error
    for name, leaf in leaves.items():
        if zlib.crc32(data[name].data) != leaf["crc32"]:
            raise DamagedError(f"leaf {name}: checksum differs")
    return data


def _require_fit(
    manifest: Json, target: dict[str, str], directory: Path | str, optional: str | None
) -> None:
    """Refuse a target whose leaves are not the checkpoint's."""
    saved = {name: leaf["spec"] for name, leaf in manifest["leaves"].items()}
    differing = [name for name in {**target, **saved} if saved.get(name) != target.get(name)]
    branches = [{n for n in names if n.startswith(f"{optional}/")} for names in (target, saved)]
    if not all(branches):
        differing = [name for name in differing if name not in set.union(*branches)]
    lines = [f"checkpoint {manifest['step']} in {directory} does not fit this config:"]
    for name in differing[:8]:
        here, there = target.get(name, "nothing"), saved.get(name, "nothing")
        lines.append(f"{name}: checkpoint {there}, config {here}")
    if len(differing) > 8:
        lines.append(f"and {len(differing) - 8} more")
    if differing:
        raise ValueError("\n  ".join(lines))
