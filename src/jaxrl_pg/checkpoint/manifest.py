"""The manifest of a checkpoint: JSON that names each leaf with its type, shape and checksum.

{"manifest": {"format": 2, "step": ..., "run": ..., "metric": ..., "host": ..., "leaves": {...},
              "python": ..., "versions": {...}},
 "crc32": the checksum of the manifest itself}

A folder is one of ours by what is in its manifest: the step that is its name, and the id of the
run. What was renamed, swapped or copied from elsewhere is thereby known.
"""

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from jaxrl_pg import files
from jaxrl_pg.checkpoint import orbax_file
from jaxrl_pg.checkpoint.errors import DamagedError, ForeignError, is_missing, reason
from jaxrl_pg.files import schema

__all__ = ["FORMAT", "candidates", "read", "seal", "step_of", "steps"]

FORMAT = 2
Json = dict[str, Any]

_STEP = re.compile(r"0|[1-9][0-9]{0,17}")


class _Versioned(TypedDict):
    format: int


class _Sealed(TypedDict):
    manifest: _Versioned
    crc32: schema.Count


class _Leaf(TypedDict):
    spec: str
    dtype: str
    shape: list[schema.Count]
    key_impl: str | None
    stored_as: str
    crc32: schema.Count


class _Manifest(TypedDict):
    step: schema.Count
    metric: float | None
    host: dict[str, Any]
    leaves: dict[str, _Leaf]
    run: NotRequired[str]


def steps(directory: Path | str) -> list[int]:
    """List the steps of a folder's finished checkpoints, oldest first; none if it is missing.

    A folder counts if its name is a number and Orbax has finished it. A link never counts.
    """
    directory = Path(directory)
    return [step for step in candidates(directory) if orbax_file.is_finished(directory / str(step))]


def candidates(directory: Path | str) -> list[int]:
    """List the steps of the finished checkpoints, and of what damage or a link has left of such.

    A file, or a folder that was never a checkpoint, is somebody else's and is not listed.
    """
    directory = Path(directory)
    files.require_no_link(directory)
    try:
        names = [path.name for path in directory.iterdir()]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise ValueError(f"{directory} is no folder: move it away") from None
    numbers = sorted(int(name) for name in names if _STEP.fullmatch(name))
    places = {n: directory / str(n) for n in numbers}
    return [n for n, path in places.items() if path.is_symlink() or orbax_file.is_tree(path)]


def step_of(directory: Path | str, which: Any, run: str | None = None) -> int | None:
    """Return the step of the checkpoint that a user asks for; None is the newest good one.

    Args:
        directory: the folder of the checkpoints.
        which: a step, also in text; "best", the one with the highest metric, of equal ones the
            newest; or "latest" or None.
        run: the id of the run that must have saved the best, "" for one without; None for any.

    Raises:
        ValueError: if `which` is none of these, or no checkpoint has a metric; the steps of those
            that there are are named.
    """
    if which is None or which == "latest":
        return None
    if isinstance(which, str) and _STEP.fullmatch(which):
        return int(which)
    if type(which) is int and which >= 0:
        return which
    directory, found = Path(directory).absolute(), steps(directory)
    if which != "best":
        raise ValueError(f"step={which!r}: give latest, best, or one of {found} ({directory})")
    ranked = []
    for step in found:
        with contextlib.suppress(DamagedError):
            metric = read(directory / str(step), step, run)["metric"]
            ranked += [] if metric is None else [(metric, step)]
    if not ranked:
        raise ValueError(
            f"step='best' and no checkpoint in {directory} was evaluated: give latest, or one of "
            f"{found}"
        )
    return max(ranked)[1]


def seal(manifest: Json) -> Json:
    """Add a checksum to a manifest."""
    return {"manifest": manifest, "crc32": _checksum(manifest)}


def read(path: Path, step: int | None = None, run: str | None = None) -> Json:
    """Read the manifest of a checkpoint.

    Args:
        path: the checkpoint's folder.
        step: the step that it must be of; None for any.
        run: the id of the run that it must be of, "" for one without; None for any.

    Raises:
        DamagedError: if it is missing, is no manifest, or its checksum differs.
        ForeignError: if it is of another step or run.
        ValueError: if another version of this library wrote it in another format.
        OSError: if it cannot be read.
    """
    if path.is_symlink():
        raise DamagedError(f"it is a link to {path.readlink()}, and none is followed")
    try:
        sealed = schema.check(orbax_file.metadata(path), _Sealed, "manifest", "", "damaged")
        manifest: Json = sealed["manifest"]
    except OSError as error:
        if is_missing(error):
            raise DamagedError(f"manifest: {reason(error)}") from error
        raise
    except Exception as error:
        raise DamagedError(f"manifest: {reason(error)}") from error
    if sealed["crc32"] != _checksum(manifest):
        raise DamagedError("manifest: checksum differs")
    if manifest["format"] != FORMAT:
        version = "an earlier" if manifest["format"] < FORMAT else "a later"
        raise ValueError(
            f"{path} was written by {version} version of jaxrl-pg (format {manifest['format']}, "
            f"this one reads {FORMAT}): go on with that version, or train again in a new folder"
        )
    try:
        schema.check(manifest, _Manifest, "manifest", "", "damaged")
    except ValueError as error:
        raise DamagedError(reason(error)) from error
    if step is not None and manifest["step"] != step:
        raise ForeignError(f"it was saved as checkpoint {manifest['step']}")
    if run is not None and manifest.get("run", "") != run:
        raise ForeignError("it was saved by another run")
    return manifest


def _checksum(manifest: Json) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
