'''JSON that may hold anything, checked against a type before it is used.

    class Part(TypedDict):
        """What a part holds; fields that are not named here stay."""

        group: str
        rows: list[Row]

    part = schema.read(path, Part, "delete the file and run the sweep again")

A type is a `TypedDict`, a dataclass, or any of `list[...]`, `dict[str, ...]`, `int | None` and so
on. A whole number may stand for a float. The text "2" is no number, and True is none.
'''

import dataclasses
import json
import math
import types
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from jaxrl_pg.files.opening import read_bytes

__all__ = ["Amount", "Count", "Numbers", "Positive", "check", "decode", "read"]

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
Numbers = float | bool | None | list[Any]

_MAX_BYTES = 1 << 28  # of a document that is read in one piece


def read(path: Path, kind: type[T] | types.GenericAlias, remedy: str) -> Any:
    """Read a JSON file.

    Args:
        path: a plain file of UTF-8 text.
        kind: the type that its content must have.
        remedy: says in the message what to do, such as "restore the file".

    Returns:
        The content; see `check`.

    Raises:
        ValueError: in one line, with the file, the place in it, what was expected and the remedy.
        OSError: if the file cannot be read.
    """
    try:
        data = read_bytes(path, _MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"{error}: {remedy}") from None
    return decode(data, kind, path, "", remedy)


def decode(
    data: bytes | str,
    kind: type[T] | types.GenericAlias,
    path: Path | str,
    place: str = "",
    remedy: str = "restore the file",
) -> Any:
    """Decode JSON; see `read`.

    Names that occur twice in an object, NaN, infinities (1e999 too), numbers of thousands of
    digits and half a surrogate pair are refused, as is nesting beyond Python's own depth.

    Args:
        data: the JSON.
        kind: the type that it must have.
        path: the file that it is from, for the message.
        place: where in the file, such as "line 3".
        remedy: what to do.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise _error(path, place, "is nested too deeply", remedy) from None
    except UnicodeError:
        raise _error(path, place, "is no UTF-8 text", remedy) from None
    except json.JSONDecodeError as error:
        what = f"is not JSON ({error.msg} at character {error.pos + 1})"
        raise _error(path, place, what, remedy) from None
    except ValueError as error:
        raise _error(path, place, f"is not JSON ({error})", remedy) from None
    return check(value, kind, path, place, remedy)


def check(
    value: Any,
    kind: type[T] | types.GenericAlias,
    path: Path | str,
    place: str = "",
    remedy: str = "restore the file",
) -> Any:
    """Refuse a decoded value that has not the type that it must have; see `read`.

    Returns:
        The object, where the type is a dataclass; otherwise the value as it is, with the fields
        that a `TypedDict` does not name.
    """
    try:
        converted = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        expected, _, where = str(error).replace("`", "").partition(" - at ")
        expected = expected[:1].lower() + expected[1:]
        place = ", ".join(part for part in (place, where) if part)
        raise _error(path, place, expected, remedy) from None
    except RecursionError:
        raise _error(path, place, "is nested too deeply", remedy) from None
    return converted if dataclasses.is_dataclass(kind) else value


def _error(path: Path | str, place: str, what: str, remedy: str) -> ValueError:
    """Return the error of one line."""
    where = f"{path} {place}".rstrip()
    mark = "" if what.startswith("is ") else ":"
    line = " ".join(f"{where}{mark} {what}: {remedy}".split())
    return ValueError("".join(c if c.isprintable() else "?" for c in line))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object whose names all differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:80]!r} occurs twice")
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number
