"""One array and its metadata on disk: the only file that uses Orbax."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as orbax
from orbax.checkpoint import v1 as ocp

__all__ = ["load", "metadata", "save"]

# Orbax logs through absl; what goes wrong is raised anyway.
logging.getLogger("absl").setLevel(logging.CRITICAL)

Json = dict[str, Any]


def save(path: Path, packed: np.ndarray, described: Json, chunk: int) -> None:
    """Write a new folder, which gets its name only once it is complete.

    Args:
        path: the folder.
        packed: the array; it must not change meanwhile.
        described: JSON values to keep with it.
        chunk: bytes compressed and written as one piece.
    """
    if jax.process_count() > 1:
        _save_alone(path, packed, described, chunk)
        return
    options = ocp.Context()
    options.array_options.saving.storage_options.chunk_byte_size = chunk
    options.memory_options.deepcopy_host_arrays = False
    with options:
        ocp.save(path, {"leaves": packed}, custom_metadata=described)


def load(path: Path) -> np.ndarray:
    """Read the array; raises whatever Orbax raises if it cannot be read."""
    with _reading():
        return np.asarray(ocp.load(path)["leaves"])


def metadata(path: Path) -> Json:
    """Read the JSON values kept with it; raises whatever Orbax raises if they cannot be read."""
    with _reading():
        return dict(ocp.metadata(path).custom_metadata)


def _save_alone(path: Path, packed: np.ndarray, described: Json, chunk: int) -> None:
    """Do the same from one of several processes, without the others taking part.

    Orbax's older interface can do that. The newer one, which reads what this writes, would
    synchronise the path with all processes, in the middle of what they are doing.
    """
    me = jax.process_index()
    alone = orbax.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    handler = orbax.CompositeCheckpointHandler(
        state=orbax.PyTreeCheckpointHandler(multiprocessing_options=alone),
        composite_options=orbax.CompositeOptions(multiprocessing_options=alone),
    )
    save_args = {"leaves": orbax.SaveArgs(chunk_byte_size=chunk)}
    state = orbax.args.PyTreeSave({"leaves": packed}, save_args)
    with orbax.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        checkpointer.save(path, orbax.args.Composite(state=state), custom_metadata=described)


def _reading() -> ocp.Context:
    """Return the settings for reading, by which this process acts alone among several."""
    context = ocp.Context()
    if jax.process_count() > 1:
        context.multiprocessing_options.primary_host = jax.process_index()
        context.multiprocessing_options.active_processes = {jax.process_index()}
    return context
