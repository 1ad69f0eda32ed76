"""A command's arguments: read by tyro, and refused in one line of our own."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import io
import re
import typing
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["call"]

_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    tuple[int, ...]: "whole numbers",
    dict[str, float]: "pairs of a name and a number",
}


def call(command: Callable[..., int], prog: str, args: list[str]) -> int:
    """Call a command with the arguments of a command line; with `--help`, explain them.

    Args:
        command: documented and annotated; a parameter that is a dataclass gives an option for
            each of its fields.
        prog: what the user has typed to come here.
        args: what follows that.

    Raises:
        ValueError: one line, for arguments that are unknown, missing or bad.
    """
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            (given, named), unknown = tyro.cli(
                _reader(command),
                prog=prog,
                args=args,
                config=(tyro.conf.OmitArgPrefixes,),
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            return 0
        _refuse(command, args, said.getvalue())
    if unknown:
        _refuse_unknown(command, prog, unknown)
    hints = typing.get_type_hints(command)
    return command(*given, **{name: _checked(hints[name], x) for name, x in named.items()})


def _reader(command: Callable[..., int]) -> Callable[..., tuple[Any, Any]]:
    """A function with the command's options that only returns them, dataclasses unchecked."""

    @functools.wraps(command)
    def read(*given: Any, **named: Any) -> tuple[Any, Any]:
        return given, named

    hints = {name: _unchecked(hint) for name, hint in typing.get_type_hints(command).items()}
    signature = inspect.signature(command)
    parameters = [p.replace(annotation=hints[name]) for name, p in signature.parameters.items()]
    del read.__wrapped__  # it would be looked through
    read.__annotations__ = hints
    read.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return read


def _unchecked(hint: Any) -> Any:
    """A dataclass that takes any values, for what is wrong with them is ours to say."""
    if not isinstance(hint, type) or not dataclasses.is_dataclass(hint):
        return hint
    return type(hint.__name__, (hint,), {"__post_init__": _accept, "__doc__": hint.__doc__})


def _accept(self: Any) -> None:
    del self


def _checked(hint: Any, value: Any) -> Any:
    """What `_unchecked` let pass, as the dataclass it stands for."""
    if not dataclasses.is_dataclass(hint):
        return value
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(hint)}
    return hint(**fields)  # type: ignore[operator]


def _options(command: Callable[..., int]) -> dict[str, Any]:
    """The command's options and the type of each."""
    hints = typing.get_type_hints(command)
    options: dict[str, Any] = {}
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if dataclasses.is_dataclass(hint):
            options |= typing.get_type_hints(hint)
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            options[parameter.name] = hint
    return {_option(name): hint for name, hint in options.items()}


def _option(text: str) -> str:
    """`--num-envs` for `num_envs`, `--num_envs` and `--num-envs=3`."""
    return "--" + text.partition("=")[0].lstrip("-").replace("_", "-")


def _refuse(command: Callable[..., int], args: list[str], said: str) -> NoReturn:
    """Say what tyro said in a box of lines: which option it is about, and what to give."""
    options = _options(command)
    for position, arg in enumerate(args):
        name = _option(arg)
        if not arg.startswith("--") or not re.search(rf"{name}(?![\w-])", said):
            continue
        if name not in options:
            continue
        values = [arg.partition("=")[2]] if "=" in arg else []
        for value in args[position + 1 :]:
            if value.startswith("--"):
                break
            values.append(value)
        field = name[2:].replace("-", "_")
        given = f"{field}={' '.join(values)!r}" if values else f"{field} has no value"
        raise ValueError(f"{given}: give {_kind(options[name])}")
    words = re.sub(r"[\u2500-\u257f]{3,}.*", "", said.split("\n", 1)[-1], flags=re.DOTALL)
    raise ValueError(" ".join(re.sub(r"[\u2500-\u257f]", " ", words).split()))


def _kind(hint: Any) -> str:
    """What an option of this type takes, in words."""
    if typing.get_origin(hint) is typing.Literal:
        return f"one of: {', '.join(map(str, typing.get_args(hint)))}"
    others = [other for other in typing.get_args(hint) if other is not type(None)]
    if len(others) < len(typing.get_args(hint)):
        return f"{_kind(others[0])}, or None"
    return _KINDS.get(hint, "another value")


def _refuse_unknown(command: Callable[..., int], prog: str, unknown: list[str]) -> NoReturn:
    given = next((arg for arg in unknown if arg.startswith("--")), unknown[0])
    if not given.startswith("-"):
        raise ValueError(f"unexpected {given!r}: `{prog} --help` lists what can be given")
    options = _options(command)
    switches = [f"--no-{name[2:]}" for name, hint in options.items() if hint is bool]
    close = difflib.get_close_matches(_option(given), [*options, *switches], n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}? " if close else ""
    raise ValueError(f"unknown option {given}: {hint}`{prog} --help` lists all")
