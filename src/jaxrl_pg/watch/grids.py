"""Grid worlds and other worlds of cells, drawn from their states."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxrl_pg.watch.canvas import Canvas
from jaxrl_pg.watch.colors import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    SKY,
    VERMILLION,
    WHITE,
    Color,
    shaded,
)
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = [
    "ACTIONS",
    "catch",
    "crossing",
    "deep_sea",
    "frozen_lake",
    "game_2048",
    "maze",
    "states",
    "t_maze",
]

ACTIONS = {
    "Catch-bsuite": ("left", "stay", "right"),
    "FourRooms-misc": ("up", "right", "down", "left"),
    "FrozenLake-misc": ("left", "down", "right", "up"),
    "MetaMaze-misc": ("up", "right", "down", "left"),
    "pgx:2048": ("left", "up", "right", "down"),
    "TMaze": ("north", "east", "south", "west"),
}
Cell = tuple[int, int]


def maze(scene: Scene) -> Draw:
    """Draw rooms, walls, the goal, the agent, and where it has been."""
    free = np.asarray(scene.env.core.env_map) > 0
    places = np.asarray(scene.recording.states.pos)

    def draw(t: int) -> np.ndarray:
        state = scene.state(t)
        cells = np.where(free[..., None], WHITE, GREY)
        canvas = _board(scene.width, cells)
        _trail(canvas, places[: t + 1])
        _goal(canvas, _cell(state.goal))
        _agent(canvas, _cell(state.pos))
        return canvas.picture()

    return draw


def frozen_lake(scene: Scene) -> Draw:
    """Draw ice, holes, the goal and the agent."""
    tiles = np.asarray(scene.env.core.desc)
    words = np.array(list("SFHG"))[tiles]  # gymnax's numbers
    places = np.stack(np.divmod(scene.recording.states.position, tiles.shape[1]), axis=-1)

    def draw(t: int) -> np.ndarray:
        colors = {"H": BLACK, "G": WHITE, "S": WHITE, "F": (214, 236, 250)}
        cells = np.array([[colors[word] for word in row] for row in words])
        canvas = _board(scene.width, cells)
        _trail(canvas, places[: t + 1])
        for place in np.argwhere(words == "G"):
            _goal(canvas, _cell(place))
        _agent(canvas, _cell(places[t]))
        return canvas.picture()

    return draw


def deep_sea(scene: Scene) -> Draw:
    """Draw a diver who sinks by a row a step; the treasure is at the bottom right."""
    size = scene.env.core.size
    states = scene.recording.states
    places = np.stack([states.row, states.column], axis=-1)

    def draw(t: int) -> np.ndarray:
        cells = np.full((size + 1, size, 3), (214, 236, 250))
        cells[size] = GREY  # below the last row the episode is over
        canvas = _board(scene.width, cells)
        _trail(canvas, places[: t + 1])
        _goal(canvas, (size - 1, size - 1))
        _agent(canvas, _cell(places[t]))
        return canvas.picture()

    return draw


def catch(scene: Scene) -> Draw:
    """Draw a falling ball and the paddle that is to catch it."""
    shape = (scene.env.core.rows, scene.env.core.columns)

    def draw(t: int) -> np.ndarray:
        state = scene.state(t)
        canvas = _board(scene.width, np.full((*shape, 3), WHITE))
        row, column = -float(state.paddle_y), float(state.paddle_x)
        canvas.box((column - 0.45, row - 0.4), (column + 0.45, row - 0.1), BLUE)
        canvas.circle((float(state.ball_x), -float(state.ball_y)), 0.28, VERMILLION)
        return canvas.picture()

    return draw


def t_maze(scene: Scene) -> Draw:
    """Draw a corridor, the sign in its first cell, and the two ways out."""
    length = 10

    def draw(t: int) -> np.ndarray:
        place, goal = (int(x) for x in scene.state(t).inner)
        over = t == len(scene.recording.actions) and scene.recording.terminated
        cells = np.full((3, length + 1, 3), GREY)
        cells[1], cells[:, length] = WHITE, WHITE
        canvas = _board(scene.width, cells)
        goal_row = 0 if goal == 0 else 2
        _goal(canvas, (goal_row, length))
        # The sign: it is seen in the first cell only, and has to be remembered.
        up = 0.35 if goal == 0 else -0.35
        canvas.arrow((0, -up), (0, up), ORANGE, 0.12)
        taken = int(scene.recording.actions[-1])
        row = (0 if taken == 0 else 2) if over else 1
        _agent(canvas, (row, place))
        return canvas.picture()

    return draw


def crossing(scene: Scene) -> Draw:
    """Draw two players who are to change places on two rows of three cells."""

    def draw(t: int) -> np.ndarray:
        state = int(scene.state(t).state)
        pair = (2, 0) if state == 36 else divmod(state, 6)
        canvas = _board(scene.width, np.full((2, 3, 3), WHITE))
        size = scene.width // 16
        for cell, color, name in zip(pair, (BLUE, VERMILLION), "12", strict=True):
            row, column = divmod(cell, 3)
            _agent(canvas, (row, column), color)
            canvas.text((column, -row), name, WHITE, size)
        for column, color, name in ((2, BLUE, "1's goal"), (0, VERMILLION, "2's goal")):
            canvas.text((column, 0.42), name, color, size // 2)
        return canvas.picture()

    return draw


def states(scene: Scene) -> Draw:
    """Draw a finite MDP: its states as numbered cells, the present one and those visited before."""
    total = int(scene.env.core.num_states)
    columns = math.ceil(math.sqrt(1.5 * total))
    rows = math.ceil(total / columns)
    visits = np.asarray(scene.recording.states.state)

    def draw(t: int) -> np.ndarray:
        cells = np.full((rows, columns, 3), WHITE)
        for number in range(total, rows * columns):
            cells[divmod(number, columns)] = GREY
        for number in set(visits[:t].tolist()):
            cells[divmod(number, columns)] = SKY
        now = divmod(int(visits[t]), columns)
        cells[now] = BLUE
        canvas = _board(scene.width, cells)
        size = scene.width // (3 * columns)
        for number in range(total if size >= 6 else 0):
            row, column = divmod(number, columns)
            color = WHITE if (row, column) == now else BLACK
            canvas.text((column, -row), str(number), color, size)
        return canvas.picture()

    return draw


def game_2048(scene: Scene) -> Draw:
    """Draw the tiles of 2048, brighter the more they are worth."""

    def draw(t: int) -> np.ndarray:
        powers = np.reshape(scene.state(t).inner._board, (4, 4)).astype(int)
        cells = np.where(powers[..., None] > 0, shaded(np.clip(powers / 12, 0, 1)), WHITE)
        canvas = _board(scene.width, cells)
        for (row, column), power in np.ndenumerate(powers):
            color = BLACK if power > 5 else WHITE
            if power:
                canvas.text((column, -row), str(2**power), color, scene.width // 18)
        return canvas.picture()

    return draw


def _board(width: int, colors: np.ndarray) -> Canvas:
    """A board of cells `[rows, columns, 3]`; the cell of row r and column c is around (c, -r)."""
    rows, columns, _ = colors.shape
    side = max(columns, 1.2 * rows) / 2  # tall boards get room at their sides
    middle = (columns - 1) / 2
    canvas = Canvas(width, (middle - side, middle + side), (0.5 - rows, 0.5), LIGHT)
    for row, column in np.ndindex(rows, columns):
        color: Color = tuple(int(x) for x in colors[row, column])  # type: ignore[assignment]
        gap = 0.49
        canvas.box((column - gap, -row - gap), (column + gap, -row + gap), color)
    return canvas


def _cell(place: Any) -> Cell:
    row, column = (int(x) for x in np.reshape(place, -1))
    return row, column


def _agent(canvas: Canvas, cell: Cell, color: Color = BLUE) -> None:
    canvas.circle((cell[1], -cell[0]), 0.34, color)


def _goal(canvas: Canvas, cell: Cell) -> None:
    row, column = cell
    canvas.line([(column - 0.2, -row - 0.35), (column - 0.2, -row + 0.38)], BLACK, 0.06)
    flag = [(column - 0.2, -row + 0.4), (column + 0.35, -row + 0.2), (column - 0.2, -row)]
    canvas.polygon(flag, GREEN)


def _trail(canvas: Canvas, places: Iterable[Any]) -> None:
    points = [(float(column), -float(row)) for row, column in places]
    if len(points) > 1:
        canvas.line(points, SKY, 0.1)
