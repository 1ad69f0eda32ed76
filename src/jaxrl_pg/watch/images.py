"""Observations that are images: photographs as they are, layers of things in a colour each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl_pg.watch.canvas import text_size, write
from jaxrl_pg.watch.colors import BLACK, GREY, WHITE, cubehelix
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["CHANNELS", "MOVES", "as_rgb", "layered", "minatar"]

MOVES = ("stay", "left", "up", "right", "down", "fire")  # MinAtar's six, of which games take some

# What is in each channel, in MinAtar's order.
CHANNELS = {
    "Asterix": ("player", "enemy", "trail", "gold"),
    "Breakout": ("paddle", "ball", "trail", "brick"),
    "Freeway": ("chicken", "car", "speed 1", "speed 2", "speed 3", "speed 4", "speed 5"),
    "Seaquest": (
        *("sub, front", "sub, back", "friendly bullet", "trail", "enemy bullet", "enemy fish"),
        *("enemy sub", "oxygen", "divers aboard", "diver"),
    ),
    "SpaceInvaders": (
        *("cannon", "alien", "alien, going left", "alien, going right", "friendly bullet"),
        "enemy bullet",
    ),
    "Pong": ("paddles", "ball", "ball before"),
}


def minatar(scene: Scene) -> Draw:
    """Draw a game of MinAtar in its own palette: of several things in a cell, the last channel's.

    Below it stands what each colour is.
    """
    name = str(scene.env.core.name).lower().replace("_", "")
    frames = scene.recording.obs
    (channels,) = (names for game, names in CHANNELS.items() if game.lower() in name)
    frames = frames[..., -len(channels) :]  # the newest, where frames are stacked
    key = legend(channels, scene.width)

    def draw(t: int) -> np.ndarray:
        picture = layered(frames[t])
        side = max(1, scene.width // max(picture.shape[:2]))
        picture = np.kron(picture, np.ones((side, side, 1), np.uint8))
        if side >= 8:  # a fine edge, since the first colours are close to the background's
            full = np.kron((frames[t] > 0).any(axis=-1), np.ones((side, side), bool))
            rows, columns = np.indices(full.shape) % side
            edge = np.isin(rows, (0, side - 1)) | np.isin(columns, (0, side - 1))
            picture[full & edge] = GREY
        left = (scene.width - picture.shape[1]) // 2
        around = np.zeros((picture.shape[0], scene.width, 3), np.uint8)
        around[:, left : left + picture.shape[1]] = picture
        return np.concatenate([around, key])

    return draw


def layered(frame: np.ndarray) -> np.ndarray:
    """Return `[H, W, 3]` of an image `[H, W, C]` whose channels say where things are."""
    num = frame.shape[-1]
    colors = np.concatenate([np.zeros((1, 3), np.uint8), cubehelix(num)])
    present = (frame > 0) * (np.arange(num) + 1)
    return colors[present.max(axis=-1)]


def as_rgb(frame: np.ndarray) -> np.ndarray:
    """Return `[H, W, 3]` uint8 of an image: grey, of colours, or of layers.

    Args:
        frame: `[H, W]` or `[H, W, C]`; numbers are bytes, or from 0 to 1.
    """
    frame = frame[..., None] if frame.ndim == 2 else frame
    if frame.shape[-1] not in (1, 3) or frame.dtype == bool:
        return layered(frame)
    if frame.dtype != np.uint8:
        frame = np.round(255 * np.clip(frame, 0, 1)).astype(np.uint8)
    return np.broadcast_to(frame, (*frame.shape[:2], 3))


def legend(names: Sequence[str], width: int) -> np.ndarray:
    """Return a strip `[H, width, 3]` that names the colours of channels."""
    size = max(9, width // 31)
    swatch, line = size, 1.5 * size
    places, x, y = [], 0.5 * size, 0.5 * line
    for name in names:
        needed = swatch + 0.4 * size + text_size(name, size)[0]
        if x + needed > width and x > size:
            x, y = 0.5 * size, y + line
        places.append((x, y))
        x += needed + size
    strip = np.full((round(y + 0.6 * line), width, 3), WHITE, np.uint8)
    for (x, y), color, name in zip(places, cubehelix(len(names)), names, strict=True):
        top, left = round(y - swatch / 2), round(x)
        strip[top : top + swatch, left : left + swatch] = 0
        strip[top + 1 : top + swatch - 1, left + 1 : left + swatch - 1] = color
        strip = np.array(write(strip, (x + swatch + 0.4 * size, y), name, BLACK, size))
    return strip
