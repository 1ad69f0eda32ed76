"""Learned multipliers: the loss by hand, and where they come to rest.

The loss of normals is compared with rlax's by tests/agents/test_kin.py, inside V-MPO's and MPO's.
"""

import math

import jax
import jax.numpy as jnp
from numpy.testing import assert_allclose

from jaxrl_pg.components import trust
from jaxrl_pg.ops.distributions import CATEGORICAL, DIAGONAL_NORMAL, Normal

FIELDS = trust.ConstraintFields(trust="multipliers", max_kl=0.02, max_kl_std=0.3)


def test_the_loss_of_a_finite_set_by_hand():
    # KL((1/2, 1/2) || (1/4, 3/4)) = log 2 / 2 - log(3/2) / 2 = 0.143841. With m = 2 and bound 0.02
    # the loss is 2 x KL + 2 (0.02 - KL) = 0.04, its slope in l is 2 (0.02 - KL) = -0.247682.
    old, new = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.25, 0.75]]))
    log_m = jnp.log(jnp.array([2.0]))

    def loss(new, log_m):
        return trust.holding_loss(FIELDS, CATEGORICAL.kl, old, new, log_m)

    value, (of_policy, of_log) = jax.value_and_grad(loss, (0, 1))(new, log_m)
    divergence = 0.5 * math.log(2.0) - 0.5 * math.log(1.5)
    assert_allclose(value, 0.04, rtol=1e-5)
    assert_allclose(of_log, [2.0 * (0.02 - divergence)], rtol=1e-5)
    # Of the policy's logits it is m (pi - pi_old) = 2 (-1/4, 1/4).
    assert_allclose(of_policy, [[-0.5, 0.5]], rtol=1e-5)


def test_multipliers_come_to_rest_where_the_divergence_is_its_bound():
    """A normal pulled along its mean by a slope of 1: KL x^2 / 2 = 0.02 at x = 0.2, m = 1 / 0.2."""
    old = Normal(jnp.zeros((1, 1)), jnp.zeros((1, 1)))

    def loss(params):
        x, log_m = params
        held = trust.holding_loss(
            FIELDS, DIAGONAL_NORMAL.kl, old, old._replace(mean=x[None, None]), log_m
        )
        return held - x

    def step(params, _):
        grads = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.03 * g, params, grads), None

    start = (jnp.zeros(()), *trust.start(FIELDS, discrete=False))
    (x, log_m), _ = jax.lax.scan(step, start, None, 20_000)
    assert_allclose(x, 0.2, rtol=1e-3)
    assert_allclose(jnp.exp(log_m[0]), 5.0, rtol=1e-3)
    assert float(log_m[1]) < -5.0  # the spread never moves, and needs no weight


def test_without_multipliers_there_are_none():
    assert trust.start(trust.ConstraintFields(), discrete=True) == ()
    assert trust.report(()) == {}
    two = trust.start(FIELDS, discrete=False)
    assert set(trust.report(two)) == {"policy/kl_coef", "policy/kl_coef_std"}
    assert set(trust.report(trust.start(FIELDS, discrete=True))) == {"policy/kl_coef"}
