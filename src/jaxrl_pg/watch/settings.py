"""What of a policy is shown, and how."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxrl_pg.config import Positive, Range
from jaxrl_pg.fields import settle

__all__ = ["Settings"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Which episodes are shown, and how; those of `evaluate` with the same seed."""

    num_episodes: Annotated[int, Range(1, 1000)] = 1
    """episodes, one after the other"""
    seed: int = 0
    """seed of the episodes"""
    max_steps: Annotated[int, Range(1, 100_000)] = 1000
    """show at most so many steps of an episode"""
    fps: Annotated[int, Range(1, 50)] = 30
    """frames a second"""
    every: Annotated[int, Positive] = 1
    """show only every so many steps, and the last; makes files smaller"""
    width: Annotated[int, Range(100, 1600)] = 400
    """width of the pictures in pixels"""

    def __post_init__(self) -> None:
        """Refuse numbers that are too low or too high, and values of the wrong kind."""
        settle(self)
