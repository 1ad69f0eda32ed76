"""Leaves that states have gained since a checkpoint was written: absent there, they are zero."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from jaxrl_pg.checkpoint import trees

__all__ = ["with_added"]

Json = dict[str, Any]
# Branches that earlier versions did not have; zeros say there what those versions meant.
_BRANCHES = ("low",)  # what running statistics have lost by rounding


def with_added(leaves: Json, target: Any) -> Json:
    """Return a manifest's leaves with those of the target that earlier versions did not have.

    An added leaf is stored nowhere: `reading.read_arrays` gives zeros for it.
    """
    added = {}
    for name, leaf in trees.leaves_by_path(target).items():
        if name in leaves or not set(name.split("/")[:-1]) & set(_BRANCHES):
            continue
        zeros = np.zeros(leaf.shape, leaf.dtype)
        added[name] = {
            "spec": trees.spec({name: leaf})[name],
            "dtype": str(zeros.dtype),
            "shape": list(zeros.shape),
            "key_impl": None,
            "stored_as": None,
            "crc32": zlib.crc32(trees.bytes_of(zeros)),
        }
    return {**leaves, **added}
