"""Seeds and random keys as users give them: every seed its own key, and one kind of key inside."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["key_of_seed", "require_key", "require_seed"]

_NUM_SEEDS = 2**63
_WORD = 2**32


def require_seed(seed: Any, name: str = "seed") -> int:
    """Return a seed as a Python integer: a whole number of Python, of NumPy, or in an array.

    Raises:
        ValueError: naming the seed, unless it is a whole number from 0 to 2^63 - 1.
    """
    try:
        whole = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:  # a float, a boolean array, a traced number
        whole = -1
    if not 0 <= whole < _NUM_SEEDS:
        shown = " ".join(repr(seed).split())
        raise ValueError(f"{name}={shown:.80}: give a whole number from 0 to 2^63 - 1")
    return whole


def key_of_seed(seed: Any) -> jax.Array:
    """Return the random key of a seed, another one for each of the 2^63.

    Below 2^32 it is `jax.random.key(seed)`. That function cuts a larger seed to its low 32 bits
    unless `jax_enable_x64` is on, so that many seeds would give one key; here the high bits stand
    in the key's other word, as they do under that switch.

    Raises:
        ValueError: as `require_seed`.
    """
    high, low = divmod(require_seed(seed), _WORD)
    key = jax.random.key(low)
    if high == 0:
        return key
    data = jax.random.key_data(key)
    words = data.reshape(-1, 2).at[:, 0].set(jnp.uint32(high))
    return jax.random.wrap_key_data(words.reshape(data.shape), impl=jax.random.key_impl(key))


def require_key(key: Any) -> jax.Array:
    """Return one typed random key; the raw data that `jax.random.PRNGKey` returns are wrapped.

    The key may be traced: only its type and shape are looked at.

    Raises:
        ValueError: for a number, for several keys, or for anything else that is no key.
    """
    if getattr(key, "dtype", None) == jnp.uint32 and jnp.ndim(key) > 0:
        with contextlib.suppress(TypeError, ValueError):  # data of another size
            key = jax.random.wrap_key_data(jnp.asarray(key))
    if jax.dtypes.issubdtype(getattr(key, "dtype", None), jax.dtypes.prng_key):
        if key.shape == ():
            return key
        raise ValueError(f"key has shape {key.shape}: give one key, or jax.vmap over several")
    shown = " ".join(repr(key).split())
    raise ValueError(f"key={shown:.80}: give a random key, such as jax.random.key(0)")
