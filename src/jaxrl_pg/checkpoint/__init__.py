"""Checkpoints: any pytree on disk, saved atomically and checked when it is read.

    with checkpoint.Checkpoints(folder) as saves:
        saves.save(10, state, {"seconds": 3.5})
    restored = checkpoint.restore(folder, fresh_state)

Each is a folder that plain Orbax opens as well: `orbax.checkpoint.v1.load(folder / "10")`.
"""

from types import ModuleType

from jaxrl_pg.checkpoint.manifest import candidates, step_of, steps
from jaxrl_pg.checkpoint.reading import Found, Restored, find, newest_host, place, restore
from jaxrl_pg.checkpoint.single import host_of, is_checkpoint, load_tree, save_tree
from jaxrl_pg.checkpoint.store import Checkpoints, never_saved, prepare, set_aside
from jaxrl_pg.checkpoint.trees import spec
from jaxrl_pg.lazy import submodule

__all__ = [
    "Checkpoints",
    "Found",
    "Restored",
    "candidates",
    "find",
    "host_of",
    "is_checkpoint",
    "load_tree",
    "never_saved",
    "newest_host",
    "place",
    "prepare",
    "restore",
    "save_tree",
    "set_aside",
    "spec",
    "step_of",
    "steps",
]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
