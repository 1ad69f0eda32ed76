"""The lines above a picture: which task and episode, the step, the action, the return so far."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl_pg.training.recording import Recording
from jaxrl_pg.watch.canvas import text_size, write
from jaxrl_pg.watch.colors import BLACK, GREY, WHITE

__all__ = ["captioned", "returns_so_far"]


def returns_so_far(recording: Recording) -> np.ndarray:
    """Return the undiscounted return `[T + 1]` before each step, added up as `evaluate` does."""
    rewards = np.concatenate([np.zeros(1, np.float32), recording.rewards])
    return np.cumsum(rewards, dtype=np.float32)


def captioned(
    picture: np.ndarray,
    title: str,
    recording: Recording,
    t: int,
    names: Sequence[str] = (),
    which: str = "",
) -> np.ndarray:
    """Return a picture with two lines above it.

    Args:
        picture: `[H, W, 3]` uint8.
        title: of the first line.
        recording: the episode.
        t: the step that is taken next.
        names: of discrete actions.
        which: the episode's number, at the right of the first line.
    """
    width, steps = picture.shape[1], len(recording.actions)
    size = max(8, width // 30)
    line = round(1.45 * size)
    strip = np.full((2 * line + size // 3, width, 3), WHITE, np.uint8)
    left, first, second = size // 2, line // 2 + 2, line // 2 + line
    room = width - 2 * left - text_size(which, size)[0] - size
    strip = write(strip, (left, first), _cut(title, size, room), BLACK, size)
    strip = write(strip, (width - left, first), which, GREY, size, "rm")
    total = _number(float(returns_so_far(recording)[t]))
    words = f"step {t}   return {total}"
    strip = write(strip, (left, second), words, BLACK, size)
    now = _ending(recording) if t == steps else _action(recording.actions[t], names)
    room = width - 2 * left - text_size(words, size)[0] - size
    strip = write(strip, (width - left, second), _cut(now, size, room), GREY, size, "rm")
    return np.concatenate([strip, picture])


def _ending(recording: Recording) -> str:
    """Say why there is no further step."""
    if recording.terminated:
        return "terminated"
    return "time limit" if recording.truncated else "not over yet"


def _action(action: np.ndarray, names: Sequence[str]) -> str:
    if np.issubdtype(action.dtype, np.integer):
        if action.ndim == 0 and int(action) < len(names):
            return names[int(action)]
        return f"action {', '.join(map(str, np.reshape(action, -1).tolist()))}"
    numbers = [f"{x:+.2f}" for x in np.reshape(action, -1)[:3]]
    more = ", ..." if action.size > 3 else ""
    return f"action {', '.join(numbers)}{more}".replace("-", "\N{MINUS SIGN}")


def _number(total: float) -> str:
    if total == round(total):
        rounded = f"{total:,.0f}"
    else:
        rounded = f"{total:,.2f}" if abs(total) >= 1 else f"{total:.3g}"
    return rounded.replace("-", "\N{MINUS SIGN}")


def _cut(words: str, size: int, room: float) -> str:
    """Return words, or as much of their beginning as there is room for."""
    if text_size(words, size)[0] <= room:
        return words
    while words and text_size(words + "...", size)[0] > room:
        words = words[:-1]
    return words + "..." if words else ""
