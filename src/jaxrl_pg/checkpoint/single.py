"""One checkpoint at a path of its own, such as that of a policy: saved once, then only read."""

import os
from pathlib import Path
from typing import Any

from jaxrl_pg import files
from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, reading, writing
from jaxrl_pg.checkpoint.added import with_added
from jaxrl_pg.checkpoint.errors import DamagedError

__all__ = ["host_of", "is_checkpoint", "load_tree", "save_tree"]

Json = dict[str, Any]


def save_tree(path: Path | str, tree: Any, host: Json, step: int = 0) -> None:
    """Save a pytree to a new folder, which appears only once it is complete.

    Args:
        path: the folder; the ones above it are made.
        tree: a pytree of JAX or NumPy arrays.
        host: JSON values to keep beside it.
        step: a number to keep with it.

    Raises:
        ValueError: if there is something at the path, or a leaf is no array.
    """
    path = files.as_path(path).absolute()
    if os.path.lexists(path):
        raise ValueError(f"{path} exists: choose another path, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    orbax_file.clear_unfinished(path.parent, path.name)
    writing.write(path, writing.take(tree, host, step))


def is_checkpoint(path: Path | str) -> bool:
    """Return whether a folder is a checkpoint, good or damaged."""
    return (Path(path) / orbax_file.METADATA).is_file()


def host_of(path: Path | str) -> Json:
    """Return the JSON values beside a saved tree.

    Raises:
        ValueError: if they cannot be read, or another version wrote them.
    """
    return dict(_manifest(files.as_path(path).absolute())["host"])


def load_tree(path: Path | str, target: Any) -> Any:
    """Restore what `save_tree` saved, every leaf checked.

    Args:
        path: the folder.
        target: pytree of arrays or `jax.ShapeDtypeStruct`s, as for `restore`.

    Raises:
        ValueError: if it is damaged, or the target's leaves differ.
    """
    path = files.as_path(path).absolute()
    manifest = _manifest(path)
    manifest["leaves"] = with_added(manifest["leaves"], target)
    reading.require_fit(manifest, target, str(path))
    try:
        data = reading.read_arrays(path, manifest["leaves"], target)
    except DamagedError as error:
        raise ValueError(f"{path} is damaged ({error}): save it again") from error
    result = reading.Found(manifest["step"], manifest["leaves"], data, manifest["host"], ())
    return reading.place(result, target)


def _manifest(path: Path) -> Json:
    try:
        return manifests.read(path)
    except DamagedError as error:
        raise ValueError(f"{path} is damaged ({error}): save it again") from error
