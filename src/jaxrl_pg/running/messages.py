"""What the processes of one run send each other: JSON and the bytes of arrays, never code.

A message is read without trust in who sent it: it can hold numbers, text, lists, tuples, dicts,
NumPy arrays and the few classes that are named here.
"""

from __future__ import annotations

import json
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl_pg.checkpoint import Found
from jaxrl_pg.checkpoint.errors import DamagedError

__all__ = ["PeerError", "pack", "unpack"]

_HEADER_BYTES = 8  # the length of the JSON part, little-endian


class PeerError(ConnectionError, RuntimeError):
    """Another process of the run failed, or is gone."""


_TUPLES = {"Found": Found}
# Errors that mean the same on every process; of others only the text is sent.
_ERRORS: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (DamagedError, FloatingPointError, MemoryError, PeerError, ValueError)
}


def pack(value: Any, error: Exception | None = None) -> bytes:
    """Return the outcome of a call as bytes: its value, or what it raised.

    Raises:
        TypeError: for a value that cannot be sent.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps([_described(value, arrays), None if error is None else _named(error)])
    header = text.encode()
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays]
    return b"".join([len(header).to_bytes(_HEADER_BYTES, "little"), header, *parts])


def unpack(data: bytes) -> tuple[Any, Exception | None]:
    """Return the value and the error that `pack` was given.

    Raises:
        ValueError: if the bytes are no such message.
    """
    end = _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "little")
    value, error = json.loads(data[_HEADER_BYTES:end])
    return _rebuilt(value, data[end:]), None if error is None else _error(error)


def _described(value: Any, arrays: list[np.ndarray]) -> Any:
    """Return a value as JSON; containers become lists that begin with their kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError("an array of objects cannot be sent")
        start = sum(other.nbytes for other in arrays)
        arrays.append(array)
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return [kind, array.dtype.name, list(array.shape), start]
    if isinstance(value, dict):
        return ["dict", [[_described(x, arrays) for x in item] for item in value.items()]]
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        if kind not in ("list", "tuple") and _TUPLES.get(kind) is not type(value):
            raise TypeError(f"a {kind} cannot be sent")
        return [kind, [_described(x, arrays) for x in value]]
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _rebuilt(described: Any, data: bytes) -> Any:
    """Undo `_described`."""
    if not isinstance(described, list):
        return described
    kind, content, *rest = described
    if kind in ("array", "number"):
        shape, start = rest
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(data, jnp.dtype(content), count, start).reshape(shape).copy()
        return array if kind == "array" else array[()]
    items = [_rebuilt(x, data) for x in content] if kind != "dict" else []
    if kind == "dict":
        return {_rebuilt(key, data): _rebuilt(x, data) for key, x in content}
    if kind in _TUPLES:
        return _TUPLES[kind](*items)
    if kind not in ("list", "tuple"):
        raise ValueError(f"a message holds a {kind!r}: is every process of the same version?")
    return items if kind == "list" else tuple(items)


def _named(error: Exception) -> list[Any]:
    """Return what is sent of an error: the nearest class that all know, and its text."""
    if isinstance(error, OSError) and not isinstance(error, PeerError):
        name = None if error.filename is None else str(error.filename)
        return ["OSError", error.errno, error.strerror or str(error), name]
    for base in type(error).__mro__:
        if _ERRORS.get(base.__name__) is base:
            return [base.__name__, str(error)]
    return ["PeerError", f"process 0 failed ({type(error).__name__}: {error})"]


def _error(named: list[Any]) -> Exception:
    """Undo `_named`."""
    name, *args = named
    if name == "OSError":
        number, text, filename = args
        return OSError(text) if number is None else OSError(number, text, filename)
    return _ERRORS.get(name, PeerError)(*map(str, args))
