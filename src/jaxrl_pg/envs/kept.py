"""The environments on the host that train states refer to, by handle."""

from __future__ import annotations

import collections
import secrets
import threading
from typing import Any, Protocol

import numpy as np

__all__ = ["HostError", "HostVector", "close", "keep", "take"]

# Vectors of environments kept at once: a train state may always be gone on with, so that none is
# ever known to be done with, and the one used longest ago is closed.
_MOST = 32


class HostError(RuntimeError):
    """An environment on the host raised, or is not there; in one line, with its name."""


class HostVector(Protocol):
    """`B` environments of a simulator, side by side."""

    def reset(self, seeds: np.ndarray) -> Any:
        """Start all anew, each from its own seed; return the observations `[B, ...]`."""

    def step(self, action: np.ndarray, late: np.ndarray, restart: bool) -> tuple[Any, ...]:
        """Step all, and where an episode ended start the next.

        Args:
            action: `[B, ...]`.
            late: `[B]` bool, where the step reaches the time limit.
            restart: whether to start next episodes at all.

        Returns:
            The observations that the step led to; those to act on next, which differ where an
            episode ended; rewards `[B]`; terminated `[B]`; truncated `[B]`, by the simulator's own
            rules and not by the time limit.
        """

    def close(self) -> None:
        """Free what the environments hold."""


class _Kept:
    """Environments, and the steps that they have taken."""

    def __init__(self, vector: HostVector) -> None:
        self.vector, self.count = vector, 0


# By handle, those used last at the end.
_KEPT: collections.OrderedDict[int, _Kept] = collections.OrderedDict()
_LOCK = threading.Lock()


def keep(vector: HostVector) -> int:
    """Keep environments, and return their handle; close those that were not used for longest."""
    with _LOCK:
        # Drawn, so that a state of another process is not taken for one of this.
        handle = secrets.randbits(31)
        while handle in _KEPT:
            handle = secrets.randbits(31)
        _KEPT[handle] = _Kept(vector)
        closed = [_KEPT.popitem(last=False)[1] for _ in range(len(_KEPT) - _MOST)]
    for kept in closed:
        kept.vector.close()
    return handle


def take(name: str, handle: int, count: int) -> HostVector:
    """Return environments that have taken `count` steps, to take one more.

    Raises:
        HostError: if they are not here, or have taken another number of steps.
    """
    with _LOCK:
        kept = _KEPT.get(handle)
        if kept is None:
            raise HostError(
                f"{name}: the environments of this train state are not here: they live in the "
                f"process that made them, the {_MOST} batches used last; start with a new state"
            )
        if kept.count != count:
            raise HostError(
                f"{name}: the environments of this train state have taken {kept.count:,} steps, "
                f"and it is of step {count:,}: go on from the newest state, or start with a new one"
            )
        _KEPT.move_to_end(handle)
        kept.count += 1
        return kept.vector


def close(handle: Any) -> None:
    """Close environments that nothing goes on from; those that are gone already stay so."""
    with _LOCK:
        kept = _KEPT.pop(int(handle), None)
    if kept is not None:
        kept.vector.close()
