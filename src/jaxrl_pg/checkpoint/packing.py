"""A pytree as bytes with a description of each leaf, and back: the content of a checkpoint."""

import math
from typing import Any

import jax
import numpy as np

__all__ = ["leaves_by_path", "pack", "place", "spec", "split"]

Json = dict[str, Any]


def spec(tree: Any) -> dict[str, str]:
    """Return every leaf's type and shape by its path: `{"params/kernel": "float32[4,64]"}`."""
    leaves = leaves_by_path(tree)
    return {name: f"{x.dtype}{list(x.shape)}".replace(" ", "") for name, x in leaves.items()}


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves by path, in the tree's order.

    Raises:
        ValueError: if one is no array, or two have the same path.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            raise ValueError(f"leaf {name} is {leaf!r}: make it an array, jnp.asarray({leaf!r})")
        if name in leaves:
            raise ValueError(f"two leaves are called {name}: use no '/' in the name of one")
        leaves[name] = leaf
    return leaves


def pack(leaves: dict[str, Any], chunk: int) -> tuple[np.ndarray, Json]:
    """Copy all leaves into one array of bytes, in rows of `chunk`, and describe each."""
    keys = {k: x for k, x in leaves.items() if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)}
    raw = jax.device_get(leaves | {k: jax.random.key_data(key) for k, key in keys.items()})
    described = {
        name: {
            "spec": leaf_spec,
            "shape": raw[name].shape,
            "bytes": raw[name].nbytes,
            "key_impl": str(jax.random.key_impl(keys[name])) if name in keys else None,
        }
        for name, leaf_spec in spec(leaves).items()
    }
    pieces = [np.ravel(raw[name]).view(np.uint8) for name in described]
    total = sum(piece.size for piece in pieces)
    width = max(1, min(total, chunk))
    packed = np.zeros((max(1, math.ceil(total / width)), width), np.uint8)
    np.concatenate([packed[:0, 0], *pieces], out=packed.reshape(-1)[:total])
    return packed, described


def split(packed: np.ndarray, leaves: Json) -> dict[str, np.ndarray]:
    """Split what `pack` returned into the bytes of each leaf."""
    ends = np.cumsum([leaf["bytes"] for leaf in leaves.values()], dtype=np.int64)
    return dict(zip(leaves, np.split(packed.reshape(-1), ends)[:-1], strict=True))


def place(data: np.ndarray, described: Json, leaf: Any) -> Any:
    """Turn the bytes of a leaf into an array like `leaf`, on the same devices."""
    impl = described["key_impl"]
    value: Any = data.view(np.uint32 if impl else leaf.dtype).reshape(described["shape"])
    if isinstance(leaf, np.ndarray | np.generic):
        return value.copy()
    fresh = isinstance(leaf, jax.Array) and not leaf.committed
    where = None if fresh else leaf.sharding
    if where is not None and not where.is_fully_addressable:  # other processes hold parts of it
        value = jax.make_array_from_callback(value.shape, where, value.__getitem__)
        return jax.random.wrap_key_data(value, impl=impl) if impl else value
    if impl:
        value = jax.random.wrap_key_data(value, impl=impl)
    return jax.device_put(value, where, may_alias=False)
