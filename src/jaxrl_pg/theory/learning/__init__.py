"""Learning from samples on finite MDPs: temporal differences, bandits, estimators."""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
