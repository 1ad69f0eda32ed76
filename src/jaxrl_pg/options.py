"""How a run is watched and kept."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxrl_pg.config import nearest

__all__ = ["Options", "with_changes"]


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
