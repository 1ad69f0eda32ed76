"""How a run is watched and kept."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrl_pg.config import nearest

__all__ = ["Options", "Processes", "with_changes"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is watched and kept; nothing here changes what is learned."""

    num_evals: int = 10
    """evaluations, evenly spread over the run"""
    num_eval_episodes: int = 128
    """episodes in each evaluation"""
    checkpoint_minutes: float = 5.0
    """save at every evaluation, and when this long has passed since the last save"""
    keep_last: int = 3
    """newest checkpoints to keep, beside the best"""
    save_replay: bool = True
    """keep the replay buffer in checkpoints; if not, a resumed run fills a new one first"""
    tensorboard: bool = False
    """write the metrics for TensorBoard as well (extra: tensorboard)"""
    quiet: bool = False
    """print nothing"""

    def __post_init__(self) -> None:
        """Refuse numbers that are too low, or of the wrong kind."""
        lowest = {"num_evals": 0, "num_eval_episodes": 1, "checkpoint_minutes": 0, "keep_last": 1}
        for name, low in lowest.items():
            given = getattr(self, name)
            kind = int | float if name == "checkpoint_minutes" else int
            if not isinstance(given, kind) or not given >= low:
                what = "number" if name == "checkpoint_minutes" else "whole number"
                raise ValueError(f"{name}={given!r}: give a {what} >= {low}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of one run, each started with the same command and an id of its own."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where all meet; auto: ask Slurm, Open MPI, Kubernetes or the TPU"""
    num_processes: int | None = None
    """how many there are; with auto on a CPU too, to share out num_devices"""
    process_id: int | None = None
    """which of them this is, from 0; auto knows it"""

    def __post_init__(self) -> None:
        """Refuse processes that cannot meet."""
        count, number = self.num_processes, self.process_id
        if self.coordinator is None:
            if count is not None or number is not None:
                name, value = ("num_processes", count) if number is None else ("process_id", number)
                raise ValueError(f"{name}={value} without coordinator: give HOST:PORT of process 0")
            return
        if count is not None and count < 1:
            raise ValueError(f"num_processes={count}: give a whole number >= 1")
        if number is not None and not 0 <= number < (count or number + 1):
            most = "" if count is None else f" to {count - 1} (num_processes={count})"
            raise ValueError(f"process_id={number}: give a whole number from 0{most}")
        if self.coordinator == "auto":
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(
                f"coordinator={self.coordinator!r}: give HOST:PORT of process 0, such as "
                "10.0.0.1:5000, or auto"
            )
        for name, value in (("num_processes", count), ("process_id", number)):
            if value is None:
                raise ValueError(f"coordinator={self.coordinator} needs {name}: give it as well")


def with_changes(options: Options, changes: dict[str, Any]) -> Options:
    """The options with some replaced by name.

    Raises:
        ValueError: for an unknown name (the nearest is named) or a bad value.
    """
    names = [field.name for field in dataclasses.fields(Options)]
    for name in changes:
        if name not in names:
            raise ValueError(f"unknown option {name!r}: {nearest(name, names)}")
    return dataclasses.replace(options, **changes)
