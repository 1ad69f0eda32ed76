"""Any pytree on disk, saved atomically and checked when it is read."""

from jaxrl_pg.checkpoint.store import (
    Checkpoints,
    Found,
    Restored,
    find,
    newest_host,
    place,
    restore,
    spec,
    steps,
)

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
