"""A pytree as named NumPy arrays with a description of each, and back: a checkpoint's content."""

from typing import Any

import jax
import numpy as np

__all__ = [
    "bytes_of",
    "described",
    "leaves_by_path",
    "nested",
    "place",
    "spec",
    "stored",
    "to_host",
]

Json = dict[str, Any]


def spec(tree: Any) -> dict[str, str]:
    """Return every leaf's type and shape by its path: `{"params/kernel": "float32[4,64]"}`."""
    leaves = leaves_by_path(tree)
    return {name: f"{x.dtype}{list(x.shape)}".replace(" ", "") for name, x in leaves.items()}


def leaves_by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves by path, in the tree's order.

    Raises:
        ValueError: if one is no array, or two have paths that a file would not tell apart.
    """
    leaves: dict[str, Any] = {}
    stored = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_parts(path))
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct):
            raise ValueError(f"leaf {name} is {leaf!r}: make it an array, jnp.asarray({leaf!r})")
        stored_as = ".".join(_parts(path))
        if name in leaves or stored_as in stored:
            raise ValueError(
                f"two leaves are called {name}: use neither '/' nor '.' in the name of one"
            )
        leaves[name] = leaf
        stored.add(stored_as)
    return leaves


def to_host(tree: Any) -> dict[str, np.ndarray]:
    """Copy every leaf to an array of its own in memory; random keys become their uint32 data."""
    leaves = leaves_by_path(tree)
    keys = {name: jax.random.key_data(x) for name, x in leaves.items() if _is_key(x)}
    raw = jax.device_get(leaves | keys)
    return {name: np.array(x, order="C") for name, x in raw.items()}


def described(tree: Any, arrays: dict[str, np.ndarray]) -> Json:
    """Describe each leaf of a tree beside its array from `to_host`, as JSON.

    `stored_as` is the name that Orbax gives the array: the parts of its path, joined with dots.
    """
    specs = spec(tree)
    descriptions = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_parts(path))
        descriptions[name] = {
            "spec": specs[name],
            "dtype": str(arrays[name].dtype),
            "shape": list(arrays[name].shape),
            "key_impl": str(jax.random.key_impl(leaf)) if _is_key(leaf) else None,
            "stored_as": ".".join(_parts(path)),
        }
    return descriptions


def stored(tree: Any) -> dict[str, tuple[np.dtype, tuple[int, ...], str | None]]:
    """Return what `to_host` makes of each leaf: its type and shape, and a random key's kind."""
    found: dict[str, tuple[np.dtype, tuple[int, ...], str | None]] = {}
    kinds = []

    def data_of(key: jax.Array) -> jax.Array:
        kinds.append(str(jax.random.key_impl(key)))  # a struct does not say it, its trace does
        return jax.random.key_data(key)

    for name, leaf in leaves_by_path(tree).items():
        if _is_key(leaf):
            whole = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            data = jax.eval_shape(lambda key: data_of(key), whole)  # a function of one trace
            found[name] = np.dtype(data.dtype), data.shape, kinds.pop()
        else:
            found[name] = np.dtype(leaf.dtype), tuple(leaf.shape), None
    return found


def nested(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the arrays as dicts in dicts, one for each container of the tree.

    Arrays without elements are left out, since Orbax saves none.
    """
    root: Any = {}
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        array = arrays["/".join(_parts(path))]
        if not path:
            return array if array.size else {}
        if array.size:
            *parents, last = _parts(path)
            branch = root
            for part in parents:
                branch = branch.setdefault(part, {})
            branch[last] = array
    return root


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of an array without copying them, for a checksum."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def place(value: Any, key_impl: str | None, leaf: Any) -> Any:
    """Turn an array from `to_host` into one like `leaf`, on the same devices."""
    if isinstance(leaf, np.ndarray | np.generic):
        return value.copy()
    fresh = isinstance(leaf, jax.Array) and not leaf.committed
    where = None if fresh else leaf.sharding
    if where is not None and not where.is_fully_addressable:  # other processes hold parts of it
        value = jax.make_array_from_callback(value.shape, where, value.__getitem__)
        return jax.random.wrap_key_data(value, impl=key_impl) if key_impl else value
    if key_impl:
        value = jax.random.wrap_key_data(value, impl=key_impl)
    return jax.device_put(value, where, may_alias=False)


def _parts(path: tuple[Any, ...]) -> list[str]:
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
