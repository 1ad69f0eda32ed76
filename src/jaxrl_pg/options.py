"""How a run is watched and kept."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrl_pg.config import check_choice, nearest

__all__ = ["LAYOUTS", "Options", "SweepOptions", "with_changes"]

LAYOUTS = ("auto", "map", "vmap")


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
class SweepOptions:
    """How a sweep is run; nothing here changes what is learned, but for rounding."""

    max_agents: int = 0
    """agents in a batch; 0: as many as half the memory is estimated to hold"""
    layout: str = "auto"
    """agents of a device one after the other (map) or at once (vmap); auto: map on a CPU"""
    checkpoint_seconds: float = 60.0
    """save an unfinished batch when this long has passed since the last save"""
    quiet: bool = False
    """print nothing"""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_choice("layout", self.layout, LAYOUTS)
        for name in ("max_agents", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}: give a number >= 0")


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
