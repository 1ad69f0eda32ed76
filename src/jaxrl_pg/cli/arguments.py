"""Command lines whose options are the fields of dataclasses, read by argparse.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flags:
        "Evaluate a policy."

        num_episodes: int = 128
        "number of episodes"

    _, (flags,) = read("jaxrl-pg evaluate", args, [Flags])

With `--num-episodes 3` this gives `Flags(num_episodes=3)`; `--help` shows the string that stands
below the field. argparse only sorts words into options and writes the help. What the words mean is
decided in `words` and in the dataclasses, so that every mistake is refused by a ValueError of one
line.
"""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from jaxrl_pg.cli import options, reading, topics, words
from jaxrl_pg.cli.options import Kind, Option

__all__ = ["POLICY", "RUN", "Help", "Positional", "Source", "groups", "read"]

Source = type | str  # a dataclass, or `module:name` of one


class Help(Exception):
    """Raised, with the text to show, when the arguments ask for help.

    Attributes:
        options: of the command, in the order of the text.
    """

    def __init__(self, text: str, shown: Sequence[Option]) -> None:
        """Keep the text, and what it is about."""
        super().__init__(text)
        self.options = tuple(shown)


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
POLICY = Positional("RUN", "the folder of a run or of a saved policy, or zoo:ENV/AGENT")


def read(
    prog: str,
    args: Sequence[str],
    sources: Sequence[Source],
    positional: Positional | None = None,
    fill: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> tuple[list[str], list[Any]]:
    """Read a command's arguments.

    Args:
        prog: the words that call the command.
        args: the words that follow them.
        sources: dataclasses, each field of which is an option; the first documents the command.
            One that is named by `module:name` is imported if it is needed, and the help needs it
            not, see `reading`.
        positional: the arguments that are not options, if the command takes any.
        fill: adds values to those that are given, by field, before the dataclasses are made.

    Returns:
        The positional arguments, and an instance of each dataclass.

    Raises:
        Help: if `-h` or `--help` is among the arguments.
        ValueError: one line, for arguments that are unknown, missing or bad.
    """
    if {"-h", "--help"} & set(args):
        shown = [option for group in groups(sources).values() for option in group]
        raise Help(_parser(prog, sources, positional).format_help(), shown)
    classes = [_imported(source) for source in sources]
    kinds = {name: kind for cls in classes for name, kind in options.kinds(cls).items()}
    parser = _parser(prog, classes, positional)
    try:
        switched = words.without_truths([_dashed(arg) for arg in args], kinds)
        namespace, unknown = parser.parse_known_intermixed_args(switched)
    except argparse.ArgumentError as error:  # the one that is left: an option without its value
        name = str(error.argument_name).split("/")[0].lstrip("-").replace("-", "_")
        raise ValueError(f"{name} has no value: give {kinds[name].expected}") from None
    vars(namespace).pop("verbose", None)  # the command line as a whole looks for it
    others = vars(namespace).pop("positional", [])
    if positional and not positional.many:
        unknown += others[1:]
        if not others:
            raise ValueError(
                f"Missing from {prog}: {positional.metavar} {positional.doc}. (required)"
            )
    if unknown:
        _refuse_unknown(prog, unknown, kinds)
    given = vars(namespace).items()
    values = {name: words.value_of(name, kinds[name], given) for name, given in given}
    values = fill(values) if fill else values
    return others, [
        cls(**{name: x for name, x in values.items() if name in options.kinds(cls)})
        for cls in classes
    ]


def groups(sources: Sequence[Source]) -> dict[str, list[Option]]:
    """Return the options of some dataclasses by what they are about, in the help's order."""
    found: dict[str, list[Option]] = {}
    for number, source in enumerate(map(_read_off, sources)):
        is_config = any(base.__name__ == "BaseConfig" for base in source.__mro__)
        title = "" if number == 0 else (source.__doc__ or "").partition("\n")[0].removesuffix(".")
        for option in options.of(source):
            found.setdefault(topics.of(option) if is_config else title, []).append(option)
    return {title: found[title] for title in topics.in_order(found)}


def _read_off(source: Source) -> Any:
    return reading.dataclass(source) if isinstance(source, str) else source


def _imported(source: Source) -> Any:
    if not isinstance(source, str):
        return source
    module, _, name = source.partition(":")
    return getattr(importlib.import_module(module), name)


def _parser(
    prog: str, sources: Sequence[Source], positional: Positional | None
) -> argparse.ArgumentParser:
    """Make a parser that leaves every value as the words that were given."""
    ending = f" {positional.metavar}{' ...' if positional.many else ''}" if positional else ""
    parser = argparse.ArgumentParser(
        usage=f"{prog} [OPTIONS]{ending}",
        description=_read_off(sources[0]).__doc__,
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
    for title, members in groups(sources).items():
        group = parser.add_argument_group(title) if title else parser
        for option in members:
            _add(group, option)
    return parser


def _add(group: argparse._ActionsContainer, option: Option) -> None:
    text = f"{option.doc} ({option.notes})" if option.notes else option.doc
    text = text.replace("%", "%%")
    kind = option.kind
    if kind.base is bool:
        group.add_argument(option.flag, action=argparse.BooleanOptionalAction, help=text)
    else:
        nargs = "*" if kind.base in options.SEVERAL else None
        group.add_argument(option.flag, nargs=nargs, metavar=option.metavar, help=text)


def _dashed(arg: str) -> str:
    """Write an option with dashes: `--num-envs=3` for `--num_envs=3`."""
    name, equals, value = arg.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if arg.startswith("--") else arg


def _refuse_unknown(prog: str, unknown: list[str], kinds: dict[str, Kind]) -> NoReturn:
    given = next((arg for arg in unknown if arg.startswith("--")), unknown[0])
    if not given.startswith("-"):
        raise ValueError(f"unexpected {given!r}: `{prog} --help` lists what can be given")
    flags = [f"--{name.replace('_', '-')}" for name in kinds]
    switches = [
        f"--no-{name.replace('_', '-')}" for name, kind in kinds.items() if kind.base is bool
    ]
    name = given.partition("=")[0]
    hint = words.did_you_mean(name, [*flags, *switches])
    if not hint and "." in name:  # --config.seed, as where options are grouped
        hint = words.did_you_mean(f"--{name.rpartition('.')[2]}", [*flags, *switches])
    raise ValueError(f"unknown option {given}: {hint}`{prog} --help` lists all")
