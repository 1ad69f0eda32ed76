"""Shuffled minibatches without a sort, and means over more rows than fit at once.

    indices = batching.minibatch_indices(key, num_samples=2048, num_epochs=10, num_minibatches=32)
    for minibatch in indices:  # 320 of them, 64 samples each
        ...

A uniformly random permutation costs a sort per epoch, which on CPU took as long as half of a
small network's gradient. A keyed bijection needs a few integer operations per index and no
memory traffic: a Feistel network over the index written as two digits, which permutes every
`N = a * b` exactly (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_pg.ops import metric_names

__all__ = ["in_pieces", "mean_over_pieces", "minibatch_indices", "permutations"]

_NUM_ROUNDS = 8
_SMALLEST_DIGIT = 8
_JOIN = {"mean": jnp.add, "min": jnp.minimum, "max": jnp.maximum}
_START = {"mean": 0.0, "min": jnp.inf, "max": -jnp.inf}


def permutations(key: jax.Array, num: int, n: int) -> jax.Array:
    """Draw `num` independent pseudo-random orders of `range(n)`.

    The index is written as digits `(l, r)` in `Z_a x Z_b` with `a b = n`, and eight keyed
    rounds `l += f(r) mod a`, `r += f(l) mod b` are applied. Each round can be undone, so the
    result is a permutation for every key. Where `n` has no divisors for digits of at least 8
    values (a prime, say), `jax.random.permutation` is used instead.

    Args:
        key: consumed.
        num: number of orders.
        n: number of indices in each.

    Returns:
        `[num, n]` int32, each of `0 .. n-1` once in every row.
    """
    a = _balanced_divisor(n)
    if a < _SMALLEST_DIGIT:
        rows = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (num, n))
        return jax.random.permutation(key, rows, axis=1, independent=True)
    b = n // a
    salts = jax.random.bits(key, (_NUM_ROUNDS * num,), jnp.uint32).reshape(_NUM_ROUNDS, num, 1)
    index = jnp.arange(n, dtype=jnp.uint32)[None]
    left, right = index // b, index % b
    for i in range(0, _NUM_ROUNDS, 2):
        left = (left + _mix(right, salts[i]) % a) % a
        right = (right + _mix(left, salts[i + 1]) % b) % b
    return (left * b + right).astype(jnp.int32)


def minibatch_indices(
    key: jax.Array, num_samples: int, num_epochs: int, num_minibatches: int
) -> jax.Array:
    """Draw the indices of all minibatches; each epoch visits each sample once.

    Args:
        key: consumed.
        num_samples: samples in the batch, a multiple of `num_minibatches`.
        num_epochs: passes over the batch.
        num_minibatches: minibatches in a pass.

    Returns:
        `[num_epochs * num_minibatches, num_samples // num_minibatches]` int32.
    """
    orders = permutations(key, num_epochs, num_samples)
    return orders.reshape(num_epochs * num_minibatches, num_samples // num_minibatches)


def in_pieces(fn: Callable[[Any], jax.Array], rows: Any, max_rows: int) -> jax.Array:
    """Compute `fn(rows)` piece by piece, for a function of each row by itself.

    Args:
        fn: from a pytree of `[n, ...]` arrays to `[n, ...]`.
        rows: pytree of `[N, ...]` arrays.
        max_rows: as in `mean_over_pieces`.
    """
    pieces = _pieces(rows, max_rows)
    if pieces is None:
        return fn(rows)
    results = jax.lax.map(fn, pieces)
    return results.reshape(-1, *results.shape[2:])


def mean_over_pieces(fn: Callable[[Any], Any], rows: Any, max_rows: int) -> Any:
    """Compute `fn(rows)` piece by piece, for a function that is a mean over rows.

    The mean over equal pieces is the mean over all rows, up to rounding, and only one piece's
    intermediate results are alive at a time. With a gradient for `fn` this is gradient
    accumulation.

    Args:
        fn: from a pytree of `[n, ...]` arrays to a pytree of means over `n`; what stands in a
            dictionary under a name that ends in `_min` or `_max` is an extreme instead.
        rows: pytree of `[N, ...]` arrays.
        max_rows: rows in a piece at most: a piece has as many as the largest divisor of N that
            does not exceed it. 0 takes all rows at once.

    Returns:
        The pytree that `fn` returns.
    """
    pieces = _pieces(rows, max_rows)
    if pieces is None:
        return fn(rows)
    num_pieces = jax.tree.leaves(pieces)[0].shape[0]
    shapes = jax.eval_shape(fn, jax.tree.map(lambda x: x[0], pieces))
    kinds = jax.tree_util.tree_map_with_path(
        lambda path, _: metric_names.reduction(str(getattr(path[-1], "key", "")) if path else ""),
        shapes,
    )

    def add(total: Any, piece: Any) -> tuple[Any, None]:
        return jax.tree.map(lambda kind, *xs: _JOIN[kind](*xs), kinds, total, fn(piece)), None

    start = jax.tree.map(lambda kind, x: jnp.full(x.shape, _START[kind], x.dtype), kinds, shapes)
    total, _ = jax.lax.scan(add, start, pieces)
    return jax.tree.map(lambda kind, x: x * (1 / num_pieces) if kind == "mean" else x, kinds, total)


def _pieces(rows: Any, max_rows: int) -> Any:
    """Rows `[N, ...]` as equal pieces `[N / n, n, ...]`; None where all are one piece."""
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    if not 0 < max_rows < num_rows:
        return None
    size = next(d for d in range(max_rows, 0, -1) if num_rows % d == 0)
    return jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)


def _balanced_divisor(n: int) -> int:
    """Return the largest divisor of `n` that is at most its square root."""
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def _mix(x: jax.Array, salt: jax.Array) -> jax.Array:
    """Mix the 32 bits of `x` with a salt (the finaliser of MurmurHash3)."""
    x = (x ^ salt) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
