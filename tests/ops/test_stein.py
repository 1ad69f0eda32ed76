"""Stein variational gradient descent: worked numbers, a loop, and particles on two peaks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose
from scipy import stats

from jaxrl_pg.ops import stein


def test_worked():
    # At 0 and 1 the squared distances are 0, 1, 1, 0, with median 1/2, so h = 1 / (2 log 3), and
    # the kernel of the two is exp(-2 log 3) = 1/9. With scores 3 and -6:
    #   phi_0 = [3 - 6/9 + (2/h) (1/9) (0 - 1)] / 2 = [7/3 - (4 log 3) / 9] / 2
    #   phi_1 = [3/9 - 6 + (4 log 3) / 9] / 2
    x, score = jnp.array([[0.0], [1.0]]), jnp.array([[3.0], [-6.0]])
    push = 4.0 * math.log(3.0) / 9.0
    expected = [[(7.0 / 3.0 - push) / 2.0], [(-17.0 / 3.0 + push) / 2.0]]
    assert_allclose(stein.direction(x, score), expected, rtol=1e-6)


def test_as_a_loop():
    rng = np.random.default_rng(0)
    x, score = rng.normal(size=(2, 3, 5, 2))
    for n in range(3):
        squared = [[np.sum((a - b) ** 2) for a in x[n]] for b in x[n]]
        h = np.median(squared) / math.log(6.0)
        for i in range(5):
            total = np.zeros(2)
            for j in range(5):
                k = math.exp(-squared[i][j] / h)
                gradient_in_j = -2.0 / h * (x[n, j] - x[n, i]) * k
                total += k * score[n, j] + gradient_in_j
            assert_allclose(stein.direction(x, score)[n, i], total / 5, rtol=1e-5, atol=1e-6)


def test_one_particle_or_several_at_one_place_follow_the_score():
    score = jnp.array([[2.0, -1.0]])
    assert_allclose(stein.direction(jnp.ones((1, 2)), score), score)
    same = stein.direction(jnp.ones((4, 2)), jnp.tile(score, (4, 1)))
    assert_allclose(same, np.tile(score, (4, 1)), rtol=1e-6)


def test_no_gradient_passes():
    grads = jax.grad(lambda x: jnp.sum(stein.direction(x, x)))(jnp.arange(6.0).reshape(3, 2))
    assert_allclose(grads, 0.0)


def test_particles_spread_over_two_peaks():
    """Half N(-1, 0.5^2) and half N(1, 0.5^2), whose spread is sqrt(0.25 + 1), from a narrow start.

    The weights of peaks that lie apart come from where particles began, so they are equal here.
    """

    def log_density(x):
        peaks = [-0.5 * ((x - mean) / 0.5) ** 2 for mean in (-1.0, 1.0)]
        return jnp.sum(jnp.logaddexp(*peaks))

    def step(x, _):
        return x + 0.1 * stein.direction(x, jax.grad(log_density)(x)), None

    start = jnp.asarray(stats.norm(0.0, 0.1).ppf((np.arange(50) + 0.5) / 50))[:, None]
    x = np.asarray(jax.lax.scan(step, start, None, 2000)[0])[:, 0]
    assert_allclose(np.mean(x), 0.0, atol=0.05)
    assert_allclose(np.std(x), math.sqrt(1.25), atol=0.1)
    assert_allclose(np.quantile(x[x > 0], [0.25, 0.75]), [0.66, 1.34], atol=0.15)
