"""Modules of a package that are imported when they are first named.

`import jaxrl_pg` and then `jaxrl_pg.sweeps.search` works, and importing the package stays cheap.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

__all__ = ["submodule"]


def submodule(package: str, name: str) -> ModuleType:
    """Import a module of a package by its name, for the package's `__getattr__`.

    Raises:
        AttributeError: if the package has no such module.
    """
    if name.startswith("_") or find_spec(f"{package}.{name}") is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return import_module(f"{package}.{name}")
