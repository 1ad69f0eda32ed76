"""gymnax's spaces, for environments of this library's own."""

from __future__ import annotations

from typing import Any

import jax

__all__ = ["box", "discrete"]


def box(low: float, high: float, shape: tuple[int, ...]) -> Any:
    """Arrays of real numbers from `low` to `high`."""
    return _spaces().Box(low, high, shape)


def discrete(num: int) -> Any:
    """The whole numbers from 0 to `num` - 1."""
    return _spaces().Discrete(num)


def _spaces() -> Any:
    # Imported late because it costs seconds; that may be inside a trace, where the arrays that
    # gymnax's modules make would become tracers for good.
    with jax.ensure_compile_time_eval():
        from gymnax.environments import spaces

    return spaces
