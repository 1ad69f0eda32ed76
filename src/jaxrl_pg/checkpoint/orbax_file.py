"""Named arrays and their metadata on disk: the only file that uses Orbax and TensorStore.

What is written is an ordinary Orbax checkpoint, which any program can open:

    from orbax.checkpoint import v1 as ocp
    tree = ocp.load("/absolute/path/runs/demo/checkpoints/40")
    kernel = tree["learner"]["params"]["params"]["policy_torso"]["Dense_0"]["kernel"]
"""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as orbax
import tensorstore
from orbax.checkpoint import v1 as ocp

from jaxrl_pg.checkpoint.errors import DamagedError, reason

__all__ = ["clear_unfinished", "load", "metadata", "save"]

# Orbax logs through absl; what goes wrong is raised anyway.
logging.getLogger("absl").setLevel(logging.CRITICAL)

Json = dict[str, Any]

_EMPTY = {"empty": np.zeros(1, np.uint8)}  # stands for a tree without leaves, which Orbax refuses


def save(path: Path, tree: Any, described: Json, chunk: int) -> None:
    """Write a new folder, which gets its name only once it is complete.

    Args:
        path: the folder.
        tree: dicts in dicts of NumPy arrays with elements; they must not change meanwhile.
        described: JSON values to keep with it.
        chunk: bytes compressed and written as one piece.
    """
    tree = _EMPTY if isinstance(tree, dict) and not tree else tree
    if jax.process_count() > 1:
        _save_alone(path, tree, described, chunk)
        return
    options = ocp.Context()
    options.array_options.saving.storage_options.chunk_byte_size = chunk
    options.memory_options.deepcopy_host_arrays = False
    with options:
        ocp.save(path, tree, custom_metadata=described)


def load(path: Path, stored_as: dict[str, str]) -> dict[str, np.ndarray]:
    """Read some arrays.

    This goes straight to the library that Orbax stores arrays with. Orbax's own `load` closes its
    event loop at the first damaged array, and the reads still under way print their complaints.

    Args:
        path: the folder.
        stored_as: for the name of each array, the one that Orbax stored it under: the parts of its
            path, joined with dots.

    Raises:
        DamagedError: naming the first that cannot be read.
    """
    files = {"driver": "file", "path": f"{path / 'state'}/"}
    context = tensorstore.Context()
    opening, reading, arrays = {}, {}, {}
    name = ""
    try:
        for name, stored in stored_as.items():
            store = {"driver": "ocdbt", "base": files, "path": f"{stored}/"}
            described = {"driver": "zarr3", "kvstore": store}
            opening[name] = tensorstore.open(described, context=context, open=True, read=True)
        for name, opened in opening.items():
            reading[name] = opened.result().read()
        for name, read in reading.items():
            arrays[name] = np.asarray(read.result())
    except Exception as error:
        raise DamagedError(f"leaf {name}: {reason(error)}") from error
    return arrays


def metadata(path: Path) -> Json:
    """Read the JSON values kept with it; raises whatever is wrong if they cannot be read.

    Orbax's own function opens every array first.
    """
    return dict(json.loads((path / "_CHECKPOINT_METADATA").read_text())["custom_metadata"])


def clear_unfinished(directory: Path, name: str = "") -> None:
    """Remove what killed processes left of unfinished saves in a folder: of all, or of one name."""
    for path in directory.iterdir():
        before, mark, _ = path.name.partition(".orbax-checkpoint-tmp")
        if mark and name in ("", before):
            shutil.rmtree(path)


def _save_alone(path: Path, tree: Any, described: Json, chunk: int) -> None:
    """Do the same from one of several processes, without the others taking part.

    Orbax's older interface can do that. The newer one, which reads what this writes, would
    synchronise the path with all processes, in the middle of what they are doing.
    """
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
