"""Work that most steps do not need, skipped even when the program is vmapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["switch"]


def switch(index: jax.Array, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`lax.switch` that stays one under `vmap`.

    A batched `lax.switch` runs every branch and selects. Here a batch runs one branch, the one
    of its largest index. So branch `i` must also give the right answer wherever a lower index
    was asked for: order the branches from the cheapest special case to the general one.

    Args:
        index: int32 scalar.
        branches: functions of `operands` with the same result structure. What they close over
            may be batched too.
        operands: pytrees of arrays.
    """
    traced = [_hoist(branch, operands) for branch in branches]
    functions = tuple(function for function, _ in traced)
    return _choose(functions)(index, [captured for _, captured in traced], operands)


def _hoist(branch: Callable[..., Any], operands: Any) -> tuple[Callable[..., Any], list[Any]]:
    """The branch as a function of `(captured, operands)`, and the arrays it captures."""
    closed, shape = jax.make_jaxpr(branch, return_shape=True)(*operands)
    return partial(_call, closed.jaxpr, jax.tree.structure(shape)), closed.consts


def _call(jaxpr: Any, structure: Any, captured: list[Any], operands: Any) -> Any:
    flat = jax.core.eval_jaxpr(jaxpr, captured, *jax.tree.leaves(operands))
    return jax.tree.unflatten(structure, flat)


def _choose(functions: tuple[Callable[..., Any], ...]) -> Callable[..., Any]:
    choose = jax.custom_batching.custom_vmap(partial(_switch, functions))
    choose.def_vmap(partial(_switch_batch, functions))
    return choose


def _switch(
    functions: tuple[Callable[..., Any], ...], index: jax.Array, captured: Any, operands: Any
) -> Any:
    branches = [partial(_pick, i, function) for i, function in enumerate(functions)]
    return jax.lax.switch(index, branches, captured, operands)


def _pick(i: int, function: Callable[..., Any], captured: Any, operands: Any) -> Any:
    return function(captured[i], operands)


def _switch_batch(
    functions: tuple[Callable[..., Any], ...],
    axis_size: int,
    batched: Any,
    index: jax.Array,
    captured: Any,
    operands: Any,
) -> tuple[Any, Any]:
    captured_axes, operand_axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, batched[1:])
    over_batch = tuple(
        jax.vmap(function, (captured_axes[i], operand_axes), axis_size=axis_size)
        for i, function in enumerate(functions)
    )
    highest = jnp.max(index) if batched[0] else index
    result = _choose(over_batch)(highest, captured, operands)
    return result, jax.tree.map(lambda _: True, result)
