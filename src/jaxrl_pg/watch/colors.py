"""Colours that are told apart without colour vision, and in print."""

from __future__ import annotations

import functools

import numpy as np

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "GREY",
    "LIGHT",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILLION",
    "WHITE",
    "Color",
    "cubehelix",
    "shaded",
]

Color = tuple[int, int, int]

# Okabe and Ito's palette.
BLACK = (0, 0, 0)
ORANGE = (230, 159, 0)
SKY = (86, 180, 233)
GREEN = (0, 158, 115)
BLUE = (0, 114, 178)
VERMILLION = (213, 94, 0)
PURPLE = (204, 121, 167)
# What is not to be told apart.
WHITE = (255, 255, 255)
GREY = (110, 110, 110)
LIGHT = (226, 228, 231)


@functools.cache
def cubehelix(num: int) -> np.ndarray:
    """Return `num` colours `[num, 3]` uint8 of rising brightness, as MinAtar draws its channels."""
    from matplotlib import colormaps

    places = np.linspace(0, 1, num + 2)[1:-1]
    return np.round(255 * colormaps["cubehelix"](places)[:, :3]).astype(np.uint8)


def shaded(values: np.ndarray) -> np.ndarray:
    """Return colours `[..., 3]` uint8 of numbers from 0 to 1, in a scale made for all eyes."""
    from matplotlib import colormaps

    return np.round(255 * colormaps["cividis"](values)[..., :3]).astype(np.uint8)
