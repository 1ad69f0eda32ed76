"""Dataclasses of this package read off their source, without importing what surrounds them.

    reading.dataclass("jaxrl_pg.agents.ppo:Config")

A config stands in the file of its agent, which imports JAX, flax and optax. That takes more than a
second, and the help needs nothing of it. So the fields are read here: of a class its fields and
bases, of a module the few names that they use. Nothing else in the modules is run.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jaxrl_pg

__all__ = ["argument", "dataclass", "docstring"]

_ROOT = Path(jaxrl_pg.__file__).parent
_IMPORTED = ("jaxrl_pg.fields",)  # imports no JAX, and its ranges have methods


class _Module(NamedTuple):
    """A module of this package, of which names are read as they are asked for."""

    name: str

    def __getattr__(self, name: str) -> Any:
        return _value(self.name, name)


def dataclass(path: str) -> Any:
    """Return a dataclass with the fields of the one that is `module:name`.

    It has no methods and checks nothing.
    """
    module, _, name = path.partition(":")
    return _value(module, name)


def docstring(module: str) -> str:
    """Return the docstring of a module."""
    return ast.get_docstring(_tree(module)) or ""


def argument(module: str, name: str, keyword: str, otherwise: Any) -> Any:
    """Return a literal that a module hands, by its keyword, to the call that makes `name`."""
    made = _bindings(module)[name]
    assert isinstance(made, ast.Assign)
    assert isinstance(made.value, ast.Call)
    given = {word.arg: word.value for word in made.value.keywords}
    return ast.literal_eval(given[keyword]) if keyword in given else otherwise


def _file(module: str) -> Path | None:
    place = _ROOT.joinpath(*module.split(".")[1:])
    found = [place / "__init__.py", place.with_suffix(".py")]
    return next((path for path in found if path.is_file()), None)


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _bindings(module: str) -> dict[str, ast.stmt]:
    """Return the statement that gives each name of a module."""
    found: dict[str, ast.stmt] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            names = [node.name] if isinstance(node, ast.ClassDef) else []
        found.update(dict.fromkeys(names, node))
    return found


@functools.cache
def _value(module: str, name: str) -> Any:
    """Return what a name of a module stands for."""
    node = _bindings(module)[name]
    if isinstance(node, ast.ClassDef):
        return _class(module, node)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        assert node.value is not None
        return _evaluated(module, node.value)
    assert isinstance(node, ast.Import | ast.ImportFrom)
    (original,) = (alias.name for alias in node.names if name in (alias.asname, alias.name))
    source = node.module if isinstance(node, ast.ImportFrom) else original
    assert source is not None
    if source.split(".")[0] in sys.stdlib_module_names or source in _IMPORTED:
        found = import_module(source)
        return getattr(found, original) if isinstance(node, ast.ImportFrom) else found
    assert source.split(".")[0] == "jaxrl_pg", f"{module} takes {name} from {source}"
    if _file(f"{source}.{original}") is not None:
        return _Module(f"{source}.{original}")
    return _value(source, original)


def _class(module: str, node: ast.ClassDef) -> Any:
    """Return a dataclass with the fields and bases of a class, `PytreeDataclass` as its root."""
    if node.name == "PytreeDataclass":
        return object
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    values = {
        ast.unparse(item.target): _evaluated(module, item.value)
        for item in fields
        if item.value is not None
    }
    annotations = {ast.unparse(item.target): _evaluated(module, item.annotation) for item in fields}
    body = {
        "__module__": module,
        "__doc__": ast.get_docstring(node),
        "__definition__": node,  # for the texts below the fields
        "__annotations__": annotations,
        **values,
    }
    bases = tuple(_evaluated(module, base) for base in node.bases)
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(node.name, bases, body))


def _evaluated(module: str, expression: ast.expr) -> Any:
    """Return the value of an expression in a module."""
    names = {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
    known = {name: _value(module, name) for name in names if name in _bindings(module)}
    return eval(compile(ast.Expression(expression), module, "eval"), known)
