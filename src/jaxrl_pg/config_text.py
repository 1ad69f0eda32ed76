"""Configs as text: a short `repr`, and a docstring that lists every field.

    >>> ppo.Config(env="Pendulum-v1", gamma=0.9)
    ppo.Config(env='Pendulum-v1', gamma=0.9)

`help(ppo.Config)` gives each field with its type, range, default and text. The texts stand below
the fields in the source, and are read from there when someone asks.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import textwrap
import typing
from typing import Any

import jax
import numpy as np

from jaxrl_pg.fields import Kind, kinds

__all__ = ["ListsFields", "field_texts", "short_repr"]

_AGENTS = "jaxrl_pg.agents."


def short_repr(data: Any) -> str:
    """Return a dataclass as the call that makes it, with the fields that differ from the defaults.

    After `from jaxrl_pg import ppo`, the text of one of its configs is Python that makes an equal
    one. What cannot be written so, an object or an array with axes, stands in angle brackets.
    """
    cls = type(data)
    place = cls.__module__.removeprefix(_AGENTS)
    name = cls.__qualname__ if place == cls.__module__ else f"{place}.{cls.__qualname__}"
    changed = [
        f"{field.name}={_shown(getattr(data, field.name))}"
        for field in dataclasses.fields(data)
        if not _same(getattr(data, field.name), _default(field))
    ]
    return f"{name}({', '.join(changed)})"


class ListsFields:
    """A class's `__doc__` that adds its fields, read from the source when it is asked for."""

    def __init__(self, text: str) -> None:
        """Keep the text that stands before the fields."""
        self.text = text

    def __get__(self, instance: object, owner: type) -> str:
        """Return the text and the fields."""
        about = inspect.cleandoc(self.text)
        try:
            listed = _listed(owner)
        except (OSError, TypeError, SyntaxError):  # no source, as in an interactive session
            return about
        return f"{about}\n\nFields:\n\n{listed}" if listed else about


@functools.cache
def field_texts(cls: type) -> dict[str, str]:
    """Return the text below each field of a dataclass and of its bases, by the field's name.

    Raises:
        OSError: if Python has no source of a class.
    """
    texts = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__)):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                texts[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return texts


def _listed(cls: Any) -> str:
    texts, known = field_texts(cls), kinds(cls)
    lines = []
    for field in dataclasses.fields(cls):
        default = _default(field)
        shown = "" if default is dataclasses.MISSING else f" = {_shown(default)}"
        lines.append(f"    {field.name}: {_allowed(known[field.name])}{shown}")
        lines += textwrap.wrap(texts.get(field.name, ""), 88, **_BELOW)
    return "\n".join(lines)


_BELOW: dict[str, Any] = {"initial_indent": " " * 8, "subsequent_indent": " " * 8}


def _allowed(kind: Kind) -> str:
    """Say in words what a field may hold."""
    if typing.get_origin(kind.base) is typing.Literal:
        words = " | ".join(map(repr, typing.get_args(kind.base)))
    elif kind.base in (int, float):
        words = kind.range.describe(kind.base is int)
    elif kind.base is Any:
        words = "a name or an object"
    else:
        words = kind.base.__name__ if isinstance(kind.base, type) else str(kind.base)
    return f"{words}, or None" if kind.optional else words


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    return type(value) is type(default) and _is_plain(value) and bool(value == default)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_shown(x)}" for key, x in value.items()) + "}"
    if _is_plain(value):
        return repr(value)
    if isinstance(value, jax.core.Tracer):
        return f"<traced {value.aval.str_short()}>"
    if isinstance(value, np.ndarray | jax.Array) and value.dtype.kind in "iuf" and value.size:
        numbers = np.asarray(value)
        return f"<{value.dtype}{list(value.shape)}, {numbers.min():g} to {numbers.max():g}>"
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<{named.__module__}:{named.__qualname__}>"
