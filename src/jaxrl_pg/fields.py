"""What a field of a configuration may hold, read off its annotation, and the checks of it.

    clip_eps: Annotated[float, Positive] = 0.2
    objective: Literal["clip", "kl"] = "clip"

Numbers without a range are at least 0. Values come as they are at hand: Python's, NumPy's, or
arrays without axes. They are kept as Python's, so that equal configs make one compiled program.

JAX is imported where values are looked at: the command line's help reads the ranges, and JAX takes
most of a second.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np

from jaxrl_pg.spelling import nearest

__all__ = [
    "Fraction",
    "Kind",
    "Positive",
    "Range",
    "check_choice",
    "checked",
    "kinds",
    "settle",
    "shown",
]

_LARGEST = float(np.finfo(np.float32).max)


class Range(NamedTuple):
    """The numbers that a field may hold, as in `Annotated[float, Range(0.0, 1.0)]`.

    Attributes:
        low: the smallest number.
        high: the largest number.
        open_low: the smallest number itself is not allowed.
        open_high: the largest number itself is not allowed.
    """

    low: float = 0.0
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, values: np.ndarray) -> bool:
        """Say whether all of the values are in the range, and small enough for a float32."""
        above = values > self.low if self.open_low else values >= self.low
        below = values < self.high if self.open_high else values <= self.high
        return bool(np.all(above & below & (np.abs(values) <= _LARGEST)))

    def describe(self, whole: bool) -> str:
        """Say in words what may be given, such as `a whole number >= 1`."""
        kind, low, above = "a number", self.low, self.open_low
        if whole:
            kind, low, above = "a whole number", low + above, False
        if low == -math.inf and self.high == math.inf:
            return kind
        if not above and not self.open_high and self.high < math.inf:
            return f"{kind} from {low:g} to {self.high:g}"
        lower = f"{'>' if above else '>='} {low:g}"
        upper = f" and {'<' if self.open_high else '<='} {self.high:g}"
        return f"{kind} {lower}{upper if self.high < math.inf else ''}"


Positive = Range(open_low=True)
Fraction = Range(0.0, 1.0)
_ANY_NUMBER = Range(-math.inf)


class Kind(NamedTuple):
    """What the annotation of a field says.

    Attributes:
        base: the type, or a `Literal`.
        optional: None is allowed.
        range: of a number.
    """

    base: Any
    optional: bool
    range: Range

    @property
    def is_leaf(self) -> bool:
        """Whether the field is a leaf of its config's pytree, and not static."""
        return self.base in (float, dict[str, float])


@functools.cache
def kinds(cls: Any) -> dict[str, Kind]:
    """Return what the annotations of a dataclass's fields say, by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _kind(hints[field.name]) for field in dataclasses.fields(cls)}


def _kind(hint: Any) -> Kind:
    if typing.get_origin(hint) is Annotated:
        kind = _kind(typing.get_args(hint)[0])
        ranges = [extra for extra in hint.__metadata__ if isinstance(extra, Range)]
        return kind._replace(range=ranges[0] if ranges else kind.range)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (inner,) = [other for other in typing.get_args(hint) if other is not types.NoneType]
        return _kind(inner)._replace(optional=True)
    return Kind(hint, False, Range())


def settle(instance: object) -> None:
    """Put every field of a new frozen dataclass into its type; see `checked`.

    Raises:
        ValueError: for the first field whose value does not fit.
    """
    cls: Any = type(instance)
    for name, kind in kinds(cls).items():
        object.__setattr__(instance, name, checked(name, kind, getattr(instance, name)))


def checked(name: str, kind: Kind, value: Any) -> Any:
    """Return the value in the field's type, where nothing is lost by it.

    Raises:
        ValueError: in one line, if it does not fit; or if it is traced and the field is static.
    """
    base = kind.base
    if value is None and kind.optional:
        return None
    if not kind.is_leaf:
        _refuse_traced(name, value)
    if base is int or base is float:
        return _number(name, value, kind.range, whole=base is int)
    if base is bool and not isinstance(_plain(value), bool):
        raise ValueError(f"{name}={shown(value)}: give True or False")
    if base is bool:
        return _plain(value)
    if typing.get_origin(base) is Literal:
        check_choice(name, value, typing.get_args(base))
        return next(choice for choice in typing.get_args(base) if value == choice)
    if base == tuple[int, ...]:
        return _sizes(name, value)
    if base == tuple[tuple[int, ...], ...]:
        return _convolutions(name, value)
    if base == dict[str, float]:
        return _numbers_by_name(name, value)
    if base is str and not isinstance(value, str):
        raise ValueError(f"{name}={shown(value)}: give a text")
    try:
        hash(value)
    except TypeError as error:  # compiled programs are found by it
        raise ValueError(
            f"{name}={shown(value)}: give a name or a hashable object ({error})"
        ) from None
    return value


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices, naming the nearest that is."""
    choices = list(choices)
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):
        raise ValueError(f"{name}={shown(value)}: {nearest(value, choices)}")


def shown(value: Any) -> str:
    """Return how a value looks in an error message: on one line, of at most 80 characters."""
    return " ".join(repr(value).split())[:80]


def _plain(value: Any) -> Any:
    """A NumPy scalar, or an array without axes, as Python's; an array with axes as lists."""
    import jax

    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    if not isinstance(value, np.generic | np.ndarray | jax.Array):
        return value
    holds_numbers = value.dtype == bool or jax.dtypes.issubdtype(value.dtype, np.number)
    return np.asarray(value).tolist() if holds_numbers else value


def _refuse_traced(name: str, value: Any) -> None:
    import jax

    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(value)):
        raise ValueError(
            f"{name} is traced, and it shapes the compiled program: give one plain value of it, "
            "without jit or vmap over it"
        )


def _number(name: str, value: Any, allowed: Range, whole: bool) -> Any:
    """An int or a float; an array with axes stays one, and a tracer is not looked into."""
    import jax

    if isinstance(value, jax.core.Tracer):
        return value
    is_array = isinstance(value, np.ndarray | jax.Array) and value.ndim > 0
    plain = np.asarray(value) if is_array and not whole else _plain(value)
    if whole and isinstance(plain, float) and plain.is_integer():
        plain = int(plain)  # 1e6, as people write a million
    if isinstance(plain, int | float | np.ndarray) and not isinstance(plain, bool):
        numbers = np.asarray(plain)
        kinds_of_number = "iu" if whole else "iuf"
        if numbers.dtype.kind in kinds_of_number and allowed.holds(numbers):
            return value if is_array else int(plain) if whole else float(plain)
    limit = " below 2^63" if isinstance(plain, int) and plain >= 2**63 else ""
    raise ValueError(f"{name}={shown(value)}: give {allowed.describe(whole)}{limit}")


def _numbers_by_name(name: str, value: Any) -> dict[str, Any]:
    """A dict of floats throughout, so that 500 and 500.0 make one program; True becomes 1.0."""
    if not isinstance(value, dict):
        raise ValueError(f"{name}={shown(value)}: give a dict of numbers by name")
    numbers = {}
    for key, x in value.items():
        said, number = f"{name}[{key!r}]", x
        if isinstance(plain := _plain(x), bool):
            number = float(plain)
        elif isinstance(x, list | tuple):  # an array, as files hold it
            number = _array(said, plain)
        numbers[key] = _number(said, number, _ANY_NUMBER, whole=False)
    return numbers


def _array(name: str, value: list[Any]) -> np.ndarray:
    try:
        return np.asarray(value, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={shown(value)}: give an array of numbers ({error})") from None


def _sizes(name: str, value: Any) -> tuple[int, ...]:
    sizes = _plain(value)
    if not isinstance(sizes, list) or any(type(x) is not int or x < 1 for x in sizes):
        raise ValueError(f"{name}={shown(value)}: give a tuple of whole numbers >= 1")
    return tuple(sizes)


def _convolutions(name: str, value: Any) -> tuple[tuple[int, ...], ...]:
    """Features and kernel, and maybe stride and padding, of each layer."""
    layers = _plain(value)
    fits = isinstance(layers, list) and all(
        isinstance(layer, list)
        and 2 <= len(layer) <= 4
        and all(type(x) is int for x in layer)
        and min(layer[:3]) >= 1
        and min(layer) >= 0
        for layer in layers
    )
    if not fits:
        raise ValueError(
            f"{name}={shown(value)}: give tuples of features, kernel, stride >= 1 and padding >= 0"
        )
    return tuple(map(tuple, layers))
