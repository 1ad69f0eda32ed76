"""The environment that a config names, with what the config adds to it."""

from __future__ import annotations

from jaxrl_pg.config import BaseConfig
from jaxrl_pg.envs import frames, making, spaces
from jaxrl_pg.envs.making import Env

__all__ = ["of"]


def of(config: BaseConfig) -> Env:
    """Make the environment of a config, its observations stacked if that is asked for.

    Raises:
        ValueError: as `making.make`.
    """
    env = making.make(config.env, config.env_params)
    if config.frame_stack == 1:
        return env
    core = frames.stack(env.core, config.frame_stack)
    return Env(core, env.params, spaces.spec(core))
