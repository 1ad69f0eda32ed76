"""The options of a command, read off the fields of dataclasses."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from typing import Annotated, Any, Literal, NamedTuple

__all__ = ["SEVERAL", "AtLeast", "Kind", "Option", "kinds", "of"]

# By type of a field: the name that the help gives its value, and what a message asks for.
_TYPES: dict[Any, tuple[str, str]] = {
    int: ("INT", "a whole number"),
    float: ("FLOAT", "a number"),
    bool: ("{True,False}", "True or False"),
    str: ("STR", "a text"),
    Any: ("STR", "a text"),
    tuple[int, ...]: ("INT", "whole numbers"),
    tuple[tuple[int, ...], ...]: ("INT,INT[,INT[,INT]]", "groups of whole numbers, such as 32,8,4"),
    dict[str, float]: ("NAME=FLOAT", "pairs of a name and a number, such as gravity=9.8"),
}
# What a text is, by the name of its field.
_TEXTS = {
    **{"run_dir": "FOLDER", "init_from": "FOLDER", "out": "PATH", "env": "NAME", "agent": "NAME"},
    **{"core": "NAME", "coordinator": "HOST:PORT", "step": "STEP"},
}
_LONG = 10_000  # a whole number from here on is shown in groups of digits
SEVERAL = (tuple[int, ...], tuple[tuple[int, ...], ...], dict[str, float])


class AtLeast(NamedTuple):
    """Marks a number of a command's own flags, like the ranges of `jaxrl_pg.fields`."""

    low: int = 0

    def describe(self, whole: bool) -> str:
        """Say in words what may be given."""
        return f"a {'whole ' if whole else ''}number >= {self.low}"


class Kind(NamedTuple):
    """What the annotation of a field says.

    Attributes:
        base: its type, or a Literal.
        optional: whether it may be None.
        allowed: in words, what a message asks for; empty for the type's own.
    """

    base: Any
    optional: bool = False
    allowed: str = ""

    @property
    def choices(self) -> tuple[str, ...]:
        """What a Literal allows; empty for other types."""
        is_choice = typing.get_origin(self.base) is Literal
        return tuple(map(str, typing.get_args(self.base))) if is_choice else ()

    @property
    def metavar(self) -> str:
        """The name that the help gives a value."""
        name = f"{{{','.join(self.choices)}}}" if self.choices else _TYPES[self.base][0]
        return f"{name}|None" if self.optional and self.base in (int, float) else name

    @property
    def expected(self) -> str:
        """What a message asks for."""
        if self.choices:
            what = f"one of: {', '.join(self.choices)}"
        else:
            what = self.allowed or _TYPES[self.base][1]
        return f"{what}, or None" if self.optional else what


class Option(NamedTuple):
    """One option of a command.

    Attributes:
        name: the field's.
        kind: what it may hold.
        doc: what it is.
        default: as text.
    """

    name: str
    kind: Kind
    doc: str
    default: str

    @property
    def flag(self) -> str:
        """What is typed, such as `--num-envs`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def flags(self) -> list[str]:
        """All that can be typed: of a switch, also what turns it off."""
        off = [f"--no-{self.flag.removeprefix('--')}"] if self.kind.base is bool else []
        return [self.flag, *off]

    @property
    def metavar(self) -> str:
        """The name that the help gives a value."""
        return _TEXTS.get(self.name, self.kind.metavar)

    @property
    def notes(self) -> str:
        """The range and the default, as the help shows them; None only where it is a setting."""
        allowed = self.kind.allowed.removeprefix("a whole number").removeprefix("a number")
        is_setting = self.kind.base in (int, float) and "unless given" not in self.doc
        shown = f"default: {self.default}" if self.default != "None" or is_setting else ""
        return "; ".join(filter(None, [allowed.strip(), shown]))


def of(source: type) -> list[Option]:
    """Return the options that a dataclass gives, but for fields that only a program can fill."""
    docs, known = _docs(source), kinds(source)
    return [
        Option(f.name, known[f.name], docs.get(f.name, ""), _default(f))
        for f in dataclasses.fields(source)
        if not f.metadata.get("from_python")
    ]


def kinds(source: type) -> dict[str, Kind]:
    """Return what the annotations of a dataclass say, by name of the field."""
    hints = typing.get_type_hints(source, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(source)}


def _kind(hint: Any) -> Kind:
    if typing.get_origin(hint) is Annotated:
        kind = _kind(typing.get_args(hint)[0])
        markers = [m for m in typing.get_args(hint)[1:] if hasattr(m, "describe")]  # config.Range
        return kind._replace(allowed=" and ".join(m.describe(kind.base is int) for m in markers))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = (other for other in typing.get_args(hint) if other is not types.NoneType)
        return _kind(inner)._replace(optional=True)
    # As for a config: a number without a range is at least 0.
    return Kind(hint, False, AtLeast().describe(hint is int) if hint in (int, float) else "")


def _docs(source: type) -> dict[str, str]:
    """Return the string that stands below each field of a dataclass and of its bases."""
    docs = {}
    for base in filter(dataclasses.is_dataclass, reversed(source.__mro__)):
        for field, below in itertools.pairwise(_definition(base).body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = inspect.cleandoc(ast.literal_eval(below.value))
                docs[ast.unparse(field.target)] = " ".join(text.split())
    return docs


def _definition(source: type) -> ast.ClassDef:
    """Return the statement that defines a class; one of `reading` carries its own."""
    carried = vars(source).get("__definition__")
    if carried is None:
        (carried,) = ast.parse(textwrap.dedent(inspect.getsource(source))).body
    assert isinstance(carried, ast.ClassDef)
    return carried


def _default(field: dataclasses.Field[Any]) -> str:
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    if isinstance(value, tuple | dict):
        return " ".join(map(str, value)) or "none"
    return f"{value:_}" if type(value) is int and value >= _LONG else str(value)
