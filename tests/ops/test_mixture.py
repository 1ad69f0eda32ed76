"""Geometric mixtures: numbers by hand, the theory's, densities, and masked actions."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from jaxrl_pg.ops import mixture
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.theory.updates import prior

MIX = jax.jit(mixture.geometric)


def test_two_normals_by_hand():
    # N(0, 1) and N(2, (1/2)^2) by halves: weights 1/2 and 4/2, so 1/s^2 = 2.5, m = 2 x 2 / 2.5.
    one, other = (Normal(jnp.array([m]), jnp.log(jnp.array([s]))) for m, s in ((0, 1.0), (2, 0.5)))
    mixed = MIX(one, other, 0.5)
    assert_allclose(mixed.mean, [1.6], rtol=1e-6)
    assert_allclose(jnp.exp(mixed.log_std), [2.5**-0.5], rtol=1e-6)
    for share, end in ((0.0, one), (1.0, other)):
        assert_allclose(MIX(one, other, share), end, rtol=1e-6, atol=1e-6)


def test_the_density_is_that_of_the_product_up_to_its_normaliser():
    rng = np.random.default_rng(0)
    (m, n), (s, t) = rng.normal(size=(2, 3)), rng.uniform(0.3, 2.0, (2, 3))
    share, x = 0.3, rng.normal(size=(50, 3))
    mixed = MIX(Normal(m, np.log(s)), Normal(n, np.log(t)), share)
    got = stats.norm.logpdf(x, mixed.mean, np.exp(mixed.log_std))
    product = 0.7 * stats.norm.logpdf(x, m, s) + 0.3 * stats.norm.logpdf(x, n, t)
    assert_allclose(np.ptp(got - product, axis=0), 0.0, atol=1e-4)


def test_logits_are_the_theorys_mixture():
    logits = np.random.default_rng(1).normal(size=(2, 20, 4)) * 3
    one, other = np.asarray(jax.nn.log_softmax(logits))
    expected, _ = prior.mixture(one, other, 0.3)
    assert_allclose(MIX(logits[0] + 5.0, logits[1], 0.3), expected, atol=1e-5)


def test_an_illegal_action_stays_so():
    masked = np.array([[0.0, 1.0, -1e9]])
    mixed = MIX(masked, np.array([[1.0, 0.0, -1e9]]), 0.5)
    assert_allclose(jnp.exp(mixed), [[0.5, 0.5, 0.0]], rtol=1e-6)
