"""What a function costs, told from its trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["numbers_made"]


def numbers_made(fn: Callable[..., Any], *args: Any) -> float:
    """Return how many numbers a function makes on its way, those of inner functions included.

    A scan's are counted once for each of its steps and of a branch's alternatives the largest
    counts. A loop that runs for as long as a condition holds has no number: it counts as infinite.

    Args:
        fn: is traced, not run.
        args: what to trace it with.
    """
    return _made(jax.make_jaxpr(fn)(*args).jaxpr)


def _made(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            return math.inf
        inner = [_made(x) for x in _inner(equation)]
        if not inner:
            total += sum(math.prod(getattr(x.aval, "shape", ())) for x in equation.outvars)
            continue
        together = max if equation.primitive.name == "cond" else sum
        total += together(inner) * equation.params.get("length", 1)
    return total


def _inner(equation: Any) -> list[Any]:
    """The traces of the functions that an equation calls."""
    found: list[Any] = []
    for value in equation.params.values():
        for x in value if isinstance(value, tuple | list) else (value,):
            jaxpr = getattr(x, "jaxpr", x)
            if hasattr(jaxpr, "eqns"):
                found.append(jaxpr)
    return found
