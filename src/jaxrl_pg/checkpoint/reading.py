"""Reading checkpoints: the newest one that is good, checked leaf by leaf."""

import contextlib
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import files
from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, trees
from jaxrl_pg.checkpoint.added import with_added
from jaxrl_pg.checkpoint.errors import DamagedError, ForeignError

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

_LISTINGS = 20  # of a folder in which checkpoints come and go


class _GoneError(Exception):
    """A checkpoint was deleted after the folder was listed."""


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

    def has(self, branch: str) -> bool:
        """Return whether the checkpoint has a branch; it may be one array."""
        return bool(_under(branch, self.leaves))


def restore(
    directory: Path | str,
    target: Any,
    step: int | None = None,
    optional: str | None = None,
    run: str | None = None,
) -> Restored:
    """Restore the newest good checkpoint, or the one of `step` and no other.

    Args:
        directory: the folder of the checkpoints.
        target: pytree of arrays or `jax.ShapeDtypeStruct`s, such as a fresh state. A committed
            array, or a struct with a sharding, says where its leaf goes; others go uncommitted
            to the default device, as fresh ones do. NumPy leaves stay NumPy.
        step: of the checkpoint to restore; None for the newest good one.
        optional: a branch that the target may lack though the checkpoint has it.
        run: the id of the run that must have saved it, "" for one without; None for any.

    Raises:
        ValueError: if there is no such checkpoint, none is good, the target's leaves differ, or
            an earlier version of this library wrote it.
        OSError: if the newest cannot be read, for lack of permission say: it may be good.
    """
    found = find(directory, target, step, optional, run)
    return Restored(found.step, place(found, target), found.host, found.skipped)


def find(
    directory: Path | str,
    target: Any,
    step: int | None = None,
    optional: str | None = None,
    run: str | None = None,
) -> Found:
    """Read what `restore` restores, so that of several processes one reads and all `place` it.

    The `optional` branch may be missing from the checkpoint too, and then from the result. A run
    that is training may delete old checkpoints meanwhile: the folder is then listed again.
    """
    for _ in range(_LISTINGS):
        try:
            return _find_in_one_listing(Path(directory), target, step, optional, run)
        except _GoneError:
            continue
    raise ValueError(f"{directory}: checkpoints go faster than they can be read: try again")


def _find_in_one_listing(
    directory: Path, target: Any, step: int | None, optional: str | None, run: str | None
) -> Found:
    available, skipped = manifests.candidates(directory), []
    if not available:
        why = "no save was finished" if directory.is_dir() else "there is no such folder"
        raise ValueError(f"no checkpoint in {directory}: {why}")
    if step is not None and step not in available:
        raise ValueError(f"no checkpoint {step} in {directory}: choose from {available}")
    for candidate in available[::-1] if step is None else [step]:
        path = directory.absolute() / str(candidate)
        listed = files.identity(path)
        try:
            manifest = manifests.read(path, candidate, run)
            manifest["leaves"] = with_added(manifest["leaves"], target)
            require_fit(manifest, target, f"checkpoint {candidate} in {directory}", optional)
            data = read_arrays(path, manifest["leaves"], target)
        except DamagedError as error:
            if listed is None or files.identity(path) != listed:
                raise _GoneError from error
            what = "is not what its name says" if isinstance(error, ForeignError) else "is damaged"
            skipped.append(f"checkpoint {candidate} {what} ({error})")
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


def newest_host(directory: Path | str, run: str | None = None) -> Json:
    """Return the JSON values beside the newest state whose manifest can be read, {} if none can."""
    for step in manifests.steps(directory)[::-1]:
        with contextlib.suppress(DamagedError):
            return dict(manifests.read(Path(directory).absolute() / str(step), step, run)["host"])
    return {}


def read_arrays(path: Path, leaves: Json, target: Any) -> dict[str, np.ndarray]:
    """Read the arrays that a target has, and check each.

    Args:
        path: the checkpoint's folder.
        leaves: the manifest's description of each by name.
        target: the pytree to restore, which fits.

    Raises:
        DamagedError: if one cannot be read, or is not the one that was saved.
        OSError: if the system refuses to read it.
    """
    expected = {name: x for name, x in trees.stored(target).items() if name in leaves}
    for name, (dtype, shape, impl) in expected.items():
        leaf = leaves[name]
        described = (leaf["dtype"], tuple(leaf["shape"]), leaf["key_impl"])
        if described != (str(dtype), shape, impl):
            raise DamagedError(f"leaf {name}: type or shape differs")
    whole = sum(8 * math.prod(leaf["shape"]) for leaf in leaves.values())
    orbax_file.require_plain_files(path, whole)
    saved = orbax_file.load(
        path,
        {
            name: orbax_file.Stored(leaves[name]["stored_as"], dtype, shape)
            for name, (dtype, shape, _) in expected.items()
            if math.prod(shape) and leaves[name]["stored_as"] is not None  # else it is all zeros
        },
    )
    arrays = {}
    for name, (dtype, shape, _) in expected.items():
        array = saved.get(name, np.zeros(shape, dtype))
        if zlib.crc32(trees.bytes_of(array)) != leaves[name]["crc32"]:
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
    branches = [_under(optional, names) for names in (asked, saved)]
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


def _under(branch: str | None, names: Iterable[str]) -> set[str]:
    """Return the names of the leaves in a branch of the tree's root, or of the branch itself."""
    return {name for name in names if name.split("/")[0] == branch}
