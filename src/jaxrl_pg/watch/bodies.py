"""Rigid bodies, drawn from the side: spheres, capsules, cylinders, boxes and ellipsoids.

The places are MuJoCo's; the drawing needs no graphics driver. The view is along the y-axis, a
little from above, and follows the first body; a grid on the ground shows how far it has come.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg.watch.canvas import Canvas, Point
from jaxrl_pg.watch.colors import LIGHT, Color
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["bodies"]

_PLANE, _SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER, _BOX, _MESH = 0, 2, 3, 4, 5, 6, 7
_ABOVE = math.radians(18)  # the camera looks down by this angle
_ASIDE = math.radians(20)  # and comes from a little in front


class _View(NamedTuple):
    """An orthogonal view: axes to the right, upwards, and towards the viewer."""

    right: np.ndarray
    up: np.ndarray
    near: np.ndarray


def _view() -> _View:
    c, s = math.cos(_ASIDE), math.sin(_ASIDE)
    right = np.array([c, s, 0.0])
    near = np.array([s * math.cos(_ABOVE), -c * math.cos(_ABOVE), math.sin(_ABOVE)])
    return _View(right, np.cross(near, right), near)


def bodies(scene: Scene) -> Draw:
    """Draw the shapes that an environment's simulator moves."""
    placed, view = scene.env.core.views.bodies, _view()
    model, data = placed(scene.state(0).inner)
    shown = [i for i in range(model.ngeom) if _is_shown(model, i)]
    reach = 1.25 * max([0.3, *(_extent(model, data, i) for i in shown)])

    def draw(t: int) -> np.ndarray:
        model, data = placed(scene.state(t).inner)
        middle = np.array(data.geom_xpos[shown]).mean(axis=0) if shown else np.zeros(3)
        x, y = float(middle @ view.right), float(middle @ view.up)
        canvas = Canvas(scene.width, (x - reach / 0.75, x + reach / 0.75), (y - reach, y + reach))
        if _PLANE in model.geom_type:
            _ground(canvas, view, middle, reach)
        for i in sorted(shown, key=lambda i: float(data.geom_xpos[i] @ view.near)):
            _shape(canvas, view, model, data, i)
        return canvas.picture()

    return draw


def _is_shown(model: Any, i: int) -> bool:
    kinds = (_SPHERE, _CAPSULE, _ELLIPSOID, _CYLINDER, _BOX, _MESH)
    return int(model.geom_type[i]) in kinds and model.geom_rgba[i, 3] > 0.05


def _extent(model: Any, data: Any, i: int) -> float:
    """How far a shape reaches from the middle of the first picture."""
    middle = np.array(data.geom_xpos[1:] if len(data.geom_xpos) > 1 else data.geom_xpos)
    away = data.geom_xpos[i] - np.median(middle, axis=0)
    return float(np.linalg.norm(away) + min(model.geom_rbound[i], 2.0))


def _ground(canvas: Canvas, view: _View, middle: np.ndarray, reach: float) -> None:
    """Draw a chequered floor at height 0 around a place."""
    size = 0.5 * reach
    columns, rows = (
        range(math.floor(m / size) - 12, math.floor(m / size) + 13) for m in middle[:2]
    )
    for i, j in itertools.product(columns, rows):
        corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        color: Color = LIGHT if (i + j) % 2 else (243, 244, 246)
        canvas.polygon(
            [_seen(view, np.array([a * size, b * size, 0.0])) for a, b in corners], color
        )


def _shape(canvas: Canvas, view: _View, model: Any, data: Any, i: int) -> None:
    """Draw one shape, with an edge of a darker colour."""
    kind, size = int(model.geom_type[i]), np.array(model.geom_size[i])
    place, turned = np.array(data.geom_xpos[i]), np.array(data.geom_xmat[i]).reshape(3, 3)
    color = _color(model, i)
    edge: Color = tuple(x * 3 // 5 for x in color)  # type: ignore[assignment]
    rim = 0.012 * canvas.span
    if kind in (_CAPSULE, _CYLINDER):
        half = turned[:, 2] * size[1]
        ends = [_seen(view, place - half), _seen(view, place + half)]
        canvas.line(ends, edge, 2 * size[0] + rim)
        canvas.line(ends, color, max(2 * size[0] - rim, rim))
    elif kind == _SPHERE:
        canvas.circle(_seen(view, place), size[0] + rim / 2, edge)
        canvas.circle(_seen(view, place), max(size[0] - rim / 2, rim / 2), color)
    elif kind == _ELLIPSOID:
        outline = _ellipse(view, turned * size)
        x, y = _seen(view, place)
        canvas.polygon([(x + a, y + b) for a, b in outline], color, edge)
    else:
        half = size if kind == _BOX else np.full(3, float(model.geom_rbound[i]) / 2)
        corners = [
            place + turned @ (half * signs) for signs in itertools.product((-1, 1), repeat=3)
        ]
        canvas.polygon(_hull([_seen(view, corner) for corner in corners]), color, edge)


def _color(model: Any, i: int) -> Color:
    """A shape's colour, or its material's; never so bright that it is lost on the ground."""
    material = int(model.geom_matid[i])
    rgb = np.array((model.mat_rgba[material] if material >= 0 else model.geom_rgba[i])[:3])
    red, green, blue = (int(x) for x in 235 * np.clip(rgb, 0, 1))
    return (red, green, blue)


def _seen(view: _View, place: np.ndarray) -> Point:
    return float(place @ view.right), float(place @ view.up)


def _ellipse(view: _View, axes: np.ndarray) -> list[Point]:
    """The outline of an ellipsoid whose half axes are columns, seen from afar."""
    across = np.stack([view.right, view.up]) @ axes
    root = np.linalg.cholesky(across @ across.T + 1e-12 * np.eye(2))
    angles = np.linspace(0, 2 * math.pi, 40)
    return [(float(x), float(y)) for x, y in (root @ np.stack([np.cos(angles), np.sin(angles)])).T]


def _hull(points: list[Point]) -> list[Point]:
    """The convex hull of points, in order (Andrew's monotone chain)."""

    def half(ordered: list[Point]) -> list[Point]:
        chain: list[Point] = []
        for x, y in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    ordered = sorted(points)
    return half(ordered) + half(ordered[::-1])
