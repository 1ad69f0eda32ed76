"""What a drawer is given: one recorded episode, its environment, and the size of the pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.training.recording import Recording

__all__ = ["Draw", "Drawer", "Scene"]


class Scene(NamedTuple):
    """One episode to draw.

    Attributes:
        env: its environment, whose frames are not stacked.
        recording: what happened.
        width: of the pictures, in pixels.
        factors: of joint actions, the number of choices of each player.
    """

    env: envs.Env
    recording: Recording
    width: int
    factors: tuple[int, ...] = ()

    def state(self, t: int) -> Any:
        """Return the environment's state before step `t`."""
        return jax.tree.map(lambda x: x[t], self.recording.states)

    def param(self, name: str, default: float) -> float:
        """Return one of the environment's parameters, or a number where it has none."""
        return float(getattr(self.env.params, name, default))

    def action(self, t: int) -> np.ndarray | None:
        """Return the action of step `t`; None after the last."""
        return self.recording.actions[t] if t < len(self.recording.actions) else None


Draw = Callable[[int], np.ndarray]
"""From `t` to the picture `[H, W, 3]` uint8 of the state before step `t`."""
Drawer = Callable[[Scene], Draw]
"""Called once an episode; all pictures of a scene have one size."""
