"""Classic control, drawn from the states of gymnax: the task as it is, in its own units.

An arrow shows the force or torque of the action that is taken in the picture's state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxrl_pg.watch.canvas import Canvas, Point
from jaxrl_pg.watch.colors import BLACK, BLUE, GREEN, GREY, LIGHT, ORANGE, VERMILLION
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["ACTIONS", "acrobot", "cart_pole", "mountain_car", "pendulum"]

ACTIONS = {
    "CartPole-v1": ("left", "right"),
    "PositionOnlyCartPole-v1": ("left", "right"),
    "Acrobot-v1": ("torque -1", "torque 0", "torque +1"),
    "MountainCar-v0": ("left", "none", "right"),
}


def cart_pole(scene: Scene) -> Draw:
    """Draw a cart on its track, which ends where the episode does."""
    limit = scene.param("x_threshold", 2.4)
    length = 2 * scene.param("length", 0.5)  # the parameter is half of the pole

    def draw(t: int) -> np.ndarray:
        state, action = _innermost(scene.state(t), "theta"), scene.action(t)
        x, angle = float(state.x), float(state.theta)
        canvas = Canvas(scene.width, (-1.15 * limit, 1.15 * limit), (-0.45, length + 0.65))
        canvas.line([(-limit, 0.0), (limit, 0.0)], GREY, 0.02)
        for end in (-limit, limit):
            canvas.line([(end, -0.12), (end, 0.12)], VERMILLION, 0.05)
        for wheel in (-0.17, 0.17):
            canvas.circle((x + wheel, 0.07), 0.07, GREY)
        canvas.box((x - 0.32, 0.09), (x + 0.32, 0.38), BLUE)
        foot = (x, 0.3)
        tip = (x + length * math.sin(angle), 0.3 + length * math.cos(angle))
        canvas.line([foot, tip], ORANGE, 0.1)
        canvas.circle(foot, 0.05, BLACK)
        if action is not None:
            side = 1 if action == 1 else -1
            canvas.arrow((x + 0.36 * side, 0.24), (x + 0.86 * side, 0.24), BLACK, 0.05)
        return canvas.picture()

    return draw


def pendulum(scene: Scene) -> Draw:
    """Draw a pendulum that is to stand up, at an angle of 0."""
    length, most = scene.param("l", 1.0), scene.param("max_torque", 2.0)

    def draw(t: int) -> np.ndarray:
        state, action = scene.state(t), scene.action(t)
        angle = float(np.reshape(state.theta, ()))
        canvas = _square(scene, 1.35 * length)
        canvas.line([(0, 0), (0, 1.2 * length)], LIGHT, 0.02 * length)
        tip = (length * -math.sin(angle), length * math.cos(angle))
        canvas.line([(0, 0), tip], VERMILLION, 0.14 * length)
        canvas.circle((0, 0), 0.05 * length, BLACK)
        if action is not None:
            torque = float(np.clip(np.reshape(action, ()), -most, most)) / most
            _turn(canvas, torque * 0.75 * math.pi, 0.38 * length)
        return canvas.picture()

    return draw


def acrobot(scene: Scene) -> Draw:
    """Draw two links that hang from a bar, and the height that the tip is to reach."""
    first, second = scene.param("link_length_1", 1.0), scene.param("link_length_2", 1.0)
    reach = 1.08 * (first + second)
    torques = np.asarray(getattr(scene.env.params, "available_torque", (-1.0, 0.0, 1.0)))

    def draw(t: int) -> np.ndarray:
        state, action = scene.state(t), scene.action(t)
        a, b = float(state.joint_angle1), float(state.joint_angle1 + state.joint_angle2)
        elbow = (first * math.sin(a), -first * math.cos(a))
        tip = (elbow[0] + second * math.sin(b), elbow[1] - second * math.cos(b))
        canvas = _square(scene, reach)
        canvas.line([(-reach, 1.0), (reach, 1.0)], GREEN, 0.025)
        canvas.line([(0, 0), elbow], BLUE, 0.16)
        canvas.line([elbow, tip], ORANGE, 0.16)
        for joint in ((0.0, 0.0), elbow):
            canvas.circle(joint, 0.07, BLACK)
        if action is not None:
            _turn(canvas, 0.6 * math.pi * float(torques[int(action)]), 0.4, elbow)
        return canvas.picture()

    return draw


def mountain_car(scene: Scene) -> Draw:
    """Draw a car between two hills, and the flag that it is to reach."""
    low, high = scene.param("min_position", -1.2), scene.param("max_position", 0.6)
    goal = scene.param("goal_position", 0.5)
    hills = [(x, _height(x)) for x in np.linspace(low, high, 120)]

    def draw(t: int) -> np.ndarray:
        state, action = scene.state(t), scene.action(t)
        x = float(np.reshape(state.position, ()))
        canvas = Canvas(scene.width, (low - 0.03, high + 0.03), (-0.06, 1.2))
        canvas.polygon([(low, -0.1), *hills, (high, -0.1)], LIGHT)
        canvas.line(hills, GREY, 0.012)
        canvas.line([(goal, _height(goal)), (goal, _height(goal) + 0.16)], BLACK, 0.01)
        top = _height(goal) + 0.16
        canvas.polygon([(goal, top), (goal - 0.09, top - 0.03), (goal, top - 0.06)], GREEN)
        _car(canvas, x)
        push = _push(action)
        start = (x, _height(x) + 0.17)
        canvas.arrow(start, (x + 0.25 * push, start[1]), BLACK, 0.02)
        return canvas.picture()

    return draw


def _push(action: Any) -> float:
    """The force of an action, from -1 to 1: a number of -1, 0, 1, or a force itself."""
    if action is None:
        return 0.0
    if np.issubdtype(action.dtype, np.integer):
        return float(action) - 1.0
    return float(np.clip(np.reshape(action, ()), -1, 1))


def _height(x: float) -> float:
    """The hills of Moore's mountain car, whose slope is in the dynamics."""
    return 0.45 * math.sin(3 * x) + 0.55


def _car(canvas: Canvas, x: float) -> None:
    slope = math.atan(1.35 * math.cos(3 * x))
    along = np.array([math.cos(slope), math.sin(slope)])
    up = np.array([-along[1], along[0]])
    base = np.array([x, _height(x)])

    def at(forward: float, above: float) -> Point:
        place = base + forward * along + above * up
        return (float(place[0]), float(place[1]))

    canvas.polygon([at(-0.07, 0.025), at(0.07, 0.025), at(0.07, 0.065), at(-0.07, 0.065)], BLUE)
    canvas.polygon([at(-0.035, 0.06), at(0.04, 0.06), at(0.02, 0.1), at(-0.03, 0.1)], BLUE)
    for forward in (-0.04, 0.04):
        canvas.circle(at(forward, 0.022), 0.022, BLACK)


def _square(scene: Scene, reach: float) -> Canvas:
    """A canvas three quarters as high as wide, whose height is `2 reach`."""
    return Canvas(scene.width, (-reach / 0.75, reach / 0.75), (-reach, reach))


def _turn(canvas: Canvas, angle: float, radius: float, center: Point = (0.0, 0.0)) -> None:
    """Draw an arrow around a joint: anticlockwise for an angle above 0."""
    if abs(angle) < 0.05:
        return
    angles = math.pi / 2 + np.linspace(0.0, angle, 24)
    points = [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in angles]
    canvas.line(points, BLACK, 0.09 * radius)
    ahead = math.copysign(0.3 * radius, angle)
    tip = (
        points[-1][0] - ahead * math.sin(angles[-1]),
        points[-1][1] + ahead * math.cos(angles[-1]),
    )
    out = np.array([math.cos(angles[-1]), math.sin(angles[-1])]) * 0.16 * radius
    end = np.array(points[-1])
    canvas.polygon([tip, tuple(end + out), tuple(end - out)], BLACK)


def _innermost(state: Any, name: str) -> Any:
    """The state that has a field, inside of those that count steps."""
    while not hasattr(state, name):
        state = state.inner
    return state
