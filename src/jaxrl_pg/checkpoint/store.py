"""Checkpoints: any pytree and the host's counters, saved in the background, atomically.

A checkpoint is the folder `<directory>/<step>`, written by Orbax under another name and renamed
when complete. It holds one array of bytes, the leaves one after the other, and a manifest (JSON,
Orbax's custom metadata) that names each leaf with its type, size and checksum. So the layout
knows no container type and no device, and a save costs the same for one leaf as for a thousand.
"""

import contextlib
import importlib.metadata
import json
import math
import platform
import shutil
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg.checkpoint import orbax_file, packing
from jaxrl_pg.checkpoint.packing import spec

__all__ = [
    "Checkpoints",
    "Found",
    "Restored",
    "find",
    "newest_host",
    "place",
    "restore",
    "spec",
    "steps",
]

CHUNK = 1 << 24  # bytes compressed and written as one piece
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
Json = dict[str, Any]
Folder = Path | str


class Restored(NamedTuple):
    """What `restore` found."""

    step: int
    state: Any  # structure, dtypes and shardings of the target
    host: Json  # as JSON gives it back: tuples have become lists
    skipped: tuple[str, ...]  # one line for each newer checkpoint passed over, and why


class Found(NamedTuple):
    """A checkpoint read, but not yet made into arrays of a target."""

    step: int
    leaves: Json  # each leaf's description by name
    data: dict[str, np.ndarray]  # each leaf's bytes
    host: Json
    skipped: tuple[str, ...]


class _DamagedError(Exception):
    """A checkpoint that cannot be trusted; the message says why."""


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one run, for its one writer. Use `with`: only `close` ends a save."""

    def __init__(self, directory: Folder, *, keep_last: int = 3, keep_best: bool = True) -> None:
        """Make the folder; clear what killed processes left half written or half deleted.

        Args:
            directory: of the checkpoints.
            keep_last: how many of the newest are kept; never fewer than two.
            keep_best: whether the one with the highest metric is kept as well.
        """
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        for pattern in ("*.orbax-checkpoint-tmp*", "*.deleted"):
            for leftover in self.directory.glob(pattern):
                shutil.rmtree(leftover)
        self._keep_last, self._keep_best = max(keep_last, 2), keep_best
        self._metrics: dict[int, float | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __exit__(self, *_: object) -> None:
        """Finish the save in progress, if any."""
        self.close()

    def save(self, step: int, state: Any, host: Json, metric: float | None = None) -> None:
        """Wait for the save before, copy the state, and save it in the background.

        Args:
            step: names the checkpoint, 0 or more, larger is newer; nothing is done if it exists.
            state: a pytree of JAX or NumPy arrays; it may be donated or changed on return.
            host: JSON values to keep beside it.
            metric: ranks the checkpoint, higher is better; None, NaN and infinities never do.

        Raises:
            ValueError: if a leaf is no array.
            TypeError: if `host` is no JSON.
            RuntimeError: if the save before failed.
        """
        self.wait()
        if step in self.steps():
            return
        packed, leaves = packing.pack(packing.leaves_by_path(state), CHUNK)
        manifest = {
            "format": 1,
            "step": int(step),
            "metric": float(metric) if metric is not None and math.isfinite(metric) else None,
            "host": json.loads(json.dumps(host)),
            "leaves": leaves,
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
        self._pending = self._thread.submit(self._write, packed, manifest)

    def wait(self) -> None:
        """Wait until the last save is on disk; RuntimeError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the last save and end the thread; twice does no harm."""
        self._thread.shutdown()
        self.wait()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return steps(self.directory)

    def rewind(self, step: int) -> None:
        """Delete what is newer than the restored `step`: damaged, or a future not taken."""
        self.wait()
        self._delete([found for found in self.steps() if found > step])

    def _write(self, packed: np.ndarray, manifest: Json) -> None:
        path = self.directory / str(manifest["step"])
        try:
            for name, data in packing.split(packed, manifest["leaves"]).items():
                manifest["leaves"][name]["crc32"] = zlib.crc32(data.data)
            sealed = {"manifest": manifest, "crc32": _crc32_of_json(manifest)}
            orbax_file.save(path, packed, sealed, CHUNK)
            self._prune(manifest["step"])
        except Exception as error:
            raise RuntimeError(f"saving {path} failed: {_reason(error)}") from error

    def _prune(self, saved: int) -> None:
        found = self.steps()
        for step in set(found) - self._metrics.keys():
            self._metrics[step] = None
            with contextlib.suppress(_DamagedError):
                self._metrics[step] = _read_manifest(self.directory / str(step))["metric"]
        kept = {saved, *found[-self._keep_last :]}
        ranked = [(metric, s) for s in found if (metric := self._metrics[s]) is not None]
        if ranked and self._keep_best:
            kept.add(max(ranked)[1])
        self._delete([step for step in found if step not in kept])

    def _delete(self, unwanted: list[int]) -> None:
        """Rename first, which is atomic: no half-deleted checkpoint is ever listed."""
        for step in unwanted:
            doomed = self.directory / f"{step}.deleted"
            (self.directory / str(step)).rename(doomed)
            shutil.rmtree(doomed)
            self._metrics.pop(step, None)


def restore(
    directory: Folder, target: Any, step: int | None = None, optional: str | None = None
) -> Restored:
    """Restore the newest good checkpoint, or the one of `step` and no other.

    Args:
        directory: of the checkpoints.
        target: pytree of arrays or `jax.ShapeDtypeStruct`s, such as a fresh state. A committed
            array, or a struct with a sharding, says where its leaf goes; others go uncommitted
            to the default device, as fresh ones do. NumPy leaves stay NumPy.
        step: of the wanted checkpoint, None for the newest good one.
        optional: a branch that the target may lack though the checkpoint has it.

    Raises:
        ValueError: if there is no such checkpoint, none is good, or the target's leaves differ.
    """
    found = find(directory, target, step, optional)
    return Restored(found.step, place(found, target), found.host, found.skipped)


def find(
    directory: Folder, target: Any, step: int | None = None, optional: str | None = None
) -> Found:
    """Read what `restore` restores. For several processes: one reads, and all `place` it.

    The `optional` branch may be missing from the checkpoint too, and then from what is found.
    """
    found, skipped = steps(directory), []
    if not found:
        why = "no save was finished" if Path(directory).is_dir() else "there is no such folder"
        raise ValueError(f"no checkpoint in {directory}: {why}")
    if step is not None and step not in found:
        raise ValueError(f"no checkpoint {step} in {directory}: choose from {found}")
    for candidate in found[::-1] if step is None else [step]:
        path = Path(directory).absolute() / str(candidate)
        try:
            manifest = _read_manifest(path)
            _check_spec(manifest, spec(target), directory, optional)
            data = _read_leaves(path, manifest["leaves"])
        except _DamagedError as error:
            skipped.append(f"checkpoint {candidate} is damaged ({error})")
            continue
        lines = tuple(f"{line}; restored {candidate}" for line in skipped)
        return Found(candidate, manifest["leaves"], data, manifest["host"], lines)
    raise ValueError(f"no good checkpoint in {directory}: {'; '.join(skipped)}")


def place(found: Found, target: Any) -> Any:
    """The state of a checkpoint, its leaves where the target's are; see `restore`."""
    leaves = packing.leaves_by_path(target)
    placed = [packing.place(found.data[k], found.leaves[k], leaf) for k, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(target), placed)


def newest_host(directory: Folder) -> Json:
    """What was kept beside the newest state whose manifest can be read; empty if there is none."""
    for step in steps(directory)[::-1]:
        with contextlib.suppress(_DamagedError):
            return dict(_read_manifest(Path(directory).absolute() / str(step))["host"])
    return {}


def steps(directory: Folder) -> list[int]:
    """Steps of the finished checkpoints in a folder, oldest first; none if it is missing."""
    return sorted(int(path.name) for path in Path(directory).glob("*") if path.name.isdecimal())


def _read_manifest(path: Path) -> Json:
    try:
        sealed = orbax_file.metadata(path)
        manifest, crc32 = sealed["manifest"], sealed["crc32"]
    except Exception as error:
        raise _DamagedError(f"manifest: {_reason(error)}") from error
    if crc32 != _crc32_of_json(manifest):
        raise _DamagedError("manifest: checksum differs")
    return manifest


def _read_leaves(path: Path, leaves: Json) -> dict[str, np.ndarray]:
    try:
        data = packing.split(orbax_file.load(path), leaves)
    except Exception as error:
        raise _DamagedError(f"leaves: {_reason(error)}") from error
    for name, leaf in leaves.items():
        if zlib.crc32(data[name].data) != leaf["crc32"]:
            raise _DamagedError(f"leaf {name}: checksum differs")
    return data


def _check_spec(
    manifest: Json, wanted: dict[str, str], directory: Folder, optional: str | None
) -> None:
    saved = {name: leaf["spec"] for name, leaf in manifest["leaves"].items()}
    differing = [name for name in {**wanted, **saved} if saved.get(name) != wanted.get(name)]
    branches = [{n for n in names if n.startswith(f"{optional}/")} for names in (wanted, saved)]
    if not all(branches):
        differing = [name for name in differing if name not in set.union(*branches)]
    lines = [f"checkpoint {manifest['step']} in {directory} does not fit this config:"]
    for name in differing[:8]:
        here, there = wanted.get(name, "nothing"), saved.get(name, "nothing")
        lines.append(f"{name}: checkpoint {there}, config {here}")
    if len(differing) > 8:
        lines.append(f"and {len(differing) - 8} more")
    if differing:
        raise ValueError("\n  ".join(lines))


def _crc32_of_json(manifest: Json) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _reason(error: BaseException) -> str:
    """The root of an error, in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
