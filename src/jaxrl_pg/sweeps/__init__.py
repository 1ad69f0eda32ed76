"""Many runs: experiment files, batches that share a compiled program, tables of results."""

from types import ModuleType

from jaxrl_pg.lazy import submodule


def __getattr__(name: str) -> ModuleType:
    return submodule(__name__, name)
