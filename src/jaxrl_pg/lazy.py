"""Modules that are imported when they are first used: this package's, and some of other libraries.

`import jaxrl_pg` and then `jaxrl_pg.sweeps.search` works, and importing the package stays cheap.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["deferred", "submodule"]


def submodule(package: str, name: str) -> ModuleType:
    """Import a module of a package by its name, for the package's `__getattr__`.

    Raises:
        AttributeError: if the package has no such module.
    """
    if name.startswith("_") or find_spec(f"{package}.{name}") is None:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return import_module(f"{package}.{name}")


@contextlib.contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Let what is imported inside import these modules only when it uses them.

        with deferred("matplotlib", "matplotlib.pyplot"):
            import gymnax

    For a library that imports at once what it uses in few of its functions. Each of these modules
    is replaced by one that forwards to it; modules that are in memory already stay as they are.

    Args:
        *names: of modules, each with its parents.
    """
    added = {name: _Deferred(name) for name in names if name not in sys.modules}
    for name, module in added.items():
        parent, _, last = name.rpartition(".")
        if parent in added:
            setattr(added[parent], last, module)
    sys.modules.update(added)
    try:
        yield
    finally:
        for name, module in added.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _Deferred(ModuleType):
    """A module that is imported when an attribute of it is asked for."""

    def __init__(self, name: str) -> None:
        """Import nothing yet."""
        super().__init__(name)
        self.__path__: list[str] = []  # `from package import module` asks for it

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:  # while the library is being imported
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)
