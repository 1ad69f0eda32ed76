"""The manifest of a checkpoint: JSON that names each leaf with its type, size and checksum.

{"manifest": {"format": 1, "step": ..., "metric": ..., "host": ..., "leaves": {...},
              "python": ..., "versions": {...}},
 "crc32": the checksum of the manifest itself}
"""

import json
import zlib
from pathlib import Path
from typing import Any

from jaxrl_pg.checkpoint import orbax_file

__all__ = ["DamagedError", "read", "reason", "seal", "steps"]

Json = dict[str, Any]


class DamagedError(Exception):
    """A checkpoint that cannot be trusted; the message says why."""


def steps(directory: Path | str) -> list[int]:
    """List the steps of a folder's finished checkpoints, oldest first; none if it is missing."""
    return sorted(int(path.name) for path in Path(directory).glob("*") if path.name.isdecimal())


def seal(manifest: Json) -> Json:
    """Add a checksum to a manifest."""
    return {"manifest": manifest, "crc32": _checksum(manifest)}


def read(path: Path) -> Json:
    """Read the manifest of a checkpoint.

    Args:
        path: the checkpoint's folder.

    Raises:
        DamagedError: if it cannot be read, or its checksum differs.
    """
    try:
        sealed = orbax_file.metadata(path)
        manifest, crc32 = sealed["manifest"], sealed["crc32"]
    except Exception as error:
        raise DamagedError(f"manifest: {reason(error)}") from error
    if crc32 != _checksum(manifest):
        raise DamagedError("manifest: checksum differs")
    return manifest


def reason(error: BaseException) -> str:
    """Return the root of a chain of errors in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _checksum(manifest: Json) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
