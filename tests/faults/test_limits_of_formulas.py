"""Where 0 meets infinity, formulas have their limits, and gradients are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.ops import closed_form, losses, soft
from jaxrl_pg.ops.distributions import CATEGORICAL
from jaxrl_pg.theory import builders, mdp, solve
from jaxrl_pg.theory.bounds import improvement_bounds
from jaxrl_pg.theory.learning import bandits
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.theory.updates import neighbours

INF = np.inf


def value_and_slope(function, *args):
    """The value, and the gradients of its sum, all of them finite."""
    value, pull = jax.vjp(function, *args)
    slopes = pull(jnp.ones_like(value))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    return value


def test_a_distribution_with_impossible_actions():
    sure, mixed = jnp.array([-INF, 3.0, -INF]), jnp.array([0.0, 0.0, -INF])
    assert value_and_slope(lambda x: CATEGORICAL.log_prob(x, 1), sure) == 0.0
    assert value_and_slope(lambda x: CATEGORICAL.log_prob(x, 2), mixed) == -INF
    assert value_and_slope(CATEGORICAL.entropy, sure) == 0.0
    assert_allclose(value_and_slope(CATEGORICAL.entropy, mixed), np.log(2.0), rtol=1e-6)
    assert_allclose(value_and_slope(CATEGORICAL.kl, sure, mixed), np.log(2.0), rtol=1e-6)
    assert value_and_slope(CATEGORICAL.kl, mixed, mixed) == 0.0
    assert CATEGORICAL.kl(mixed, sure) == INF


def test_losses_of_ratios_that_overflow():
    log_ratio = jnp.array([200.0, -INF, 200.0, 0.0])
    advantage = jnp.array([0.0, 0.0, 3.0, -1.0])
    clipped = value_and_slope(lambda x: losses.clipped_surrogate_loss(x, advantage, 0.2), log_ratio)
    assert_allclose(clipped, -(3.0 * 1.2 - 1.0) / 4.0, rtol=1e-6)
    none = jnp.zeros(4)
    assert value_and_slope(lambda x: losses.surrogate_loss(x, none), log_ratio) == 0.0
    assert value_and_slope(lambda x: losses.policy_gradient_loss(x, none), log_ratio) == 0.0
    assert closed_form.surrogate_gain(log_ratio, none, 0.9) == 0.0


def test_soft_values_of_actions_that_are_never_taken():
    log_prob = jnp.array([[-INF, 0.0]])
    actions = soft.ActionValues(jnp.exp(log_prob), log_prob, jnp.array([[7.0, 2.0]]))
    assert soft.entropy(actions)[0] == 0.0
    for alpha in (0.0, 0.5):
        assert soft.expected_value(actions, alpha)[0] == 2.0
    assert soft.optimal_value(actions.q, 0.0)[0] == 7.0
    assert np.isfinite(soft.kl_projection_loss(actions, 0.5))


def test_constants_of_no_advantage_leave_the_policy_as_it_is():
    log_policy, none = jnp.log(jnp.array([[0.2, 0.8]])), jnp.zeros((1, 2))
    for constant in (
        closed_form.paper_constant(0.9, 0.0),
        closed_form.proved_constant(0.9, 0.0),
        closed_form.scheduled_constant(1.0, 0.1, 0.5, 0.0),
    ):
        new = closed_form.log_target(log_policy, none, constant)
        assert_allclose(new, log_policy, rtol=1e-6)
        assert closed_form.target_kl(new, log_policy) < 1e-6
        assert_allclose(closed_form.log_weights(none[0], constant), 0.0, atol=1e-6)
    # Without a future the paper's constant is 0, and the best action is taken.
    greedy = closed_form.log_target(log_policy, jnp.array([[2.0, 1.0]]), 1e-12)
    assert_allclose(jnp.exp(greedy), [[1.0, 0.0]])


def test_divergences_of_dropped_actions():
    old = jnp.log(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    new = jnp.log(jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    assert_allclose(closed_form.target_kl(new, old), np.log(2.0) / 2.0, rtol=1e-6)
    assert closed_form.target_kl(old, new) == INF


def test_bounds_without_future_or_advantage_are_zero():
    problem = mdp.make(np.full((2, 2, 2), 0.5), [[1.0, 0.0], [0.0, 2.0]], [0.5, 0.5], 0.0)
    sure, mixed = np.eye(2), np.full((2, 2), 0.5)
    compared = jax.jit(improvement_bounds.compare)(problem, sure, mixed)
    assert np.max(compared.kl) == INF
    assert improvement_bounds.trpo_bound(compared).bound == 0.0
    assert improvement_bounds.paper_bound(compared).bound == 0.0
    assert improvement_bounds.expected_kl_bound(compared).bound == INF
    nothing = compared._replace(gamma=jnp.asarray(0.9), largest_advantage=jnp.asarray(0.0))
    assert improvement_bounds.trpo_bound(nothing).bound == 0.0
    assert improvement_bounds.expected_kl_bound(nothing).bound == 0.0


@pytest.mark.parametrize("num", [1, 3])
def test_a_bandit_with_one_arm_to_pull(num):
    reward, logits = jnp.arange(1.0, 1.0 + num), jnp.full(num, -INF).at[num - 1].set(0.0)
    assert bandits.optimal_baseline(reward, logits) == num
    assert bandits.gradient_variance(reward, logits, 0.0) == 0.0


def test_steps_from_a_deterministic_policy_stay_there():
    lake = builders.chain(3, 0.9)
    log_policy = jnp.log(jnp.eye(2)[jnp.array([0, 1, 1])])
    for step in (
        lambda: neighbours.ppo_step(lake, log_policy, 1.0),
        lambda: neighbours.a2c_step(lake, log_policy, 1.0),
        lambda: neighbours.trust_region_step(lake, log_policy, 0.1),
    ):
        assert_allclose(jnp.exp(step()), jnp.exp(log_policy), atol=1e-6)


def test_temperatures_go_to_zero():
    q = jnp.array([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]])
    for temperature in (0.0, 1e-30):
        assert_allclose(solve.soft_maximum(q, temperature), [3.0, 2.0])
        assert_allclose(soft_values.improve(q, temperature), [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
