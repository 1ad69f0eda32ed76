"""A replay buffer: the newest `capacity` rows of experience in a ring, sampled uniformly.

Adding and sampling cost what their own rows cost, whatever the capacity: the ring is made once,
rows are written where they belong, and inside a compiled loop nothing of it is copied.

On several devices each holds a share of the rows with a ring of its own. Seen from outside, the
leaves of `data` are the devices' shares one after the other, and there is a position and a size
for each; inside (`collectives.split`) a device sees its share as a whole ring.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Replay", "add", "draw", "init", "take"]


class Replay(NamedTuple):
    """Rows of experience, oldest overwritten first.

    Attributes:
        data: a pytree of `[capacity, ...]`; what was never written is zero.
        position: `[num_devices]` int32, where each device writes next in its share.
        size: `[num_devices]` int32, rows written so far in each share, at most all of it.
    """

    data: Any
    position: jax.Array
    size: jax.Array


def init(row: Any, capacity: int, num_devices: int = 1) -> Replay:
    """Return an empty ring.

    Args:
        row: one row, or its shapes and dtypes, which are kept: a pytree of `[...]`.
        capacity: rows of all devices together, a multiple of `num_devices`.
        num_devices: over which the rows are shared out.

    Raises:
        ValueError: if the capacity does not split.
    """
    if capacity < 1 or capacity % num_devices:
        raise ValueError(
            f"a replay of {capacity} rows does not split over {num_devices} devices: "
            "give a multiple, at least 1 row each"
        )
    data = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), row)
    # Two arrays, since one cannot be donated twice.
    return Replay(data, jnp.zeros(num_devices, jnp.int32), jnp.zeros(num_devices, jnp.int32))


def add(replay: Replay, rows: Any) -> Replay:
    """Write rows after the newest, over the oldest; of more rows than fit, the last ones stay.

    Args:
        replay: of this device, so with one position.
        rows: pytree like the row of `init`, of `[B, ...]`, oldest first.
    """
    capacity = _length(replay.data)
    num = min(_length(rows), capacity)
    rows = jax.tree.map(lambda x: x[-num:], rows)
    where = (replay.position + jnp.arange(num, dtype=jnp.int32)) % capacity
    return Replay(
        jax.tree.map(partial(_write, where), replay.data, rows),
        (replay.position + num) % capacity,
        jnp.minimum(replay.size + num, capacity),
    )


def draw(replay: Replay, key: jax.Array, num: int) -> jax.Array:
    """Draw places `[num]` uniformly, with replacement, from those that were written.

    Args:
        replay: of this device, with at least one row.
        key: consumed.
        num: how many.
    """
    return jax.random.randint(key, (num,), 0, replay.size[0])


def take(replay: Replay, places: jax.Array) -> Any:
    """Return the rows at these places `[...]`, a pytree of `[..., ...]`."""
    return jax.tree.map(lambda x: x.at[places].get(mode="promise_in_bounds"), replay.data)


def _write(where: jax.Array, data: jax.Array, rows: jax.Array) -> jax.Array:
    # A scatter, because it is done in place; reading and writing back whole blocks made a copy.
    rows = rows.astype(data.dtype)  # actions are float64 under jax_enable_x64
    return data.at[where].set(rows, unique_indices=True, mode="promise_in_bounds")


def _length(tree: Any) -> int:
    return jax.tree.leaves(tree)[0].shape[0]
