"""How trees of arrays are told apart: bit by bit, or within a tolerance."""

import jax
import numpy as np


def leaves_of(tree):
    """Return the leaves by path, as NumPy's arrays; random keys as the numbers they are."""
    paths_and_leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): numbers_of(leaf) for path, leaf in paths_and_leaves}


def numbers_of(leaf):
    """Return an array as NumPy's, a random key as the numbers it is."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def assert_bit_equal(left, right):
    """Hold two trees to the same structure, shapes, types and bits."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    right = leaves_of(right)
    for name, value in leaves_of(left).items():
        np.testing.assert_array_equal(value, right[name], err_msg=name, strict=True)


def assert_close(left, right, **tolerance):
    """Hold two trees to the same structure, and their numbers to `assert_allclose`."""
    assert jax.tree.structure(left) == jax.tree.structure(right)
    right = leaves_of(right)
    for name, value in leaves_of(left).items():
        np.testing.assert_allclose(value, right[name], err_msg=name, **tolerance)


def largest_difference(left, right):
    """Return the largest difference between the numbers of two trees of one structure."""
    right = leaves_of(right)
    return max(np.max(np.abs(value - right[name])) for name, value in leaves_of(left).items())
