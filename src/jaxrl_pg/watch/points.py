"""Tasks of a point or an arm in the plane."""

from __future__ import annotations

import math

import numpy as np

from jaxrl_pg.watch.canvas import Canvas
from jaxrl_pg.watch.colors import BLACK, BLUE, GREEN, GREY, LIGHT, ORANGE, SKY, VERMILLION
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["point_robot", "reacher", "swimmer"]


def point_robot(scene: Scene) -> Draw:
    """Draw a point, the half circle of possible goals, and the goal, which it does not see."""
    radius, near = scene.param("circle_radius", 1.0), scene.param("goal_radius", 0.2)
    places = np.asarray(scene.recording.states.pos)

    def draw(t: int) -> np.ndarray:
        canvas = _plane(scene, 1.5 * radius, low=-0.5 * radius, high=1.4 * radius)
        angles = np.linspace(0, math.pi, 60)
        arc = [(radius * math.cos(a), radius * math.sin(a)) for a in angles]
        canvas.line(arc, GREY, 0.015)
        goal = scene.state(t).goal
        canvas.circle((float(goal[0]), float(goal[1])), near, GREEN)
        _path(canvas, places[: t + 1])
        canvas.circle(_point(places[t]), 0.05 * radius, BLUE)
        return canvas.picture()

    return draw


def reacher(scene: Scene) -> Draw:
    """Draw an arm of links of length 1, and what its hand is to reach."""
    num = scene.recording.states.angles.shape[-1]

    def draw(t: int) -> np.ndarray:
        state = scene.state(t)
        canvas = _plane(scene, 1.35 * num, low=-1.05 * num, high=1.05 * num)
        canvas.circle(_point(np.reshape(state.goal_xy, -1)), 0.09 * num, GREEN)
        # As the task has it, each link has an angle of its own, not one to the link before.
        ends = np.cumsum(np.stack([np.cos(state.angles), np.sin(state.angles)], axis=-1), axis=0)
        joints = [(0.0, 0.0), *(_point(end) for end in ends)]
        for start, end, color in zip(joints, joints[1:], [BLUE, ORANGE] * num, strict=False):
            canvas.line([start, end], color, 0.06 * num)
        for joint in joints:
            canvas.circle(joint, 0.03 * num, BLACK)
        return canvas.picture()

    return draw


def swimmer(scene: Scene) -> Draw:
    """Draw a swimmer, urchins to keep away from, and the goal."""
    places = np.asarray(scene.recording.states.xy)
    reach = 1.1 * max(1.0, float(np.abs(places).max()))

    def draw(t: int) -> np.ndarray:
        state = scene.state(t)
        canvas = _plane(scene, 1.3 * reach, low=-reach, high=reach)
        canvas.box((-1, -1), (1, 1), LIGHT)
        canvas.circle(_point(state.goal_xy), 0.08, GREEN)
        for urchin in np.reshape(state.urchin_xys, (-1, 2)):
            canvas.circle(_point(urchin), 0.1, VERMILLION)
        _path(canvas, places[: t + 1])
        canvas.circle(_point(state.xy), 0.06, BLUE)
        return canvas.picture()

    return draw


def _plane(scene: Scene, side: float, low: float, high: float) -> Canvas:
    return Canvas(scene.width, (-side, side), (low, high))


def _point(place: np.ndarray) -> tuple[float, float]:
    return float(place[0]), float(place[1])


def _path(canvas: Canvas, places: np.ndarray) -> None:
    if len(places) > 1:
        canvas.line([_point(place) for place in places], SKY, 0.02)
