"""Play episodes of a policy, and make a movie of them.

movie = watching.watch(config, state, Settings(num_episodes=3))
movie.save("play.gif")
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxrl_pg import envs
from jaxrl_pg.config import BaseConfig, agent_of, nearest
from jaxrl_pg.envs.adapters.counted import Views
from jaxrl_pg.training import recording, seeding
from jaxrl_pg.training.arguments import require_config, require_state
from jaxrl_pg.training.recording import Recording
from jaxrl_pg.types import TrainState
from jaxrl_pg.watch import caption, stages
from jaxrl_pg.watch.movie import Clip, Movie
from jaxrl_pg.watch.scene import Scene
from jaxrl_pg.watch.settings import Settings

__all__ = ["settings_of", "watch"]


def settings_of(given: dict[str, Any]) -> Settings:
    """Return settings by their names.

    Raises:
        ValueError: for an unknown name (the nearest is named), or a value out of its range.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}: {nearest(name, known)}")
    return Settings(**given)


def watch(
    config: BaseConfig,
    state: TrainState[Any],
    settings: Settings | None = None,
    deterministic: bool = True,
) -> Movie:
    """Play episodes with a policy, and return them as a movie.

    They are the episodes of `evaluate` with the same seed, number and `deterministic`, in the run's
    own environment and with all that the policy needs: normaliser, masks, memory, stacked frames.

    Args:
        config: the agent's config.
        state: whose learner acts.
        settings: which episodes, and how they are shown.
        deterministic: take the most probable action instead of a sampled one.

    Raises:
        ValueError: for a learner that this config did not make.
    """
    require_config(config)
    require_state(config, state, learner_only=True)
    settings = settings or Settings()
    env = envs.of(config)
    stage = stages.stage_of(config, env, settings.width)
    key = seeding.key_of_seed(settings.seed)
    num, steps = settings.num_episodes, settings.max_steps
    played = recording.record(
        config, state, stage.env, key, num, deterministic, steps, stage.with_states
    )
    core = env.core
    if isinstance(core, envs.frames.Stacked):
        core = core.inner
        played = [x._replace(states=getattr(x.states, "inner", ())) for x in played]
    env = env._replace(core=core)
    factors = getattr(config, "factors", ()) or env.spec.factors
    scenes = [Scene(env, one, settings.width, factors) for one in played]
    name = stages.name_of(config, core)
    clips = [_clip(stage, scene, i, name, settings) for i, scene in enumerate(scenes)]
    views, page = getattr(core, "views", None), None
    if isinstance(views, Views) and views.page is not None:
        page = functools.partial(views.page, played[0].states.inner)
    return Movie(clips, settings.fps, f"{name}, {agent_of(config).name}", page)


def _clip(stage: stages.Stage, scene: Scene, episode: int, name: str, settings: Settings) -> Clip:
    """Draw one episode when its frames are asked for."""
    played, last = scene.recording, len(scene.recording.actions)
    draw = stage.draw(scene, episode)
    which = f"episode {episode + 1} of {settings.num_episodes}"

    def framed(number: int) -> np.ndarray:
        t = min(number * settings.every, last)
        shown = which if settings.num_episodes > 1 else ""
        return caption.captioned(draw(t), name, played, t, stage.actions, shown)

    num = 1 + -(-last // settings.every)
    return Clip(num, framed, _total(played), last)


def _total(played: Recording) -> float:
    """Return an episode's return; NaN where it is cut off before its end."""
    is_over = played.terminated or played.truncated
    return float(caption.returns_so_far(played)[-1]) if is_over else float("nan")
