"""Checkpoints: any pytree and the host's counters, saved in the background, atomically.

A checkpoint is the folder `<directory>/<step>`, written by Orbax under another name and renamed
when complete. It holds one array of bytes, the leaves one after the other, and a manifest (JSON,
Orbax's custom metadata) that names each leaf with its type, size and checksum. So the layout
knows no container type and no device, and a save costs the same for one leaf as for a thousand.
"""

import functools
import importlib.metadata
import json
import logging
import math
import operator
import platform
import re
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

__all__ = ["Checkpoints", "Restored", "restore", "spec", "steps"]

# Orbax logs through absl; what matters of it is raised here, or said in `Restored.skipped`.
logging.getLogger("absl").setLevel(logging.CRITICAL)

FORMAT = 1
CHUNK = 1 << 24  # bytes compressed and written as one piece


class Restored(NamedTuple):
    """What `restore` found.

    Attributes:
        step: of the checkpoint.
        state: the pytree, with the structure, dtypes and shardings of the target.
        host: the host's dict, as JSON gives it back.
        skipped: one line for each newer checkpoint that was passed over, with the reason.
    """

    step: int
    state: Any
    host: dict[str, Any]
    skipped: tuple[str, ...]


class _DamagedError(Exception):
    """A checkpoint that cannot be trusted; the message says why."""


class Checkpoints:
    """The checkpoints of one run, for its one writer: use it as a context manager.

    A save goes on in the background; one that fails raises RuntimeError at the next call.
    """

    def __init__(
        self, directory: Path | str, *, keep_last: int = 3, keep_best: bool = True
    ) -> None:
        """Make the folder; clear what killed processes left half written or half deleted.

        Args:
            directory: of the checkpoints.
            keep_last: how many of the newest are kept; at least two are, whatever this says.
            keep_best: whether the one with the highest metric is kept as well.

        Raises:
            ValueError: if `keep_last` is below 1, or several processes share the program.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last={keep_last}: keep at least 1 checkpoint")
        if jax.process_count() > 1:
            raise ValueError(f"{jax.process_count()} processes: checkpoints need a single one")
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if path.is_dir() and re.fullmatch(r"\d+\..+", path.name):
                shutil.rmtree(path)
        self._keep_last = max(keep_last, 2)
        self._keep_best = keep_best
        self._metrics: dict[int, float | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        """Nothing to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the save in progress, if any."""
        self.close()

    def save(
        self, step: int, state: Any, host: dict[str, Any], metric: float | None = None
    ) -> None:
        """Copy the state and save it in the background; a step that exists is left as it is.

        Waits for the save before. The state may be donated or changed on return.

        Args:
            step: names the checkpoint, 0 or more; larger is newer.
            state: a pytree of JAX or NumPy arrays, typed keys included.
            host: JSON values to keep beside it.
            metric: ranks the checkpoint, higher is better; None, NaN and infinities never do.

        Raises:
            ValueError: if the step is negative, a leaf is no array, or `host` is no JSON.
            RuntimeError: if the save before failed.
        """
        self.wait()
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"step={step}: a checkpoint's step is 0 or more")
        if (self.directory / str(step)).exists():
            return
        packed, leaves = _pack(_leaves(state))
        manifest = {
            "format": FORMAT,
            "step": step,
            "metric": float(metric) if metric is not None and math.isfinite(metric) else None,
            "host": _json_copy(host),
            "leaves": leaves,
            "versions": _versions(),
        }
        self._pending = self._thread.submit(self._write, packed, manifest)

    def wait(self) -> None:
        """Wait until the last save is on disk; RuntimeError if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the last save and end the thread; twice does no harm."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return steps(self.directory)

    def rewind(self, step: int) -> None:
        """Delete the checkpoints newer than `step`: damaged ones, or of a future not taken.

        For a run that goes on from a restored `step`; a later restore would return to them.
        """
        self.wait()
        self._delete([found for found in self.steps() if found > step])

    def _write(self, packed: np.ndarray, manifest: dict[str, Any]) -> None:
        step = manifest["step"]
        try:
            for name, data in _split(packed, manifest):
                manifest["leaves"][name]["crc32"] = zlib.crc32(data.data)
            manifest["crc32"] = _manifest_crc32(manifest)
            options = ocp.Context()
            options.array_options.saving.storage_options.chunk_byte_size = CHUNK
            options.memory_options.deepcopy_host_arrays = False  # nobody else writes to packed
            with options:
                ocp.save(self.directory / str(step), {"leaves": packed}, custom_metadata=manifest)
            self._metrics[step] = manifest["metric"]
            self._prune(step)
        except Exception as error:
            raise RuntimeError(
                f"saving checkpoint {step} in {self.directory} failed: {_reason(error)}"
            ) from error

    def _prune(self, saved: int) -> None:
        found = self.steps()
        for step in found:
            if step not in self._metrics:
                self._metrics[step] = _read_metric(self.directory / str(step))
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


def restore(directory: Path | str, target: Any, step: int | None = None) -> Restored:
    """Restore the newest good checkpoint, or the one of `step` and no other.

    Args:
        directory: of the checkpoints.
        target: pytree of arrays or `jax.ShapeDtypeStruct`s, such as a fresh state. A committed
            array, or a struct with a sharding, says where its leaf goes; others go uncommitted
            to the default device, as fresh ones do. NumPy leaves stay NumPy.
        step: of the wanted checkpoint, None for the newest good one.

    Raises:
        ValueError: if there is no such checkpoint, none is good, or the target's leaves differ.
    """
    leaves = _leaves(target)
    skipped: list[str] = []
    for candidate in _candidates(directory, step):
        path = Path(directory).absolute() / str(candidate)
        try:
            manifest = _read_manifest(path)
            _check_spec(manifest, spec(target), directory)
            data = _read_leaves(path, manifest)
        except _DamagedError as error:
            skipped.append(f"checkpoint {candidate} is damaged ({error})")
            continue
        placed = [_place(data[k], leaf, manifest["leaves"][k]) for k, leaf in leaves.items()]
        state = jax.tree.unflatten(jax.tree.structure(target), placed)
        lines = tuple(f"{line}; restored {candidate}" for line in skipped)
        return Restored(candidate, state, manifest["host"], lines)
    raise ValueError(f"no good checkpoint in {directory}: {'; '.join(skipped)}")


def steps(directory: Path | str) -> list[int]:
    """Steps of the finished checkpoints in a folder, oldest first; none if it is missing."""
    path = Path(directory)
    if not path.is_dir():
        return []
    return sorted(int(p.name) for p in path.iterdir() if p.name.isdecimal() and p.is_dir())


def spec(tree: Any) -> dict[str, str]:
    """Type and shape of every leaf by its path: `{"params/kernel": "float32[4,64]"}`."""
    return {
        name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for name, leaf in _leaves(tree).items()
    }


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves by path, in the tree's order."""
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            raise ValueError(f"leaf {name} is {leaf!r}: make it an array, jnp.asarray({leaf!r})")
        if leaf.dtype == np.dtype(object):
            raise ValueError(f"leaf {name} holds Python objects: give it a numeric dtype")
        if name in leaves:
            raise ValueError(f"two leaves are called {name}: use no '/' in the name of one")
        leaves[name] = leaf
    return leaves


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _pack(leaves: dict[str, Any]) -> tuple[np.ndarray, dict[str, dict[str, Any]]]:
    """Copy all leaves into one array of bytes, in rows of `CHUNK`, and describe each."""
    raw = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in leaves.values()]
    arrays = jax.device_get(raw)
    total = sum(array.nbytes for array in arrays)
    rows = math.ceil(total / CHUNK) if total > CHUNK else 1
    packed = np.zeros((rows, CHUNK if rows > 1 else max(total, 1)), np.uint8)
    described = {name: {"spec": s} for name, s in spec(leaves).items()}
    flat, offset = packed.reshape(-1), 0
    for name, array in zip(leaves, arrays, strict=True):
        flat[offset : offset + array.nbytes] = np.ravel(array).view(np.uint8)
        offset += array.nbytes
        described[name]["bytes"] = array.nbytes
        if _is_key(leaves[name]):
            described[name]["key_impl"] = str(jax.random.key_impl(leaves[name]))
    return packed, described


def _split(packed: np.ndarray, manifest: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The bytes of each leaf; too few where `packed` is cut short."""
    flat, offset = packed.reshape(-1), 0
    for name, leaf in manifest["leaves"].items():
        yield name, flat[offset : offset + leaf["bytes"]]
        offset += leaf["bytes"]


def _place(data: np.ndarray, leaf: Any, described: dict[str, Any]) -> Any:
    """The bytes of a leaf as an array like `leaf`, where `leaf` is."""
    if isinstance(leaf, np.ndarray | np.generic):
        return data.view(leaf.dtype).reshape(leaf.shape).copy()
    committed = isinstance(leaf, jax.ShapeDtypeStruct) or leaf.committed
    sharding = leaf.sharding if committed else None
    if _is_key(leaf):
        words = jnp.asarray(data.view(np.uint32).reshape(*leaf.shape, -1))
        key = jax.random.wrap_key_data(words, impl=described["key_impl"])
        return key if sharding is None else jax.device_put(key, sharding)
    return jax.device_put(data.view(leaf.dtype).reshape(leaf.shape), sharding, may_alias=False)


def _candidates(directory: Path | str, step: int | None) -> list[int]:
    """The steps to try, newest first."""
    if not (found := steps(directory)):
        why = "no save was finished" if Path(directory).is_dir() else "there is no such folder"
        raise ValueError(f"no checkpoint in {directory}: {why}")
    if step is not None and step not in found:
        choice = ", ".join(map(str, found))
        raise ValueError(f"no checkpoint {step} in {directory}: choose from {choice}")
    return found[::-1] if step is None else [step]


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = ocp.metadata(path).custom_metadata
    except Exception as error:
        raise _DamagedError(f"manifest: {_reason(error)}") from error
    if not isinstance(manifest, dict) or manifest.get("crc32") != _manifest_crc32(manifest):
        raise _DamagedError("manifest: checksum differs")
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {manifest['format']}, but this version reads {FORMAT}: restore "
            f"it with the versions that saved it, {manifest['versions']}"
        )
    return manifest


def _read_metric(path: Path) -> float | None:
    try:
        return _read_manifest(path)["metric"]
    except (_DamagedError, ValueError):
        return None


def _read_leaves(path: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """The bytes of every leaf, checked."""
    try:
        data = dict(_split(ocp.load(path)["leaves"], manifest))
    except Exception as error:
        raise _DamagedError(f"leaves: {_reason(error)}") from error
    for name, leaf in manifest["leaves"].items():
        if data[name].size != leaf["bytes"] or zlib.crc32(data[name].data) != leaf["crc32"]:
            raise _DamagedError(f"leaf {name}: checksum differs")
    return data


def _check_spec(manifest: dict[str, Any], wanted: dict[str, str], directory: Path | str) -> None:
    saved = {name: leaf["spec"] for name, leaf in manifest["leaves"].items()}
    lines = [
        f"{name}: checkpoint {saved.get(name, 'nothing')}, config {wanted.get(name, 'nothing')}"
        for name in {**wanted, **saved}
        if saved.get(name) != wanted.get(name)
    ]
    if lines:
        more = [f"and {len(lines) - 8} more"] if len(lines) > 8 else []
        listing = "\n  ".join([*lines[:8], *more])
        step = manifest["step"]
        raise ValueError(f"checkpoint {step} in {directory} does not fit this config:\n  {listing}")


def _manifest_crc32(manifest: dict[str, Any]) -> int:
    rest = {name: value for name, value in manifest.items() if name != "crc32"}
    return zlib.crc32(json.dumps(rest, sort_keys=True).encode())


def _json_copy(host: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(host))
    except (TypeError, ValueError) as error:
        raise ValueError(f"host is no JSON ({error}): use plain Python values") from error


def _reason(error: BaseException) -> str:
    """The root of an error, in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    first_line = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line}"[:200]


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}
