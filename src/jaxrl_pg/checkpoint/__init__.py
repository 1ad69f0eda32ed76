"""Checkpoints: any pytree on disk, saved atomically and checked when it is read.

with checkpoint.Checkpoints(folder) as saves:
    saves.save(10, state, {"seconds": 3.5})
restored = checkpoint.restore(folder, fresh_state)
"""

from types import ModuleType

from jaxrl_pg.checkpoint.manifest import steps
from jaxrl_pg.checkpoint.packing import spec
from jaxrl_pg.checkpoint.reading import Found, Restored, find, newest_host, place, restore
from jaxrl_pg.checkpoint.store import Checkpoints
from jaxrl_pg.lazy import submodule

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


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
