"""The one door to environments."""

from jaxrl_pg.envs.vector import Env, make, reset, step, time_limit, to_env_action

__all__ = ["Env", "make", "reset", "step", "time_limit", "to_env_action"]
