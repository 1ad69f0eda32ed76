"""A small canvas in the units of the task, drawn with smooth edges."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from jaxrl_pg.watch.colors import BLACK, WHITE, Color

__all__ = ["Canvas", "Point", "fitted", "text_size", "write"]

Point = tuple[float, float]
_FINER = 3  # drawn at this many times the size and averaged


class Canvas:
    """A picture whose coordinates are those of a task, `y` upwards.

    canvas = Canvas(400, x=(-3, 3), y=(-1, 2))
    canvas.line([(-3, 0), (3, 0)], width=0.02)
    canvas.circle((0, 1), 0.2, colors.ORANGE)
    picture = canvas.picture()  # [200, 400, 3] uint8
    """

    def __init__(self, width: int, x: Point, y: Point, background: Color = WHITE) -> None:
        """Make an empty picture.

        Args:
            width: pixels from side to side; the height follows.
            x: the left and the right end of what is shown.
            y: the lower and the upper end.
            background: its colour.
        """
        from PIL import Image, ImageDraw

        self.width, self.height = width, round(width * (y[1] - y[0]) / (x[1] - x[0]))
        self._left, self._top, self.span = x[0], y[1], x[1] - x[0]
        self._scale = _FINER * width / (x[1] - x[0])
        size = (self.width * _FINER, self.height * _FINER)
        self._image = Image.new("RGB", size, background)
        self._pen = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], color: Color = BLACK, width: float = 0.0) -> None:
        """Draw a line through points, with round ends; `width` in the task's units."""
        thick = max(_FINER, round(width * self._scale))
        places = [self._at(point) for point in points]
        self._pen.line(places, fill=color, width=thick, joint="curve")
        if thick > 2 * _FINER:
            for place in (places[0], places[-1]):
                self._dot(place, thick / 2, color)

    def polygon(self, points: Sequence[Point], color: Color, edge: Color | None = None) -> None:
        """Fill a polygon."""
        self._pen.polygon([self._at(point) for point in points], fill=color, outline=edge)

    def box(self, low: Point, high: Point, color: Color) -> None:
        """Fill a rectangle between two corners."""
        self.polygon([low, (high[0], low[1]), high, (low[0], high[1])], color)

    def circle(self, center: Point, radius: float, color: Color) -> None:
        """Fill a circle."""
        self._dot(self._at(center), radius * self._scale, color)

    def arrow(self, start: Point, end: Point, color: Color, width: float) -> None:
        """Draw an arrow; nothing where it has no length."""
        tail, head = np.array(start), np.array(end)
        length = float(np.hypot(*(head - tail)))
        if length < width:
            return
        along = (head - tail) / length
        across = np.array([-along[1], along[0]])
        neck = head - min(3.0 * width, length) * along
        self.line([start, (neck[0], neck[1])], color, width)
        tips = [head, neck + 1.6 * width * across, neck - 1.6 * width * across]
        self.polygon([(tip[0], tip[1]) for tip in tips], color)

    def text(
        self,
        place: Point,
        words: str,
        color: Color = BLACK,
        size: int = 12,
        anchor: Literal["lm", "mm", "rm"] = "mm",
    ) -> None:
        """Write words at a place, `size` in pixels of the finished picture."""
        self._pen.text(self._at(place), words, color, _font(size * _FINER), anchor)

    def picture(self) -> np.ndarray:
        """Return the picture, `[height, width, 3]` uint8."""
        return np.asarray(self._image.reduce(_FINER))

    def _at(self, point: Point) -> Point:
        return (
            float(point[0] - self._left) * self._scale,
            float(self._top - point[1]) * self._scale,
        )

    def _dot(self, place: Point, radius: float, color: Color) -> None:
        x, y = place
        self._pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)


def write(
    picture: np.ndarray,
    place: Point,
    words: str,
    color: Color = BLACK,
    size: int = 12,
    anchor: str = "lm",
) -> np.ndarray:
    """Return a picture with words at a pixel."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text(place, words, color, _font(size), anchor)
    return np.asarray(image)


def text_size(words: str, size: int) -> tuple[float, float]:
    """Return the width of words, and the height of a line, in pixels."""
    return _font(size).getlength(words), 1.3 * size


def fitted(picture: np.ndarray, width: int) -> np.ndarray:
    """Return a picture of a given width: small ones with hard edges, large ones averaged."""
    from PIL import Image

    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    if (height, width) == picture.shape[:2]:
        return picture
    grows = width >= picture.shape[1]
    kind = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((width, height), kind))


@functools.cache
def _font(size: int) -> Any:
    import matplotlib
    from PIL import ImageFont

    # It has every letter and sign, and is in every installation.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
