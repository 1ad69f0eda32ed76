"""A panel of observations and actions over time, for environments without a picture of their own.

An image is shown as it is now. Of a vector, each number is a row, from the episode's first step to
its last, and what is still to come is left blank. Rows have scales of their own: up to eight are
lines between the two numbers written beside them, more are shades.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxrl_pg.types import ACTION_MASK
from jaxrl_pg.watch.canvas import Canvas, fitted
from jaxrl_pg.watch.colors import BLACK, BLUE, GREY, LIGHT, VERMILLION, WHITE, Color, shaded
from jaxrl_pg.watch.images import as_rgb
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["panel"]

_MOST_LINES = 8
_MOST_ROWS = 256  # of a long vector, the first
_LABEL = 0.24  # share of the width that names and numbers take


class _Part(NamedTuple):
    """One array over time.

    Attributes:
        name: written beside it.
        values: `[T, D]` numbers, or `[T, H, W, C]` images.
        color: of its lines.
    """

    name: str
    values: np.ndarray
    color: Color


def panel(scene: Scene) -> Draw:
    """Draw what the policy saw and what it did."""
    parts = [*_observations(scene), *_actions(scene)]
    draws = [_image(x, scene.width) if x.values.ndim > 2 else _rows(x, scene) for x in parts]

    def draw(t: int) -> np.ndarray:
        return np.concatenate([draw_part(t) for draw_part in draws])

    return draw


def _observations(scene: Scene) -> list[_Part]:
    obs = scene.recording.obs
    arrays = dict(obs) if isinstance(obs, Mapping) else {"obs": obs}
    parts = []
    for name, values in arrays.items():
        is_image = values.ndim in (3, 4) and min(values.shape[1:3]) > 4 and name != ACTION_MASK
        if values.ndim == 3 and is_image:
            values = values[..., None]
        values = values if is_image else values.reshape(len(values), -1)[:, :_MOST_ROWS]
        if not is_image and name != ACTION_MASK and _is_one_hot(values):
            values = values.argmax(axis=1)[:, None]
        parts.append(_Part(name.replace("action_mask", "legal actions"), values, BLUE))
    return parts


def _is_one_hot(values: np.ndarray) -> bool:
    """Whether vectors say one of many: an index as networks read it."""
    return bool(
        values.shape[1] > 2 and np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all()
    )


def _actions(scene: Scene) -> list[_Part]:
    actions = scene.recording.actions
    if scene.factors:
        players = np.stack(np.unravel_index(actions, scene.factors), axis=-1)
        return [
            _Part(f"player {i}", players[:, i : i + 1], VERMILLION) for i in range(players.shape[1])
        ]
    return [_Part("action", actions.reshape(len(actions), -1), VERMILLION)]


def _image(part: _Part, width: int) -> Draw:
    channels = part.values.shape[-1]
    bytes_of_color = part.values.dtype == np.uint8 and channels % 3 == 0
    # Of frames that are stacked along the channels, the newest.
    newest = 3 if bytes_of_color else 1 if part.values.dtype == np.uint8 else channels
    frames = part.values[..., -newest:]

    def draw(t: int) -> np.ndarray:
        picture = as_rgb(frames[t])
        room = min(width, round(0.75 * width * picture.shape[1] / picture.shape[0]))
        picture = fitted(np.ascontiguousarray(picture), room)
        left = (width - room) // 2
        around = np.full((picture.shape[0], width, 3), LIGHT, np.uint8)
        around[:, left : left + room] = picture
        return around

    return draw


def _rows(part: _Part, scene: Scene) -> Draw:
    return (_lines if part.values.shape[1] <= _MOST_LINES else _shades)(part, scene)


def _lines(part: _Part, scene: Scene) -> Draw:
    """Draw each number of a vector as a line over time."""
    values = part.values.astype(float)
    steps, num = values.shape
    low, high = values.min(axis=0), values.max(axis=0)
    middle, span = (low + high) / 2, np.where(high > low, high - low, 1.0)
    heights = (values - middle) / span  # from -1/2 to 1/2
    size = max(8, scene.width // 36)
    one = 3 * size / scene.width  # height of a row; the width is 1
    times = _LABEL + (0.98 - _LABEL) * np.linspace(0, 1, len(scene.recording.actions) + 1)
    jumps = np.issubdtype(part.values.dtype, np.integer)

    def draw(t: int) -> np.ndarray:
        canvas = Canvas(scene.width, (0, 1), (0, num * one))
        now = min(t, steps - 1)
        for i in range(num):
            y = (num - i - 0.5) * one
            name = part.name if num == 1 else f"{part.name}[{i}]"
            canvas.text((0.02, y + 0.22 * one), name, BLACK, size, "lm")
            value = _short(values[now, i], span[i])
            canvas.text((0.02, y - 0.22 * one), value, part.color, size, "lm")
            for number, place in ((high[i], 0.3), (low[i], -0.3)) if high[i] > low[i] else ():
                canvas.text(
                    (_LABEL - 0.01, y + place * one), _short(number, span[i]), GREY, size - 2, "rm"
                )
            canvas.line([(_LABEL, y - 0.46 * one), (0.98, y - 0.46 * one)], LIGHT)
            line = [(times[k], y + 0.7 * one * heights[k, i]) for k in range(now + 1)]
            if jumps:  # each number holds until the next
                line = [
                    place
                    for one_place, (x, _) in zip(line, [*line[1:], line[-1]], strict=True)
                    for place in (one_place, (x, one_place[1]))
                ]
            if len(line) > 1:
                canvas.line(line, part.color, 0.004)
            canvas.circle(line[-1], 0.009, part.color)
        return canvas.picture()

    return draw


def _shades(part: _Part, scene: Scene) -> Draw:
    """Draw each number of a vector as a row of shades over time, dark where it is low."""
    values = part.values.astype(float)
    steps, num = values.shape
    low, high = values.min(axis=0), values.max(axis=0)
    share = (values - low) / np.where(high > low, high - low, 1.0)
    size = max(8, scene.width // 36)
    height = round(np.clip(num * scene.width / 40, 0.25 * scene.width, 0.7 * scene.width))
    left, right = round(_LABEL * scene.width), round(0.98 * scene.width)
    map_of_all = _stretched(shaded(share.T), height, right - left)

    def draw(t: int) -> np.ndarray:
        y, unit = height / scene.width, size / scene.width
        canvas = Canvas(scene.width, (0, 1), (0, y + unit), WHITE)
        middle = (y + unit) / 2
        words = (part.name, f"{num} numbers", "dark: low", "light: high")
        for i, line in enumerate(words):
            canvas.text((0.02, middle + (1.5 - i) * 1.5 * unit), line, BLACK, size, "lm")
        picture = np.array(canvas.picture())
        shown = round((right - left) * (min(t, steps - 1) + 1) / steps)
        top = size // 2
        picture[top : top + height, left:right] = LIGHT
        picture[top : top + height, left : left + shown] = map_of_all[:, :shown]
        return picture

    return draw


def _stretched(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a picture stretched to a height and width, with hard edges."""
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    return picture[rows][:, columns]


def _short(number: float, span: float) -> str:
    """Write a number as finely as what it varies by asks for."""
    rounded = 0.0 if abs(number) < 1e-6 * span else number
    return f"{rounded:.3g}".replace("-", "\N{MINUS SIGN}")
