"""What the words of an option mean, and which word somebody may have meant."""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from typing import Any

from jaxrl_pg.cli.options import Kind

__all__ = ["did_you_mean", "value_of", "without_truths"]

_TRUTHS = {"true": True, "false": False, "none": None}
_MAX_DIGITS = 20  # of a whole number: 1e999999999 would take all memory to be written out


def value_of(name: str, kind: Kind, given: Any) -> Any:
    """Return the value that the words of an option mean.

    Args:
        name: the field's, for messages.
        kind: what it may hold.
        given: a word, a list of words for `options.SEVERAL`, or a truth for a switch.

    Raises:
        ValueError: saying what to give.
    """
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


def without_truths(args: list[str], kinds: dict[str, Kind]) -> list[str]:
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
    from jaxrl_pg import spelling

    close = spelling.closest(given, allowed)
    return f"did you mean {close}? " if close else ""
