"""The manifest of a checkpoint: JSON that names each leaf with its type, shape and checksum.

{"manifest": {"format": 2, "step": ..., "metric": ..., "host": ..., "leaves": {...},
              "python": ..., "versions": {...}},
 "crc32": the checksum of the manifest itself}
"""

import json
import zlib
from pathlib import Path
from typing import Any

from jaxrl_pg.checkpoint import orbax_file
from jaxrl_pg.checkpoint.errors import DamagedError, reason

__all__ = ["FORMAT", "read", "seal", "steps"]

FORMAT = 2
Json = dict[str, Any]


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
        ValueError: if another version of this library wrote it in another format.
    """
    try:
        sealed = orbax_file.metadata(path)
        manifest, crc32 = sealed["manifest"], sealed["crc32"]
    except Exception as error:
        raise DamagedError(f"manifest: {reason(error)}") from error
    if crc32 != _checksum(manifest):
        raise DamagedError("manifest: checksum differs")
    if manifest["format"] != FORMAT:
        version = "an earlier" if manifest["format"] < FORMAT else "a later"
        raise ValueError(
            f"{path} was written by {version} version of jaxrl-pg (format {manifest['format']}, "
            f"this one reads {FORMAT}): go on with that version, or train again in a new folder"
        )
    return manifest


def _checksum(manifest: Json) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
