"""The one door to environments."""

from types import ModuleType

from jaxrl_pg.envs.adapters.suites import is_name
from jaxrl_pg.envs.configured import of
from jaxrl_pg.envs.making import Env, listing, make
from jaxrl_pg.envs.observations import as_rows, batch
from jaxrl_pg.envs.vector import reset, step, time_limit, to_env_action
from jaxrl_pg.lazy import submodule

__all__ = [
    "Env",
    "as_rows",
    "batch",
    "is_name",
    "listing",
    "make",
    "of",
    "reset",
    "step",
    "time_limit",
    "to_env_action",
]


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
