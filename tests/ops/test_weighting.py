"""Weights of the update and of its kin: worked numbers, rlax, duals solved by scipy, devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, special

from jaxrl_pg.ops import closed_form, collectives, weighting

LOG3 = math.log(3.0)
KINDS = ["exp", "top_half", "clipped", "binary"]


def weights(kind, advantage, constant, clip=20.0):
    return np.exp(weighting.log_weights(kind, jnp.asarray(advantage), constant, clip))


# Of A = (-log 3, 0, log 3, 2 log 3) at C = 1, f is (1/3, 1, 3, 9) for exp, with mean 10/3; with
# (0, 0, 3, 9) for the top half, mean 3; (1/3, 1, 3, 3) for a clip of 3, mean 11/6; (0, 0, 1, 1).
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("exp", [0.1, 0.3, 0.9, 2.7]),
        ("top_half", [0.0, 0.0, 1.0, 3.0]),
        ("clipped", [2 / 11, 6 / 11, 18 / 11, 18 / 11]),
        ("binary", [0.0, 0.0, 2.0, 2.0]),
    ],
)
def test_weights_by_hand(kind, expected):
    advantage = np.float32([-LOG3, 0.0, LOG3, 2.0 * LOG3])
    assert_allclose(weights(kind, advantage, 1.0, 3.0), expected, rtol=1e-5)
    # In other units of reward, and in another order.
    order = [2, 0, 3, 1]
    found = weights(kind, 1000.0 * advantage[order], 1000.0, 3.0)
    assert_allclose(found, np.array(expected)[order], rtol=1e-4)


def test_of_equal_advantages_all_are_in_the_top_half_and_none_is_positive():
    for kind in KINDS:
        assert_allclose(weights(kind, jnp.zeros(5), 1e-12), np.ones(5), rtol=1e-6)
    # An odd number keeps the smaller half, as rlax does: 2 of 5, and a tie keeps both.
    kept = weights("top_half", [4.0, 1.0, 2.0, 3.0, 0.0], 1.0) > 0
    assert_array_equal(kept, [True, False, False, True, False])
    kept = weights("top_half", [4.0, 1.0, 3.0, 3.0, 0.0], 1.0) > 0
    assert_array_equal(kept, [True, False, True, True, False])
    assert weights("top_half", [2.0], 1.0) == 1.0


def test_an_unknown_kind_is_a_fault_of_the_caller():
    with pytest.raises(AssertionError, match="half"):
        weighting.log_factors("half", jnp.zeros(2), 1.0)


@pytest.mark.parametrize("kind", ["exp", "top_half"])
def test_the_solved_constant_minimises_the_dual_by_scipy(kind):
    """`step_size="kl"` is the temperature that V-MPO and MPO descend to: the dual's minimum."""
    advantage = np.random.default_rng(0).normal(scale=3.0, size=41)
    kept = np.sort(advantage)[-20:] if kind == "top_half" else advantage
    for kl_target in (0.01, 0.3):

        def dual(log_eta, kl_target=kl_target):
            eta = math.exp(log_eta)
            log_mean = special.logsumexp(kept / eta) - math.log(kept.size)
            return eta * kl_target + eta * log_mean

        best = optimize.minimize_scalar(dual, bounds=(-3.0, 6.0), method="bounded")
        scale = jnp.max(jnp.abs(advantage))
        found = weighting.constant(kind, jnp.asarray(advantage, jnp.float32), kl_target, scale)
        # The dual is flat at its minimum: its argument is known to the root of its precision.
        assert_allclose(math.log(found), best.x, atol=2e-3)


def test_the_constant_of_a_batch_of_states_minimises_the_dual_of_mpo_by_scipy():
    rng = np.random.default_rng(1)
    q = rng.normal(scale=2.0, size=(6, 8))
    prior = np.full((6, 8), -math.log(8.0))

    def dual(log_eta):
        eta = math.exp(log_eta)
        return eta * 0.1 + eta * np.mean(special.logsumexp(q / eta + prior, axis=1))

    best = optimize.minimize_scalar(dual, bounds=(-3.0, 6.0), method="bounded")
    arrays = (jnp.asarray(x, jnp.float32) for x in (prior, q))
    found = closed_form.constant_for_target(*arrays, 0.1, jnp.float32(5.0))
    assert_allclose(math.log(found), best.x, atol=2e-3)


@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_weights_and_dual_against_rlax(rlax, fraction):
    """Ties at the median among them; at the solved constant the dual has no slope."""
    advantage = jnp.asarray(np.random.default_rng(2).normal(size=40).round(1), jnp.float32)
    kind = "top_half" if fraction == 0.5 else "exp"
    constant = weighting.constant(kind, advantage, 0.05, jnp.max(jnp.abs(advantage)))

    def e_step(temperature):
        penalty = rlax.LagrangePenalty(temperature, 0.05)
        free = (jnp.zeros(40), rlax.LagrangePenalty(jnp.ones(()), 1.0))
        _, out = rlax.vmpo_loss(jnp.zeros(40), advantage, penalty, [free], top_k_fraction=fraction)
        return out.temperature_loss, out.normalized_weights

    (_, expected), slope = jax.value_and_grad(e_step, has_aux=True)(constant)
    assert_allclose(weights(kind, advantage, constant), 40.0 * expected, rtol=1e-4, atol=1e-7)
    assert abs(float(slope)) < 1e-4
    assert abs(float(jax.grad(lambda c: e_step(c)[0])(2.0 * constant))) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_on_two_devices_is_one_batch(kind):
    """The second device has none of the larger half, and nothing positive."""
    rng = np.random.default_rng(3)
    advantage = jnp.asarray(np.r_[rng.uniform(0, 3, 10), rng.uniform(-3, 0, 10)], jnp.float32)
    scale = jnp.float32(3.0)

    def both(advantage):
        constant = weighting.constant(kind, advantage, 0.1, scale)
        return constant, weighting.log_weights(kind, advantage, constant)

    constant, whole = both(advantage)
    split = jax.vmap(both, axis_name=collectives.AXIS)(advantage.reshape(2, 10))
    assert_allclose(split[0], jnp.full(2, constant), rtol=1e-4)
    assert_allclose(np.exp(split[1].ravel()), np.exp(whole), rtol=2e-4, atol=1e-7)
    assert_allclose(np.mean(np.exp(whole)), 1.0, rtol=1e-5)
    if kind in ("top_half", "binary"):
        assert_array_equal(np.exp(whole[10:]), np.zeros(10))
