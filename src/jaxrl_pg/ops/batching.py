"""Shuffled minibatches without a sort.

A uniformly random permutation costs a sort per epoch, which on CPU took as long as half of a
small network's gradient. A keyed bijection needs a few integer operations per index and no
memory traffic: a Feistel network over the index written as two digits, which permutes every
`N = a * b` exactly (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["mean_over_pieces", "minibatch_indices", "permutations"]

_ROUNDS = 8
_SMALLEST_DIGIT = 8


def permutations(key: jax.Array, num: int, n: int) -> jax.Array:
    """Independent pseudo-random orders of `range(n)`.

    The index is written as digits `(l, r)` in `Z_a x Z_b` with `a b = n`, and eight keyed
    rounds `l += f(r) mod a`, `r += f(l) mod b` are applied; each round can be undone, so the
    result is a permutation for every key. Where `n` has no divisors for digits of at least 8
    values (a prime, say), `jax.random.permutation` is used instead.

    Args:
        key: consumed.
        num: how many orders.
        n: how many indices in each.

    Returns:
        `[num, n]` int32, each of `0 .. n-1` once in every row.
    """
    a = _balanced_divisor(n)
    if a < _SMALLEST_DIGIT:
        rows = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (num, n))
        return jax.random.permutation(key, rows, axis=1, independent=True)
    b = n // a
    salts = jax.random.bits(key, (_ROUNDS * num,), jnp.uint32).reshape(_ROUNDS, num, 1)
    index = jnp.arange(n, dtype=jnp.uint32)[None]
    left, right = index // b, index % b
    for i in range(0, _ROUNDS, 2):
        left = (left + _mix(right, salts[i]) % a) % a
        right = (right + _mix(left, salts[i + 1]) % b) % b
    return (left * b + right).astype(jnp.int32)


def minibatch_indices(
    key: jax.Array, num_samples: int, num_epochs: int, num_minibatches: int
) -> jax.Array:
    """Indices of every minibatch of every epoch: each epoch visits each sample once.

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


def mean_over_pieces(fn: Callable[[Any], Any], rows: Any, most: int) -> Any:
    """`fn(rows)` for a function that is a mean over rows, computed piece by piece.

    The mean over equal pieces is the mean over all, up to rounding; only one piece's
    intermediate results are alive at a time.

    Args:
        fn: from a pytree of `[n, ...]` arrays to a pytree of means over `n`.
        rows: pytree of arrays with the rows first.
        most: rows in a piece; the largest divisor of their number that does not exceed it is
            taken. 0 takes all rows at once.
    """
    num_rows = jax.tree.leaves(rows)[0].shape[0]
    if not 0 < most < num_rows:
        return fn(rows)
    size = next(d for d in range(most, 0, -1) if num_rows % d == 0)
    pieces = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), rows)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(fn, _first(pieces)))
    total, _ = jax.lax.scan(functools.partial(_add_piece, fn), zeros, pieces)
    return jax.tree.map(lambda x: x * (size / num_rows), total)


def _first(pieces: Any) -> Any:
    return jax.tree.map(lambda x: x[0], pieces)


def _add_piece(fn: Callable[[Any], Any], total: Any, piece: Any) -> tuple[Any, None]:
    return jax.tree.map(jnp.add, total, fn(piece)), None


def _balanced_divisor(n: int) -> int:
    """The largest divisor of `n` that is at most its square root."""
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def _mix(x: jax.Array, salt: jax.Array) -> jax.Array:
    """A 32-bit mixing function (the finaliser of MurmurHash3), salted."""
    x = (x ^ salt) * jnp.uint32(0x9E3779B1)
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
