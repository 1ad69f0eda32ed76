"""Entropy-regularised control: soft values, soft learning, control as inference."""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
