"""Orthonormal columns: a loop, QR, and the law of Haar.

A statistical test here passes when its p-value is above 1e-6, or when a mean lies within five
standard errors (6e-7). Seeds are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from jaxrl_pg.components.networks import orthonormal_columns

FALSE_ALARM = 1e-6
FRAMES = jax.jit(orthonormal_columns)


def gaussian(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gram_schmidt_loop(a):
    """One matrix, one column and one projection at a time, in float64."""
    n, k = a.shape
    q = np.zeros((n, k))
    for j in range(k):
        column = np.array(a[:, j], np.float64)
        for i in range(j):
            overlap = sum(q[m, i] * column[m] for m in range(n))
            column = column - overlap * q[:, i]
        length = np.sqrt(sum(x * x for x in column))
        if length > 0:
            q[:, j] = column / length
    return q


def test_worked():
    # (3, 4) / 5; (1, 0) less its share 3/5 along (3, 4)/5 is (16, -12)/25, length 20/25
    q = FRAMES(jnp.array([[[3.0, 1.0], [4.0, 0.0]]]))
    assert_allclose(q[0], [[0.6, 0.8], [0.8, -0.6]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (5, 3), (6, 6)])
def test_the_loop(shape):
    a = gaussian(0, 3, *shape)
    want = np.stack([gram_schmidt_loop(m) for m in a])
    assert_allclose(FRAMES(a), want, rtol=1e-3, atol=1e-4)


def test_it_is_the_qr_decomposition_with_a_positive_diagonal():
    a = gaussian(1, 4, 9, 5)
    q, r = np.linalg.qr(np.float64(a))
    sign = np.sign(np.diagonal(r, axis1=1, axis2=2))
    got = FRAMES(a)
    assert_allclose(got, q * sign[:, None, :], rtol=1e-3, atol=1e-4)
    r = np.einsum("lnk,lnm->lkm", np.float64(got), a)
    assert_allclose(np.tril(r, -1), 0.0, atol=1e-5)
    assert np.all(np.diagonal(r, axis1=1, axis2=2) > 0)


@pytest.mark.parametrize("shape", [(64, 64), (200, 30)])
def test_columns_are_orthonormal(shape):
    q = np.float64(FRAMES(gaussian(2, 2, *shape)))
    assert_allclose(np.einsum("lnk,lnm->lkm", q, q), np.stack([np.eye(shape[1])] * 2), atol=2e-6)


def test_columns_that_nearly_agree_stay_orthogonal():
    # After one pass the rounding left over is 1e-7 / 1e-4 of a column; the second removes it.
    direction, noise = gaussian(3, 1, 40, 1), gaussian(4, 1, 40, 8)
    q = np.float64(FRAMES(direction + 1e-4 * noise))[0]
    assert_allclose(q.T @ q, np.eye(8), atol=2e-6)


def test_columns_of_zeros_stay_zero_and_padding_changes_nothing():
    a = gaussian(5, 2, 7, 5)
    a[0, 4:], a[0, :, 2:] = 0.0, 0.0
    q = np.asarray(FRAMES(a))
    assert_allclose(q[0, :4, :2], gram_schmidt_loop(a[0, :4, :2]), rtol=1e-4, atol=1e-5)
    assert_array_equal(q[0, 4:], np.zeros((3, 5)))
    assert_array_equal(q[0, :, 2:], np.zeros((7, 3)))
    assert_allclose(q[1], gram_schmidt_loop(a[1]), rtol=1e-3, atol=1e-4)


def test_under_vmap():
    a = gaussian(7, 2, 3, 5, 4)
    got = np.asarray(jax.jit(jax.vmap(orthonormal_columns))(a)).reshape(6, 5, 4)
    want = [gram_schmidt_loop(m) for m in a.reshape(6, 5, 4)]
    assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_every_entry_has_the_law_of_a_random_direction():
    # A coordinate x of a uniform direction in n dimensions: (x + 1)/2 ~ Beta((n-1)/2, (n-1)/2).
    n, num = 5, 4000
    q = np.float64(FRAMES(gaussian(8, num, n, 3)))
    law = stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)
    for i, j in ((0, 0), (4, 0), (0, 2), (4, 2), (2, 1)):
        assert stats.kstest(q[:, i, j], law.cdf).pvalue > FALSE_ALARM
    # mean 0, variance 1/n
    assert np.all(np.abs(q.mean(0)) < 5 / np.sqrt(n * num))


def test_a_square_frame_has_the_trace_of_a_random_rotation_or_reflection():
    # Over the orthogonal group of 4 dimensions, E tr = 0, E tr^2 = 1, E tr^4 = 3 (Diaconis and
    # Shahshahani 1994), and half of the group are reflections.
    q = np.float64(FRAMES(gaussian(9, 4000, 4, 4)))
    trace = np.trace(q, axis1=1, axis2=2)
    samples = {"tr": (trace, 0), "tr^2": (trace**2, 1), "tr^4": (trace**4, 3)}
    samples["det"] = (np.linalg.det(q), 0)
    for name, (x, want) in samples.items():
        error = x.std() / np.sqrt(x.size)
        assert abs(x.mean() - want) < 5 * error, name
