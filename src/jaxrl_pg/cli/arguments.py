"""Command lines whose options are the fields of dataclasses, read by argparse.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flags:
        "Evaluate a policy."

        num_episodes: int = 128
        "number of episodes"

    _, (flags,) = read("jaxrl-pg evaluate", args, [Flags])

With `--num-episodes 3` this gives `Flags(num_episodes=3)`; `--help` shows the string that stands
below the field. argparse only sorts words into options and writes the help. What the words mean is
decided here and in the dataclasses, so that every mistake is refused by a ValueError of one line.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import decimal
import difflib
import inspect
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

__all__ = ["RUN", "Help", "Positional", "did_you_mean", "read"]

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
_SEVERAL = (tuple[int, ...], tuple[tuple[int, ...], ...], dict[str, float])
_TRUTHS = {"true": True, "false": False, "none": None}
_MAX_DIGITS = 20  # of a whole number: 1e999999999 would take all memory to be written out


class Help(Exception):
    """Raised, with the text to show, when the arguments ask for help."""


class Positional(NamedTuple):
    """Arguments of a command that are not options.

    Attributes:
        metavar: the name that the help gives one.
        doc: what it is.
        many: any number of them may be given; otherwise exactly one.
    """

    metavar: str
    doc: str
    many: bool = False


RUN = Positional("RUN", "the run folder")


class _Kind(NamedTuple):
    """What the annotation of a field says.

    Attributes:
        base: its type, or a Literal.
        optional: whether it may be None.
        allowed: in words, what a message asks for and the help shows; empty for the type's own.
    """

    base: Any
    optional: bool = False
    allowed: str = ""

    @property
    def metavar(self) -> str:
        """The name that the help gives a value."""
        if typing.get_origin(self.base) is Literal:
            name = f"{{{','.join(map(str, typing.get_args(self.base)))}}}"
        else:
            name = _TYPES[self.base][0]
        return f"{{None}}|{name}" if self.optional else name

    @property
    def expected(self) -> str:
        """What a message asks for."""
        if typing.get_origin(self.base) is Literal:
            what = f"one of: {', '.join(map(str, typing.get_args(self.base)))}"
        else:
            what = self.allowed or _TYPES[self.base][1]
        return f"{what}, or None" if self.optional else what


def read(
    prog: str, args: Sequence[str], sources: Sequence[type], positional: Positional | None = None
) -> tuple[list[str], list[Any]]:
    """Read a command's arguments.

    Args:
        prog: the words that call the command.
        args: the words that follow them.
        sources: dataclasses, each field of which is an option; the first documents the command.
        positional: the arguments that are not options, if the command takes any.

    Returns:
        The positional arguments, and an instance of each dataclass.

    Raises:
        Help: if `-h` or `--help` is among the arguments.
        ValueError: one line, for arguments that are unknown, missing or bad.
    """
    kinds = {name: kind for source in sources for name, kind in _kinds(source).items()}
    parser = _parser(prog, sources, positional)
    if {"-h", "--help"} & set(args):
        raise Help(parser.format_help())
    try:
        switched = _without_truths([_dashed(arg) for arg in args], kinds)
        namespace, unknown = parser.parse_known_intermixed_args(switched)
    except argparse.ArgumentError as error:  # the one that is left: an option without its value
        name = str(error.argument_name).split("/")[0].lstrip("-").replace("-", "_")
        raise ValueError(f"{name} has no value: give {kinds[name].expected}") from None
    vars(namespace).pop("verbose", None)  # the command line as a whole looks for it
    words = vars(namespace).pop("positional", [])
    if positional and not positional.many:
        unknown += words[1:]
        if not words:
            raise ValueError(
                f"Missing from {prog}: {positional.metavar} {positional.doc}. (required)"
            )
    if unknown:
        _refuse_unknown(prog, unknown, kinds)
    values = {name: _value(name, kinds[name], given) for name, given in vars(namespace).items()}
    return words, [
        source(**{name: x for name, x in values.items() if name in _kinds(source)})
        for source in sources
    ]


def _parser(
    prog: str, sources: Sequence[type], positional: Positional | None
) -> argparse.ArgumentParser:
    """Make a parser that leaves every value as the words that were given."""
    ending = f" {positional.metavar}{' ...' if positional.many else ''}" if positional else ""
    parser = argparse.ArgumentParser(
        usage=f"{prog} [OPTIONS]{ending}",
        description=sources[0].__doc__,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        exit_on_error=False,
    )
    # Python 3.14's own rule: earlier ones take -1e-3 for an option.
    parser._negative_number_matcher = re.compile(r"-\.?\d")
    if positional:
        parser.add_argument(
            "positional", nargs="*", metavar=positional.metavar, help=positional.doc
        )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show where in the program an error arises"
    )
    for source in sources:
        title = (source.__doc__ or "").partition("\n")[0].removesuffix(".")
        _add_options(parser if source is sources[0] else parser.add_argument_group(title), source)
    return parser


def _add_options(group: argparse._ActionsContainer, source: type) -> None:
    """Add an option for each field of a dataclass."""
    docs, kinds = _docs(source), _kinds(source)
    for field in dataclasses.fields(source):
        if field.metadata.get("from_python"):
            continue
        kind = kinds[field.name]
        option = f"--{field.name.replace('_', '-')}"
        notes = "; ".join(filter(None, [kind.allowed, f"default: {_default(field)}"]))
        text = f"{docs.get(field.name, '')} ({notes})".replace("%", "%%")
        nargs = "*" if kind.base in _SEVERAL else None
        if kind.base is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=text)
        else:
            group.add_argument(option, nargs=nargs, metavar=kind.metavar, help=text)


def _value(name: str, kind: _Kind, given: Any) -> Any:
    """Return the value that the words of an option mean."""
    if isinstance(given, bool):
        return given
    if kind.optional and (given == "None" or (given == "none" and kind.base is not str)):
        return None
    try:
        if kind.base == tuple[int, ...]:
            return tuple(_whole(word) for group in given for word in group.split(","))
        if kind.base == tuple[tuple[int, ...], ...]:
            return tuple(tuple(map(_whole, group.split(","))) for group in given)
        if kind.base == dict[str, float]:
            flat = [word for pair in given for word in pair.split("=", 1)]
            pairs = list(zip(flat[::2], flat[1::2], strict=True))
            if len(dict(pairs)) < len(pairs):
                raise ValueError
            return {key: float(number) for key, number in pairs}
        if kind.base is int:
            return _whole(given)
        return float(given) if kind.base is float else given
    except (KeyError, ValueError):
        words = given if isinstance(given, str) else " ".join(given)
        raise ValueError(f"{name}={words!r}: give {kind.expected}") from None


def _whole(word: str) -> int:
    """Read a whole number, which may be written as `1_000_000` or `1e6`.

    Raises:
        ValueError: if it is none.
    """
    try:
        return int(word)
    except ValueError:
        pass
    try:
        number = decimal.Decimal(word)
    except decimal.InvalidOperation:
        raise ValueError from None
    if not number.is_finite() or number.adjusted() > _MAX_DIGITS or number != int(number):
        raise ValueError
    return int(number)


def _kinds(source: type) -> dict[str, _Kind]:
    hints = typing.get_type_hints(source, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(source)}


def _kind(hint: Any) -> _Kind:
    if typing.get_origin(hint) is Annotated:
        kind = _kind(typing.get_args(hint)[0])
        markers = [m for m in typing.get_args(hint)[1:] if hasattr(m, "describe")]  # config.Range
        return kind._replace(allowed=" and ".join(m.describe(kind.base is int) for m in markers))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = (other for other in typing.get_args(hint) if other is not types.NoneType)
        return _kind(inner)._replace(optional=True)
    return _Kind(hint)


def _docs(source: type) -> dict[str, str]:
    """Return the string that stands below each field of a dataclass and of its bases."""
    docs = {}
    for base in filter(dataclasses.is_dataclass, reversed(source.__mro__)):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return docs


def _default(field: dataclasses.Field[Any]) -> str:
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    return " ".join(map(str, value)) if isinstance(value, tuple | dict) else str(value)


def _dashed(arg: str) -> str:
    """Write an option with dashes: `--num-envs=3` for `--num_envs=3`."""
    name, equals, value = arg.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if arg.startswith("--") else arg


def _without_truths(args: list[str], kinds: dict[str, _Kind]) -> list[str]:
    """Write switches without a value: `--no-quiet` for `--quiet=False` and `--quiet False`.

    `None` leaves a switch that may be None as it is.
    """
    switches = {f"--{n.replace('_', '-')}": kind for n, kind in kinds.items() if kind.base is bool}
    result: list[str] = []
    while args:
        arg, *args = args
        if arg == "--":
            return [*result, arg, *args]
        name, equals, value = arg.partition("=")
        kind = switches.get(name)
        if kind is not None and not equals and args:
            value = args[0]
        truth = _TRUTHS.get(value.lower(), "") if kind is not None else ""
        if kind is None or truth == "" or (truth is None and not kind.optional):
            result.append(arg)
            continue
        if truth is not None:
            result.append(name if truth else f"--no-{name.removeprefix('--')}")
        if not equals:
            args = args[1:]
    return result


def did_you_mean(given: str, allowed: Sequence[str]) -> str:
    """Return `did you mean x? `, or nothing where nothing is like what was given."""
    word = given.lower()
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    close += [name for name in allowed if len(word) > 1 and name.startswith(word)]
    return f"did you mean {close[0]}? " if close else ""


def _refuse_unknown(prog: str, unknown: list[str], kinds: dict[str, _Kind]) -> NoReturn:
    given = next((arg for arg in unknown if arg.startswith("--")), unknown[0])
    if not given.startswith("-"):
        raise ValueError(f"unexpected {given!r}: `{prog} --help` lists what can be given")
    options = [f"--{name.replace('_', '-')}" for name in kinds]
    switches = [
        f"--no-{name.replace('_', '-')}" for name, kind in kinds.items() if kind.base is bool
    ]
    hint = did_you_mean(given.partition("=")[0], [*options, *switches])
    raise ValueError(f"unknown option {given}: {hint}`{prog} --help` lists all")
