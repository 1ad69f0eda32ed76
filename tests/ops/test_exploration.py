"""Epsilon-greedy policies, durations and schedules: worked numbers, rlax, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from jaxrl_pg.ops import exploration
from jaxrl_pg.ops.distributions import CATEGORICAL

Q = jnp.array([[1.0, 3.0, 2.0, 0.0], [0.0, 0.0, 9.0, 5.0]])
LEGAL = jnp.array([[1, 0, 1, 0], [1, 1, 0, 1]], bool)


def probabilities(legal, epsilon):
    return np.exp(exploration.epsilon_greedy(Q, legal, epsilon))


def test_the_best_action_and_a_share_for_every_one():
    # 0.2 / 4 = 0.05 for each, and 1 - 0.2 more for the best
    expected = [[0.05, 0.85, 0.05, 0.05], [0.05, 0.05, 0.85, 0.05]]
    assert_allclose(probabilities(None, 0.2), expected, rtol=1e-6)


def test_what_is_illegal_is_neither_best_nor_explored():
    # Of two legal actions the second has the larger q; of three the last one.
    expected = [[0.1, 0.0, 0.9, 0.0], [0.2 / 3, 0.2 / 3, 0.0, 0.8 + 0.2 / 3]]
    assert_allclose(probabilities(LEGAL, 0.2), expected, rtol=1e-6)
    assert_array_equal(probabilities(LEGAL, 0.2)[~np.asarray(LEGAL)], 0.0)


def test_at_its_ends_it_is_greedy_or_uniform():
    assert_array_equal(probabilities(None, 0.0), np.eye(4)[[1, 2]])
    assert_allclose(probabilities(LEGAL, 1.0), LEGAL / LEGAL.sum(axis=1, keepdims=True), rtol=1e-6)
    drawn = CATEGORICAL.sample(exploration.epsilon_greedy(Q, LEGAL, 0.0), jnp.array([0.0, 0.999]))
    assert_array_equal(drawn, [2, 3])


def test_of_equal_values_the_first_is_the_best():
    logits = exploration.epsilon_greedy(jnp.zeros((1, 3)), jnp.array([[0, 1, 1]], bool), 0.0)
    assert_array_equal(np.exp(logits), [[0.0, 1.0, 0.0]])


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_epsilon_greedy_against_rlax(rlax, epsilon):
    q = jax.random.normal(jax.random.key(0), (20, 5))
    with pytest.warns(PendingDeprecationWarning):
        expected = rlax.epsilon_greedy(epsilon).probs(q)
    found = np.exp(exploration.epsilon_greedy(q, None, epsilon))
    assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mu", [1.5, 2.0, 4.0])
def test_durations_have_the_probabilities_of_the_zeta_distribution(mu):
    """Every partial sum of `n^-mu` is a step of the inverse, up to the rounding of float32."""
    mass = np.arange(1, 1001) ** -mu
    reached = np.cumsum(mass / mass.sum())
    for n in (1, 2, 3, 10, 100):
        below = 0.0 if n == 1 else reached[n - 2]
        middle = (below + reached[n - 1]) / 2
        if reached[n - 1] - below > 1e-5:
            assert int(exploration.durations(jnp.float32(middle), mu)) == n
    ends = exploration.durations(jnp.array([0.0, 1.0 - 2**-24]), mu)
    assert ends[0] == 1
    assert 1 <= ends[1] <= 1000


def test_the_numbers_that_the_docstring_gives():
    uniform = (np.arange(100_000) + 0.5) / 100_000
    found = np.asarray(exploration.durations(jnp.asarray(uniform, jnp.float32), 2.0))
    # The zeta distribution's P(1) is 1 / zeta(2) = 6 / pi^2; the mean is cut off, H_1000 / zeta(2).
    assert_allclose(np.mean(found == 1), 1 / special.zeta(2), atol=0.001)
    assert_allclose(found.mean(), sum(1 / np.arange(1, 1001)) / special.zeta(2), rtol=0.01)


def test_a_schedule_falls_in_a_straight_line_and_stays():
    progress = jnp.array([0.0, 0.25, 0.5, 1.0, 7.0])
    assert_allclose(exploration.linear(1.0, 0.2, progress), [1.0, 0.8, 0.6, 0.2, 0.2], rtol=1e-6)
