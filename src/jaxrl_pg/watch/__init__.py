"""See a trained policy play: episodes recorded as `evaluate` plays them, drawn on the host."""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
