"""Named arrays and their metadata on disk: the only file that uses Orbax and TensorStore.

What is written is an ordinary Orbax checkpoint, which any program can open:

    from orbax.checkpoint import v1 as ocp
    tree = ocp.load("/absolute/path/runs/demo/checkpoints/40")
    kernel = tree["learner"]["params"]["params"]["policy_torso"]["Dense_0"]["kernel"]

Both are imported where they are used: together they take a third of a second, which a run would
spend before its first step and now spends beside training, in the thread that saves.
"""

import contextlib
import errno
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import files
from jaxrl_pg.checkpoint.errors import DamagedError, is_missing, reason, refusal

__all__ = [
    "METADATA",
    "Stored",
    "clear_unfinished",
    "is_finished",
    "is_tree",
    "load",
    "metadata",
    "require_plain_files",
    "save",
]

Json = dict[str, Any]

METADATA = "_CHECKPOINT_METADATA"  # Orbax's file of JSON, the last that it writes

_MANIFEST, _UNMERGED = "manifest.ocdbt", "ocdbt.process_0"
_SMALL = 1 << 26  # bytes of a file without arrays, at most
_EMPTY = {"empty": np.zeros(1, np.uint8)}  # stands for a tree without leaves, which Orbax refuses


class Stored(NamedTuple):
    """One array as it was saved.

    Attributes:
        name: the one that Orbax stored it under: the parts of its path, joined with dots.
        dtype: its type.
        shape: its shape.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


def _quiet() -> None:
    """Keep Orbax, once it is imported, from logging through absl: what goes wrong is raised."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)


def save(path: Path, tree: Any, described: Json, chunk: int) -> None:
    """Write a new folder, which gets its name only once it is complete.

    Args:
        path: the folder.
        tree: dicts in dicts of NumPy arrays with elements; they must not change meanwhile.
        described: JSON values to keep with it.
        chunk: bytes compressed and written as one piece.

    Raises:
        ValueError: for a path that Orbax would read as a pattern.
    """
    files.require_no_pattern(path)
    tree = _EMPTY if isinstance(tree, dict) and not tree else tree
    if jax.process_count() > 1:
        _save_alone(path, tree, described, chunk)
        return
    from orbax.checkpoint import v1 as ocp

    _quiet()
    options = ocp.Context()
    options.array_options.saving.storage_options.chunk_byte_size = chunk
    options.memory_options.deepcopy_host_arrays = False
    with options, _one_error():
        ocp.save(path, tree, custom_metadata=described)


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """Let a save that fails say so once.

    Orbax closes its event loop at the first array that cannot be written, and each later one that
    fails would print a traceback of the closed loop, some of them after the save has raised.
    """
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, trace: Any) -> None:
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            before(kind, error, trace)

    sys.excepthook = hook
    yield
    if sys.excepthook is hook:
        sys.excepthook = before


def load(path: Path, stored: dict[str, Stored]) -> dict[str, np.ndarray]:
    """Read some arrays.

    This goes straight to the library that Orbax stores arrays with. Orbax's own `load` closes its
    event loop at the first damaged array, and the reads still under way print their complaints.
    What the files claim is compared with what was saved before there is memory for it.

    Args:
        path: the folder.
        stored: what was saved, by the name of each array.

    Raises:
        DamagedError: naming the first array that is missing, or is not what was saved.
        OSError: if the system refuses to read it.
    """
    import tensorstore

    files_at = {"driver": "file", "path": f"{_merged(path / 'state')}/"}
    context = tensorstore.Context()
    opening, reading, arrays = {}, {}, {}
    name = ""
    try:
        for name, array in stored.items():
            store = {"driver": "ocdbt", "base": files_at, "path": f"{array.name}/"}
            described = {"driver": "zarr3", "kvstore": store}
            opening[name] = tensorstore.open(described, context=context, open=True, read=True)
        for name, opened in opening.items():
            _require_as_saved(opened.result(), stored[name])
        for name, opened in opening.items():
            reading[name] = opened.result().read()
        for name, read in reading.items():
            arrays[name] = np.asarray(read.result())
    except DamagedError as error:
        raise DamagedError(f"leaf {name}: {error}") from error
    except MemoryError as error:
        raise OSError(errno.ENOMEM, f"no memory for leaf {name}", str(path)) from error
    except Exception as error:
        refused = refusal(error, str(path / "state"))
        if refused is not None and not is_missing(refused):
            raise refused from error
        raise DamagedError(f"leaf {name}: {reason(error)}") from error
    return arrays


def _merged(state: Path) -> Path:
    """Where arrays are: in what Orbax merged, or where it found nothing to merge, in that itself.

    It looks for that with a pattern, so that below a folder with [ in its name it finds nothing.
    """
    alone = state / _UNMERGED
    return alone if not files.is_file(state / _MANIFEST) and files.is_folder(alone) else state


def require_plain_files(path: Path, num_bytes: int) -> None:
    """Go through a folder before anything is read from it.

    Args:
        path: the folder.
        num_bytes: of all arrays that were saved; no file holds many times more.

    Raises:
        DamagedError: if it holds a link, anything else than folders and plain files, or a file
            that is larger than such a folder has.
        OSError: if a file or folder cannot be opened.
    """
    for place, _, names in os.walk(path, onerror=_raise_unless_missing):
        for inside in sorted(Path(place).iterdir()):
            if inside.is_symlink() or not (files.is_file(inside) or files.is_folder(inside)):
                raise DamagedError(f"{inside.relative_to(path)} is no plain file")
        for name in names:
            limit = _SMALL + (2 * num_bytes if Path(place).name == "d" else 0)
            _require_readable(Path(place) / name, limit)


def metadata(path: Path) -> Json:
    """Read the JSON values kept with it; raises whatever is wrong if they cannot be read.

    Orbax's own function opens every array first.
    """
    text = files.read_text(path / METADATA, _SMALL)
    return dict(json.loads(text)["custom_metadata"])


def is_finished(path: Path) -> bool:
    """Return whether a folder, and no link, is one that Orbax has finished."""
    return files.is_folder(path) and files.is_file(path / METADATA)


def is_tree(path: Path) -> bool:
    """Return whether a folder, and no link, is one of Orbax's, finished or what is left of one."""
    return files.is_folder(path) and (
        files.is_folder(path / "state") or os.path.lexists(path / METADATA)
    )


def clear_unfinished(directory: Path, name: str = "") -> None:
    """Remove what killed processes left of unfinished saves in a folder.

    Args:
        directory: the folder.
        name: of the one to clear; otherwise all whose name is a number.

    Raises:
        ValueError: if something else than a folder has such a name.
    """
    for path in sorted(directory.iterdir()):
        before, mark, _ = path.name.partition(".orbax-checkpoint-tmp")
        if mark and (before == name if name else before.isdecimal()):
            files.remove_tree(path, directory)


def _save_alone(path: Path, tree: Any, described: Json, chunk: int) -> None:
    """Do the same from one of several processes, without the others taking part.

    Orbax's older interface can do that. The newer one, which reads what this writes, would
    synchronise the path with all processes, in the middle of what they are doing.
    """
    import orbax.checkpoint as orbax

    _quiet()
    me = jax.process_index()
    alone = orbax.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    handler = orbax.CompositeCheckpointHandler(
        state=orbax.PyTreeCheckpointHandler(use_zarr3=True, multiprocessing_options=alone),
        composite_options=orbax.CompositeOptions(multiprocessing_options=alone),
    )
    save_args = jax.tree.map(lambda _: orbax.SaveArgs(chunk_byte_size=chunk), tree)
    state = orbax.args.PyTreeSave(tree, save_args)
    with orbax.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(path, orbax.args.Composite(state=state), custom_metadata=described)


def _require_as_saved(opened: Any, stored: Stored) -> None:
    """Compare what an opened array claims with what was saved; nothing of it is in memory yet."""
    dtype, shape = opened.dtype.numpy_dtype, tuple(opened.shape)
    if (dtype, shape) != (stored.dtype, stored.shape):
        raise DamagedError(f"{dtype}{list(shape)} in place of {stored.dtype}{list(stored.shape)}")
    layout = opened.chunk_layout
    for chunk in (layout.read_chunk.shape, layout.write_chunk.shape):
        if any(size > max(whole, 1) for size, whole in zip(chunk or (), shape, strict=False)):
            raise DamagedError(f"pieces of {list(chunk)} in an array of {list(shape)}")


def _require_readable(path: Path, limit: int) -> None:
    """Open a file, so that it is known whether the system lets us, and look at its size."""
    try:
        size = files.readable_size(path)
    except OSError as error:
        _raise_unless_missing(error)
        return
    if size > limit:
        raise DamagedError(f"{path.name} holds {size:,} bytes, more than {limit:,}")


def _raise_unless_missing(error: OSError) -> None:
    """Pass over what has just been deleted: reading it will say so."""
    if not is_missing(error):
        raise error
