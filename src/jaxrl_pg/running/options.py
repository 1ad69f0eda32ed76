"""Options of the host: how a run or a sweep is watched and saved, and over which processes."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from jaxrl_pg.config import Positive, Range, nearest
from jaxrl_pg.fields import settle
from jaxrl_pg.running import sizes

__all__ = ["Options", "Processes", "saved_options", "with_changes"]

_LONGEST_WAIT = 86_400  # a day, in seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is watched and saved; nothing here changes what is learned."""

    num_evals: int = 10
    """evaluations, spread over the run, each at the end of a compiled chunk"""
    num_eval_episodes: Annotated[int, Positive] = 128
    """episodes in each evaluation"""
    checkpoint_seconds: float = 300.0
    """save at every evaluation, and when this many seconds have passed since the last save"""
    keep_last: Annotated[int, Positive] = 3
    """newest checkpoints to keep, beside the best"""
    save_replay: bool = True
    """keep the replay buffer in checkpoints; if not, a resumed run fills a new one first"""
    tensorboard: bool = False
    """write the metrics for TensorBoard as well (extra: tensorboard)"""
    quiet: bool = False
    """print nothing but what goes wrong"""

    def __post_init__(self) -> None:
        """Refuse numbers that are too low or too high, and values of the wrong kind."""
        settle(self)
        limits = {
            "num_evals": sizes.MAX_EVALS,
            "num_eval_episodes": sizes.LARGEST,
            "keep_last": sizes.LARGEST,
        }
        for name, high in limits.items():
            if getattr(self, name) > high:
                raise ValueError(f"{name}={getattr(self, name)}: give at most {high:,}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes of one run, each started with the same command and its own id."""

    coordinator: str | None = None
    """HOST:PORT of process 0, where all meet; auto: ask Slurm, Open MPI, Kubernetes or the TPU"""
    num_processes: Annotated[int, Positive] | None = None
    """number of processes; with auto, needed on a CPU only, to divide num_devices among them"""
    process_id: int | None = None
    """which of them this is, from 0; auto knows it"""
    join_seconds: Annotated[int, Range(1, _LONGEST_WAIT)] = 300
    """seconds to wait for all of them to be there"""

    def __post_init__(self) -> None:
        """Refuse a description from which the processes could not find each other."""
        settle(self)
        count, number = self.num_processes, self.process_id
        if self.coordinator is None:
            if count is not None or number is not None:
                name, value = ("num_processes", count) if number is None else ("process_id", number)
                raise ValueError(f"{name}={value} without coordinator: give HOST:PORT of process 0")
            return
        if count is not None and count > sizes.MAX_PROCESSES:
            raise ValueError(f"num_processes={count}: give at most {sizes.MAX_PROCESSES:,}")
        if number is not None and count is not None and number >= count:
            raise ValueError(
                f"process_id={number}: give a whole number from 0 to {count - 1} "
                f"(num_processes={count})"
            )
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
    """Return the options with some of them replaced.

    Raises:
        ValueError: for an unknown name (the nearest is named) or a bad value.
    """
    if not isinstance(options, Options):
        raise ValueError(
            f"options={options!r:.80}: give running.options.Options(...), or single options by name"
        )
    names = [field.name for field in dataclasses.fields(Options)]
    for name in changes:
        if name not in names:
            raise ValueError(f"unknown option {name!r}: {nearest(name, names)}")
    return dataclasses.replace(options, **changes)


def saved_options(values: dict[str, Any]) -> Options:
    """Return the options that a run's config.json holds.

    Runs of earlier versions hold `checkpoint_minutes`, which becomes `checkpoint_seconds`.

    Raises:
        ValueError: for an unknown name or a bad value.
    """
    values = dict(values)
    minutes = values.pop("checkpoint_minutes", None)
    if isinstance(minutes, int | float):
        values.setdefault("checkpoint_seconds", 60.0 * minutes)
    return with_changes(Options(), values)
