"""A model of the time of an iteration, from what its kernels do and what a machine can do.

    seconds = sum over kernels of times * (latency + max(flops / P + operations / E
                                                         + transcendentals / T, bytes / B))

The kernels are those of the compiled program (`hlo.py`). On the machine at hand all rates are
measured (`rates.py`) and depend on the size of a kernel: P on the smallest dimension of a product
and on its rows, the others on the elements that a kernel goes through. Nothing is fitted to the
times of training. Of an accelerator the rates are those of its data sheet, and the latencies are
assumptions.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["H100", "H100_TF32", "H200", "V5E", "Machine", "measured", "seconds"]

_BYTES = 12  # that an element of `rates.py` is read and written with


class Machine(NamedTuple):
    """What a machine can do.

    Attributes:
        latency: seconds of a kernel that does nothing.
        turn: seconds that a turn of a loop takes beside its kernels, if it ends by its data.
        reduce: seconds of a sum over devices, by its bytes.
        product: multiplications and additions a second, by smallest dimension and rows.
        operation: element-wise operations a second, by elements.
        transcendental: tanh and the like a second, by elements.
        moved: bytes a second, by elements.
    """

    latency: float
    turn: float
    reduce: Callable[[float], float]
    product: Callable[[float, float], float]
    operation: Callable[[float], float]
    transcendental: Callable[[float], float]
    moved: Callable[[float], float]


def seconds(kernels: Iterable[list[Any]], machine: Machine) -> float:
    """Return how long an iteration takes.

    Args:
        kernels: `[kind, flops, narrow, rows, operations, transcendentals, moved, times]` each.
        machine: what runs them.
    """
    total = 0.0
    for kind, flops, narrow, rows, operations, transcendentals, moved, times in kernels:
        if kind == "turn":
            total += times * machine.turn
            continue
        if kind == "reduce":
            total += times * machine.reduce(moved / 2)
            continue
        elements = max(1.0, moved / _BYTES)
        work = flops / machine.product(narrow, rows) if flops else 0.0
        work += operations / machine.operation(elements)
        work += transcendentals / machine.transcendental(elements)
        total += times * (machine.latency + max(work, moved / machine.moved(elements)))
    return total


def measured(rates: list[dict[str, Any]]) -> Machine:
    """Return the machine whose rates were measured, as medians over the rounds.

    Args:
        rates: from `rates.measure`, once for each round.
    """

    def by_size(name: str) -> Callable[[float], float]:
        sizes = np.log([row[0] for row in rates[0][name]])
        best = np.median([[row[2] for row in each[name]] for each in rates], axis=0)
        return lambda size: float(np.exp(np.interp(np.log(size), sizes, np.log(best))))

    per_message = by_size("reduces") if "reduces" in rates[0] else None
    latency = 1 / float(np.median([each["kernels"][1] for each in rates]))
    return Machine(
        latency,
        latency,
        (lambda size: 1 / per_message(max(1.0, size / 4))) if per_message else (lambda _: 0.0),
        _products(rates),
        by_size("operations"),
        by_size("transcendentals"),
        by_size("bytes"),
    )


def _products(rates: list[dict[str, Any]]) -> Callable[[float, float], float]:
    """Interpolate between the products that were measured, by logarithms."""
    best = np.median([[row[3] for row in each["products"]] for each in rates], axis=0)
    table: dict[float, list[tuple[float, float]]] = {}
    for (narrow, rows, *_), rate in zip(rates[0]["products"], best, strict=True):
        table.setdefault(np.log(narrow), []).append((np.log(rows), np.log(rate)))

    def product(narrow: float, rows: float) -> float:
        by_rows = [np.interp(np.log(rows), *zip(*some, strict=True)) for some in table.values()]
        return float(np.exp(np.interp(np.log(narrow), list(table), by_rows)))

    return product


def _flat(
    latency: float, turn: float, reduce: float, product: float, operation: float, moved: float
) -> Machine:
    """Return an accelerator whose rates depend on nothing; a tanh counts as 16 operations."""
    return Machine(
        latency,
        turn,
        lambda _: reduce,
        lambda narrow, rows: product,
        lambda _: operation,
        lambda _: operation / 16,
        lambda _: moved,
    )


# NVIDIA's data sheet of the H100 SXM: 67 TFLOPS in FP32, 989 in TF32 with sparsity (half without),
# 3.35 TB/s. An operation that is no multiply-and-add has half the rate.
H100 = _flat(4e-6, 20e-6, 0.0, 67e12, 33e12, 3.35e12)
H100_TF32 = _flat(4e-6, 20e-6, 0.0, 494e12, 33e12, 3.35e12)
# The H200 differs by its memory: 4.8 TB/s.
H200 = _flat(4e-6, 20e-6, 0.0, 67e12, 33e12, 4.8e12)
# Google's page of the TPU v5e: 197 TFLOPS in bfloat16 and 819 GB/s a chip. The rate of its vector
# units is not published, and assumed.
V5E = _flat(1e-6, 1e-6, 10e-6, 197e12, 4e12, 0.819e12)
