"""Which drawer an environment has.

An environment that can draw itself does: one with a method `render(state, params)` that returns
`[H, W, 3]` bytes, as those of the suites have here, or one of gymnasium's with `rgb_array`. For
gymnax's and ours there is `DRAWERS`, by name. What is left gets a panel of observations and
actions.
"""

from __future__ import annotations

import importlib
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.envs.adapters.counted import Views
from jaxrl_pg.watch import bodies, classic, grids, images, panel
from jaxrl_pg.watch.canvas import fitted
from jaxrl_pg.watch.scene import Draw, Scene

__all__ = ["DRAWERS", "Stage", "name_of", "stage_of"]

# An environment's name, and the module and function that draw it.
DRAWERS = {
    "CartPole-v1": "classic.cart_pole",
    "PositionOnlyCartPole-v1": "classic.cart_pole",
    "Pendulum-v1": "classic.pendulum",
    "Acrobot-v1": "classic.acrobot",
    "MountainCar-v0": "classic.mountain_car",
    "MountainCarContinuous-v0": "classic.mountain_car",
    "Asterix-MinAtar": "images.minatar",
    "Breakout-MinAtar": "images.minatar",
    "Freeway-MinAtar": "images.minatar",
    "Seaquest-MinAtar": "images.minatar",
    "SpaceInvaders-MinAtar": "images.minatar",
    "Pong-misc": "images.minatar",
    "FourRooms-misc": "grids.maze",
    "MetaMaze-misc": "grids.maze",
    "FrozenLake-misc": "grids.frozen_lake",
    "DeepSea-bsuite": "grids.deep_sea",
    "Catch-bsuite": "grids.catch",
    "TMaze": "grids.t_maze",
    "Crossing-grid": "grids.crossing",
    "pgx:2048": "grids.game_2048",
    "pgx:minatar-asterix": "images.minatar",
    "pgx:minatar-breakout": "images.minatar",
    "pgx:minatar-freeway": "images.minatar",
    "pgx:minatar-seaquest": "images.minatar",
    "pgx:minatar-space_invaders": "images.minatar",
    "PointRobot-misc": "points.point_robot",
    "Reacher-misc": "points.reacher",
    "Swimmer-misc": "points.swimmer",
}


class Stage(NamedTuple):
    """How an environment's episodes are drawn.

    Attributes:
        draw: from an episode and its number to what draws it.
        env: to play in: the config's own, or one that differs only in that it is seen.
        with_states: whether states are read.
        actions: what the numbers of discrete actions mean, where that is known.
    """

    draw: Callable[[Scene, int], Draw]
    env: envs.Env
    with_states: bool = True
    actions: tuple[str, ...] = ()


def name_of(config: BaseConfig, core: Any) -> str:
    """Return what the environment is called: as the config does, or as it does itself."""
    return config.env if isinstance(config.env, str) else envs.spaces.name_of(core)


def stage_of(config: BaseConfig, env: envs.Env, width: int) -> Stage:
    """Choose how the environment of a config is drawn.

    Args:
        config: the agent's.
        env: from `envs.of`.
        width: of the pictures, in pixels.
    """
    core = env.core.inner if isinstance(env.core, envs.frames.Stacked) else env.core
    if envs.on_host(core):
        return _on_host(env, core, width)
    render = getattr(core, "render", None)
    if callable(render) and not _is_of_gymnax(render):  # those return figures
        return Stage(lambda scene, _: _rendered(scene), env)
    views = getattr(core, "views", None)
    if isinstance(views, Views) and (views.bodies or views.picture):
        drawer = bodies.bodies if views.bodies else _pictured
        return Stage(lambda scene, _: drawer(scene), env)
    name = name_of(config, core).partition("?")[0]
    if name in DRAWERS and (isinstance(config.env, str) or _has_gymnax_states(env)):
        module, function = DRAWERS[name].split(".")
        drawer = getattr(importlib.import_module(f"jaxrl_pg.watch.{module}"), function)
        return Stage(lambda scene, _: drawer(scene), env, actions=_actions(name, core))
    if isinstance(core, envs.from_mdp.Tabular):
        return Stage(lambda scene, _: grids.states(scene), env)
    return Stage(lambda scene, _: panel.panel(scene), env, with_states=False)


def _is_of_gymnax(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("gymnax.")


def _has_gymnax_states(env: envs.Env) -> bool:
    """Whether an object's states are gymnax's own, and not those of a wrapper around them."""
    state = jax.eval_shape(env.core.reset_env, jax.random.key(0), env.params)[1]
    return _is_of_gymnax(type(state))


def _actions(name: str, core: Any) -> tuple[str, ...]:
    known = {**classic.ACTIONS, **grids.ACTIONS, "Pong-misc": ("stay", "up", "down")}
    if name.endswith("-MinAtar"):
        return tuple(images.MOVES[int(i)] for i in core.action_set)
    return known.get(name, ())


def _pictured(scene: Scene) -> Draw:
    """Let the environment's suite draw its states."""
    picture = scene.env.core.views.picture
    return lambda t: fitted(np.ascontiguousarray(picture(scene.state(t).inner)), scene.width)


def _rendered(scene: Scene) -> Draw:
    """Let the environment draw its states itself."""
    core, params = scene.env.core, scene.env.params

    def draw(t: int) -> np.ndarray:
        picture = np.asarray(core.render(scene.state(t), params))
        if picture.ndim != 3 or picture.shape[-1] not in (3, 4) or picture.dtype != np.uint8:
            raise ValueError(
                f"{envs.spaces.name_of(core)}: render returns {picture.dtype}"
                f"{list(picture.shape)}: return a picture, uint8 [H, W, 3]"
            )
        return fitted(np.ascontiguousarray(picture[..., :3]), scene.width)

    return draw


def _on_host(env: envs.Env, core: Any, width: int) -> Stage:
    """Have an environment on the host hand on the pictures of its own renderer."""
    packed: list[list[tuple[tuple[int, ...], bytes]]] = []

    def show(pictures: list[np.ndarray]) -> None:
        small = [fitted(np.ascontiguousarray(picture), width) for picture in pictures]
        packed.append([(x.shape, zlib.compress(x.tobytes(), 1)) for x in small])

    def draw(scene: Scene, episode: int) -> Draw:
        def unpacked(t: int) -> np.ndarray:
            shape, data = packed[t][episode]
            return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)

        return unpacked

    seen: Any = None
    try:
        seen = core.shown(show)
    except envs.kept.HostError as error:  # no display, or a library that it draws with is not there
        warnings.warn(f"{error}: shown is a panel instead", stacklevel=2)
    if seen is None:
        return Stage(lambda scene, _: panel.panel(scene), env, with_states=False)
    if isinstance(env.core, envs.frames.Stacked):
        seen = envs.frames.stack(seen, env.core.num)
    return Stage(draw, env._replace(core=seen), with_states=False)
