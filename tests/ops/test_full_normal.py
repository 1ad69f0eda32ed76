"""Normals with a full covariance: worked numbers, SciPy, the diagonal family, and moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from jaxrl_pg.ops import full_normal
from jaxrl_pg.ops.distributions import DIAGONAL_NORMAL, Normal

FAMILY = full_normal.FULL_NORMAL


def random_params(seed, size, batch=(5,)):
    rng = np.random.default_rng(seed)
    shapes = (*batch, size), (*batch, size), (*batch, full_normal.num_below(size))
    return full_normal.make(*(jnp.asarray(0.7 * rng.normal(size=s), jnp.float32) for s in shapes))


def by_hand():
    """Scales (2, 1/2) and N21 = 3: L = ((2, 0), (1.5, 0.5))."""
    scale = jnp.log(jnp.array([[2.0, 0.5]]))
    return full_normal.make(jnp.array([[1.0, -1.0]]), scale, jnp.array([[3.0]]))


def test_the_factor_and_the_covariance_by_hand():
    lower = np.array([[2.0, 0.0], [1.5, 0.5]])
    assert_allclose(full_normal.factor(by_hand())[0], lower, rtol=1e-6)
    # L L^T: 4, 2 x 1.5 = 3, 1.5^2 + 0.5^2 = 2.5.
    assert_allclose(full_normal.covariance(by_hand())[0], [[4.0, 3.0], [3.0, 2.5]], rtol=1e-6)


def test_density_and_draw_by_hand():
    # z = (1, -2) gives u = (1 + 2, -1 + 1.5 - 1) = (3, -0.5); log |L| = log(2 x 0.5) = 0.
    noise = jnp.array([[1.0, -2.0]])
    action = FAMILY.sample(by_hand(), noise)
    assert_allclose(action, [[3.0, -0.5]], rtol=1e-6)
    assert_allclose(FAMILY.log_prob(by_hand(), action), [-2.5 - np.log(2 * np.pi)], rtol=1e-6)
    assert_allclose(FAMILY.entropy(by_hand()), [1.0 + np.log(2 * np.pi)], rtol=1e-6)
    assert_allclose(FAMILY.mode(by_hand()), [[1.0, -1.0]])


def test_entries_are_read_row_by_row():
    params = full_normal.make(jnp.zeros(3), jnp.zeros(3), jnp.array([1.0, 2.0, 3.0]))
    assert_allclose(params.below, [[0, 0, 0], [1, 0, 0], [2, 3, 0]])
    assert [full_normal.num_below(n) for n in (1, 2, 3, 6)] == [0, 1, 3, 15]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_log_prob_and_entropy_are_scipys(size):
    params = random_params(size, size)
    actions = np.random.default_rng(9).normal(size=(5, size)).astype(np.float32)
    lower = np.asarray(full_normal.factor(params), np.float64)
    assert_allclose(lower, np.tril(lower))
    log_prob, entropy = jax.jit(FAMILY.log_prob)(params, actions), jax.jit(FAMILY.entropy)(params)
    for i in range(5):
        scipys = stats.multivariate_normal(np.asarray(params.mean[i]), lower[i] @ lower[i].T)
        assert_allclose(log_prob[i], scipys.logpdf(actions[i]), rtol=1e-4)
        assert_allclose(entropy[i], scipys.entropy(), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_kl_is_the_textbooks(size):
    """`(tr(Sq^-1 Sp) + d^T Sq^-1 d - A + log |Sq| / |Sp|) / 2`, in float64."""
    p, q = random_params(1, size), random_params(2, size)
    result = jax.jit(FAMILY.kl)(p, q)
    covariances = [np.asarray(full_normal.covariance(x), np.float64) for x in (p, q)]
    for i, (at_p, at_q) in enumerate(zip(*covariances, strict=True)):
        away = np.asarray(p.mean[i] - q.mean[i], np.float64)
        distance = np.trace(np.linalg.solve(at_q, at_p)) + away @ np.linalg.solve(at_q, away)
        logs = np.linalg.slogdet(at_q)[1] - np.linalg.slogdet(at_p)[1]
        assert_allclose(result[i], 0.5 * (distance - size + logs), rtol=1e-4)
    assert_allclose(FAMILY.kl(p, p), np.zeros(5), atol=1e-5)


def test_with_nothing_below_the_diagonal_it_is_the_diagonal_family():
    full = [x._replace(below=jnp.zeros_like(x.below)) for x in map(random_params, (1, 2), (3, 3))]
    plain = [Normal(x.mean, x.log_scale) for x in full]
    noise = FAMILY.noise(jax.random.key(0), (5,), 3)
    assert_allclose(noise, DIAGONAL_NORMAL.noise(jax.random.key(0), (5,), 3))
    action = FAMILY.sample(full[0], noise)
    assert_allclose(action, DIAGONAL_NORMAL.sample(plain[0], noise), rtol=1e-6)
    assert_allclose(
        FAMILY.log_prob(full[0], action), DIAGONAL_NORMAL.log_prob(plain[0], action), rtol=1e-5
    )
    assert_allclose(FAMILY.entropy(full[0]), DIAGONAL_NORMAL.entropy(plain[0]), rtol=1e-6)
    assert_allclose(FAMILY.kl(*full), DIAGONAL_NORMAL.kl(*plain), rtol=1e-5)


def test_solving_undoes_the_factor():
    params = random_params(3, 4)
    sides = jnp.asarray(np.random.default_rng(1).normal(size=(5, 4, 2)), jnp.float32)
    product = np.einsum("nij,njm->nim", full_normal.factor(params), sides)
    assert_allclose(full_normal.solve(params, jnp.asarray(product)), sides, atol=1e-5)


def test_draws_have_the_mean_and_the_covariance():
    """100,000 draws: standard errors of a covariance are at most 4 sqrt(2 / 1e5) = 0.02."""
    params = by_hand()
    noise = FAMILY.noise(jax.random.key(1), (100_000,), 2)
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, (100_000, *x.shape[1:])), params)
    draws = np.asarray(FAMILY.sample(wide, noise), np.float64)
    assert_allclose(draws.mean(0), [1.0, -1.0], atol=0.05)
    assert_allclose(np.cov(draws.T), full_normal.covariance(params)[0], atol=0.12)


def test_the_gradient_of_the_likelihood_is_that_of_the_natural_parameters():
    """d log p / d mean = S^-1 (u - mean)."""
    params, action = random_params(5, 3, ()), jnp.array([0.3, -1.0, 0.7])
    result = jax.jit(jax.grad(FAMILY.log_prob))(params, action).mean
    away = np.asarray(action - params.mean, np.float64)
    assert_allclose(
        result, np.linalg.solve(np.asarray(full_normal.covariance(params), float), away), rtol=1e-4
    )
