"""What this machine can do: products by shape, element-wise work, memory, and small kernels."""

import time
from collections.abc import Callable
from typing import Any

import hlo
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxrl_pg.ops import collectives

__all__ = ["measure"]

NARROW = (4, 16, 64, 256, 1024)
ROWS = (64, 2048, 32768)
SIZES = (2**10, 2**14, 2**18, 2**20, 2**22, 2**24)  # elements of float32
MESSAGES = (2**10, 2**14, 2**20)
_SECONDS, _EXECUTIONS = 0.02, 4
_MOST = 10_000_000_000  # operations of one product


def measure(num_devices: int) -> dict[str, Any]:
    """Measure all rates, each as `[size, least, middle, most]` a second.

    On two devices both work at once, and the rates are those of one of them.
    """

    def rate(work: Callable[..., Any], amount: float, *arrays: jax.Array) -> list[float]:
        return _rate(num_devices, work, amount, *arrays)

    products = []
    for narrow in NARROW:
        wide = max(narrow, 64)
        for rows in ROWS:
            flops = 4 * narrow * wide * rows
            if flops <= _MOST:
                arrays = (jnp.ones((narrow, rows)), *_weights(narrow, wide))
                products.append([narrow, rows, *rate(_two_products, flops, *arrays)])
    result: dict[str, Any] = {"products": products}
    for name, work, amount in (
        ("operations", _multiply_and_add, 64),
        ("transcendentals", _tanh, 4),
        ("bytes", _add, 12),
    ):
        result[name] = [[n, *rate(work, amount * n, jnp.ones(n), jnp.ones(n))] for n in SIZES]
    text = jax.jit(_loop(1, _small)).lower(jnp.ones(8), 1).compile().as_text()
    result["kernels"] = rate(_small, sum(hlo.kernels(text).values()), jnp.ones(8))
    if num_devices > 1:
        result["reduces"] = [[n, *rate(_mean, 1, jnp.ones(n))] for n in MESSAGES]
    return result


def _loop(num_devices: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a program that works a number of times on the first array, beside the others."""

    def program(x: jax.Array, times: jax.Array | int, *others: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda _, x: work(x, *others), x)

    return collectives.split(program, num_devices, P(), P())


def _rate(
    num_devices: int, work: Callable[..., Any], amount: float, *arrays: jax.Array
) -> list[float]:
    """Return the least, the middle and the most of what is done in a second."""
    x, *others = arrays
    program = jax.jit(_loop(num_devices, work))

    def seconds(times: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(program(x, times, *others))
        return time.perf_counter() - start

    seconds(1)
    times = 1
    while seconds(2 * times) - seconds(times) < _SECONDS / 4:
        times *= 4
    times *= 4
    # What a call takes by itself, such as new memory for a large result, is in both times.
    found = [seconds(2 * times) - seconds(times) for _ in range(_EXECUTIONS)]
    # Without those that were disturbed.
    likely = [each for each in found if each > max(found) / 8] or [seconds(times)]
    rates = sorted(amount * times / each for each in likely)
    return [rates[0], rates[len(rates) // 2], rates[-1]]


def _weights(narrow: int, wide: int) -> tuple[jax.Array, jax.Array]:
    """Return weights that leave an array of ones as it is."""
    return jnp.full((wide, narrow), 1 / narrow), jnp.full((narrow, wide), 1 / wide)


def _two_products(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    return down @ (up @ x)


def _multiply_and_add(x: jax.Array, y: jax.Array) -> jax.Array:
    for _ in range(32):
        x = x * 0.999 + y
    return x


def _tanh(x: jax.Array, y: jax.Array) -> jax.Array:
    for _ in range(4):
        x = jnp.tanh(x + y)
    return x


def _add(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * 0.5 + y


def _small(x: jax.Array) -> jax.Array:
    for _ in range(32):
        x = jax.lax.optimization_barrier(jnp.roll(x, 1) + 1.0)
    return x


def _mean(x: jax.Array) -> jax.Array:
    return jax.lax.pmean(x, collectives.AXIS)
