"""Updates of a whole policy at once: the analytical rule and its neighbours."""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
