"""The one door to environments."""

from types import ModuleType

from jaxrl_pg.envs.configured import of
from jaxrl_pg.envs.host import on_host
from jaxrl_pg.envs.making import Env, listing, make
from jaxrl_pg.envs.observations import as_rows, batch, packed
from jaxrl_pg.envs.own import is_name, spelled_out
from jaxrl_pg.envs.vector import release, reset, step, time_limit, to_env_action
from jaxrl_pg.lazy import submodule

__all__ = [
    "Env",
    "as_rows",
    "batch",
    "is_name",
    "listing",
    "make",
    "of",
    "on_host",
    "packed",
    "release",
    "reset",
    "spelled_out",
    "step",
    "time_limit",
    "to_env_action",
]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
