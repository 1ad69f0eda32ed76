"""A movie of episodes: drawn when it is shown or saved, as a GIF or a page."""

from __future__ import annotations

import base64
import functools
import html
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg import files

__all__ = ["Clip", "Movie", "require_path"]

_SAMPLES = 12  # frames whose colours make the palette
_FLAT = 1024  # a drawing has fewer colours than this, edges included, and a photograph more
_FEW = 64  # colours of a drawing's GIF
_HOLD_SECONDS = 1.0  # for which an episode's last frame is shown


class Clip(NamedTuple):
    """One episode as pictures.

    Attributes:
        num: of frames.
        draw: from a frame's number to `[H, W, 3]` uint8.
        total: the return; NaN where the episode goes on.
        length: steps.
    """

    num: int
    draw: Callable[[int], np.ndarray]
    total: float
    length: int


class Movie:
    """Episodes of a trained policy, to look at.

        movie = policy.watch()
        movie.returns                   # of the episodes shown
        movie.save("play.gif")
        movie.frame(0)                  # [H, W, 3] uint8

    A notebook shows it by itself.

    Attributes:
        returns: of the episodes shown, as `policy.evaluate` gives them: NaN for an episode that is
            cut off because it is too long to show.
        lengths: their steps.
        fps: frames a second.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        fps: int,
        title: str,
        page: Callable[[], str] | None = None,
    ) -> None:
        """Put episodes one after the other.

        Args:
            clips: the episodes.
            fps: frames a second.
            title: what is shown, in words.
            page: makes an interactive page of the first episode, where the environment's suite
                has a viewer.
        """
        self._clips, self._title, self._page, self.fps = tuple(clips), title, page, fps
        self.returns = tuple(clip.total for clip in clips)
        self.lengths = tuple(clip.length for clip in clips)

    def __len__(self) -> int:
        """Return the number of frames."""
        return sum(clip.num for clip in self._clips)

    def frame(self, number: int) -> np.ndarray:
        """Return one frame `[H, W, 3]` uint8; negative numbers count from the end.

        Raises:
            ValueError: if there is no such frame.
        """
        total = len(self)
        if not -total <= number < total:
            raise ValueError(f"frame {number}: give a number from 0 to {total - 1}")
        number %= total
        for clip in self._clips:
            if number < clip.num:
                break
            number -= clip.num
        return clip.draw(number)

    def frames(self) -> Iterator[np.ndarray]:
        """Draw all frames, one after the other."""
        for clip in self._clips:
            yield from map(clip.draw, range(clip.num))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a GIF, or with the suffix `.html` a page.

        The page is the viewer of the environment's suite where it has one (brax), in which the
        view can be turned, and otherwise shows the GIF.

        Raises:
            ValueError: for another suffix, or a folder that cannot be written to.
        """
        place = require_path(path)
        data = self.gif if place.suffix.lower() == ".gif" else self._whole_page().encode()
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(place, data)
        return place

    @functools.cached_property
    def gif(self) -> bytes:
        """The movie as a GIF, which repeats for ever."""
        palette = _palette(
            [self.frame(i) for i in np.linspace(0, len(self) - 1, _SAMPLES, dtype=int)]
        )
        images = (_indexed(frame, palette) for frame in self.frames())
        ends = np.cumsum([clip.num for clip in self._clips]) - 1
        durations = [round(1000 / self.fps)] * len(self)
        for end in ends:
            durations[end] = max(durations[end], round(1000 * _HOLD_SECONDS))
        buffer = io.BytesIO()
        next(images).save(
            buffer, "GIF", save_all=True, append_images=images, duration=durations, loop=0
        )
        return buffer.getvalue()

    def _whole_page(self) -> str:
        if self._page is not None:
            return self._page()
        title = html.escape(self._title)
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        return f"{head}<body>{self._repr_html_()}</body></html>\n"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode()
        return f'<img alt="{html.escape(str(self))}" src="data:image/gif;base64,{data}">'

    def __repr__(self) -> str:
        """Say what is shown."""
        returns = ", ".join(f"{x:.6g}" for x in self.returns[:5])
        more = ", ..." if len(self.returns) > 5 else ""
        return f"Movie({self._title}: {len(self)} frames, returns {returns}{more})"


def require_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a movie.

    Raises:
        ValueError: if its suffix is neither `.gif` nor `.html`, or it is a folder, or in one that
            cannot be written to.
    """
    place = files.as_path(path)
    if place.suffix.lower() not in (".gif", ".html"):
        raise ValueError(f"{place}: give a path that ends in .gif or .html")
    if place.is_dir():
        raise ValueError(f"{place} is a folder: give the path of a file")
    files.require_writable(place.parent)
    return place


def _palette(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the colours `[N, 3]` that serve some frames best: few for flat drawings."""
    from PIL import Image

    packed = [np.unique(_packed(frame), return_counts=True) for frame in frames]
    colors = np.concatenate([each for each, _ in packed])
    distinct, place = np.unique(colors, return_inverse=True)
    if len(distinct) > _FLAT:
        rows = max(frame.shape[0] for frame in frames)
        joined = np.concatenate([np.resize(x, (rows, *x.shape[1:])) for x in frames], axis=1)
        best = Image.fromarray(joined).quantize(256, Image.Quantize.MEDIANCUT).getpalette()
        return np.array(best, np.uint8).reshape(-1, 3)
    # The drawing's own colours come before the shades of its edges.
    counts = np.bincount(place, np.concatenate([count for _, count in packed]))
    most = distinct[np.argsort(-counts, kind="stable")[:_FEW]]
    return np.stack([most >> 16, most >> 8 & 255, most & 255], axis=-1).astype(np.uint8)


def _indexed(frame: np.ndarray, palette: np.ndarray) -> Any:
    """Return a frame in the nearest colours of a palette."""
    from PIL import Image

    if len(palette) > _FEW:
        of_palette = Image.new("P", (1, 1))
        of_palette.putpalette(palette.reshape(-1).tolist())
        return Image.fromarray(frame).quantize(palette=of_palette, dither=Image.Dither.NONE)
    # Exactly, for what Pillow looks up is off by a few shades, and white would be grey.
    colors, place = np.unique(_packed(frame), return_inverse=True)
    each = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=-1)
    away = ((each[:, None].astype(int) - palette[None].astype(int)) ** 2).sum(axis=-1)
    image = Image.fromarray(away.argmin(axis=1)[place].reshape(frame.shape[:2]).astype(np.uint8))
    image.putpalette(palette.reshape(-1).tolist())
    return image


def _packed(frame: np.ndarray) -> np.ndarray:
    """Return each pixel's colour as one number."""
    red, green, blue = np.moveaxis(frame.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue
