"""A single sample has no spread: whatever is divided by one must not vanish or blow up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg.agents import ppo
from jaxrl_pg.components import normalize
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.ops import collectives, losses, reps, running_stats
from jaxrl_pg.types import Transition


def test_rows_of_one_number_stay_as_they_are():
    rows = jnp.array([[3.0], [-0.5], [0.0], [1e6]])
    np.testing.assert_array_equal(collectives.standardize(rows), rows)


def test_rows_of_two_numbers_are_standardised():
    rows = collectives.standardize(jnp.array([[1.0, 3.0], [-4.0, 0.0]]))
    np.testing.assert_allclose(rows, [[-1.0, 1.0], [-1.0, 1.0]], rtol=1e-6)


def test_one_number_on_each_of_several_devices_is_a_row_of_several():
    rows = jnp.array([[[1.0]], [[3.0]]])
    spread = jax.vmap(collectives.standardize, axis_name=collectives.AXIS)(rows)
    np.testing.assert_allclose(spread.ravel(), [-1.0, 1.0], rtol=1e-6)


def test_a_gradient_of_single_rows_is_that_of_their_advantages():
    def loss(log_prob, advantage):
        return losses.policy_gradient_loss(log_prob, collectives.standardize(advantage[None])[0])

    gradient = jax.grad(loss)(jnp.array([-0.7]), jnp.array([2.5]))
    np.testing.assert_allclose(gradient, [-2.5])


@pytest.mark.parametrize("shape", [(), (3,)])
def test_the_spread_of_one_sample_is_1(shape):
    sample = jnp.full((1, *shape), 7.0)
    stats = running_stats.merge(running_stats.init(shape), running_stats.moments(sample, 1))
    np.testing.assert_array_equal(running_stats.std(stats), np.ones(shape))
    np.testing.assert_array_equal(
        running_stats.normalize(stats, sample[0] + 2.0), np.full(shape, 2.0)
    )
    two = running_stats.merge(stats, running_stats.moments(sample + 2.0, 1))
    np.testing.assert_allclose(running_stats.std(two), np.ones(shape), rtol=1e-6)


def test_the_first_reward_of_all_is_not_blown_up():
    """Divided by the spread of a single return it would be 10^4 times as large."""
    steps = Transition(*(jnp.zeros((1, 1)) for _ in Transition._fields))
    never = jnp.zeros((1, 1), bool)
    steps = steps._replace(reward=jnp.full((1, 1), 0.5), terminated=never, truncated=never)
    start = normalize.Normalizer((), running_stats.init(()))
    reward = normalize.update(start, steps, jnp.zeros(1), 0.9)[2]
    np.testing.assert_array_equal(reward, [[0.5]])


def test_a_layer_of_one_feature_is_not_normalised():
    for sizes in ((1,), (8, 1), (1, 8)):
        with pytest.raises(ValueError, match=r"hidden_sizes=.*layer_norm=True: .*wider layers"):
            ppo.Config(hidden_sizes=sizes, layer_norm=True)
        assert ppo.Config(hidden_sizes=sizes).hidden_sizes == sizes
    assert BaseConfig(hidden_sizes=(2,), layer_norm=True).layer_norm


def test_other_statistics_of_one_row_are_finite():
    one = jnp.array([1.5])
    assert losses.explained_variance(one, one + 1.0) == 0.0
    eta = reps.temperature(one, 0.1)
    np.testing.assert_allclose(reps.log_weights(one, eta), [0.0], atol=1e-5)


@pytest.mark.parametrize("reward", [1.0, -1e4, 1e-3, 0.0])
def test_rewards_stay_as_they_are_while_all_returns_are_alike(reward):
    """One step of each environment; equal numbers have no spread, but for rounding."""
    zeros = jnp.zeros((1, 7), bool)
    rewards = jnp.full((1, 7), reward)
    steps = Transition((), (), (), rewards, zeros, zeros, jnp.zeros((1, 7)))
    fresh = normalize.Normalizer((), running_stats.init(()))
    _, _, normalized = normalize.update(fresh, steps, jnp.zeros(7), 0.9)
    np.testing.assert_array_equal(normalized, rewards)


def test_a_spread_of_small_rewards_counts():
    """1e-5 times 0, 1, 2, 3: far from alike, although the variance is next to nothing."""
    stats = running_stats.moments(1e-5 * jnp.arange(4.0), 1)
    np.testing.assert_array_equal(running_stats.spread(stats), running_stats.std(stats))
