"""REPS on a batch: weights, temperature and dual by hand, and its derivatives."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.ops import closed_form, collectives, reps

LOG3 = math.log(3.0)
DELTA = jnp.array([0.3, -1.0, 2.0, 0.1, -0.4, 1.0, 0.0, -2.0])
REWARD = jnp.arange(8.0)


def test_two_steps_by_hand():
    # exp(delta / eta) = (1, 3) at eta = 5 / log 3: weights (1/2, 3/2), KL (log 1/2 + 3 log 3/2) / 4
    # = .130812, log partition log 2, and E(r - delta) = (1 + 2 - 5) / 2 = -1.
    delta, eta = jnp.array([0.0, 5.0]), 5.0 / LOG3
    assert_allclose(jnp.exp(reps.log_weights(delta, eta)), [0.5, 1.5], rtol=1e-6)
    assert_allclose(reps.weights_kl(delta, eta), 0.13081203594, rtol=1e-5)
    assert_allclose(reps.temperature(delta, 0.13081203594), eta, rtol=1e-4)
    result = reps.dual(delta, jnp.array([1.0, 2.0]), eta, 0.2)
    assert_allclose(result, eta * (0.2 + math.log(2.0)) - 1.0, rtol=1e-6)


def test_where_nothing_ends_the_temperature_is_the_constant_of_the_analytical_update():
    eta = reps.temperature(DELTA, 0.2)
    assert_allclose(eta, closed_form.constant_for_weights(DELTA, 0.2, jnp.asarray(2.0)), rtol=1e-6)
    want = closed_form.log_weights(DELTA, eta)
    assert_allclose(reps.log_weights(DELTA, eta), want, rtol=1e-6, atol=1e-6)


def test_an_absorbed_visit_is_a_row_without_reward_or_error():
    # One of four steps terminates; at gamma 4/5 four visits follow it: as many as the batch has.
    terminated = jnp.array([False, True, False, False])
    absorbed = reps.absorbed_mass(terminated, 0.8)
    assert_allclose(absorbed, 1.0, rtol=1e-6)
    delta, reward = DELTA[:4], REWARD[:4]
    longer, rewards = (jnp.concatenate([x, jnp.zeros(4)]) for x in (delta, reward))
    for eta in (0.3, 2.0):
        want = reps.log_weights(longer, eta)[:4]
        assert_allclose(reps.log_weights(delta, eta, absorbed), want, rtol=1e-5, atol=1e-6)
        want = reps.weights_kl(longer, eta)
        assert_allclose(reps.weights_kl(delta, eta, absorbed), want, rtol=1e-5)
        want = reps.dual(longer, rewards, eta, 0.1)
        assert_allclose(reps.dual(delta, reward, eta, 0.1, absorbed), want, rtol=1e-5)
    want = reps.temperature(longer, 0.1)
    assert_allclose(reps.temperature(delta, 0.1, absorbed), want, rtol=1e-4)
    assert_allclose(reps.absorbed_mass(terminated, 1.0), 0.25e6, rtol=1e-3)  # and finite


@pytest.mark.parametrize("absorbed", [0.0, 0.7])
def test_derivatives_of_the_dual(absorbed):
    """In delta (w - 1) times the row's share, in eta epsilon - KL: 0 at the temperature."""
    dual = partial(reps.dual, epsilon=0.1, absorbed=absorbed)
    eta = reps.temperature(DELTA, 0.1, absorbed)
    slopes = jax.grad(dual, argnums=(0, 2))(DELTA, REWARD, eta)
    weight = np.exp(reps.log_weights(DELTA, eta, absorbed))
    assert_allclose(slopes[0], (weight - 1.0) / (8.0 * (1.0 + absorbed)), atol=1e-6)
    assert_allclose(slopes[1], 0.0, atol=1e-5)
    at = jax.grad(dual, argnums=2)(DELTA, REWARD, 2.0 * eta)
    assert_allclose(at, 0.1 - reps.weights_kl(DELTA, 2.0 * eta, absorbed), rtol=1e-4)
    assert float(at) > 0.05
    assert all(dual(DELTA, REWARD, c * eta) > dual(DELTA, REWARD, eta) for c in (0.7, 1.4))
    # Never below E_q r: p = q is allowed.
    assert float(dual(DELTA, REWARD, eta)) > 28.0 / (8.0 * (1.0 + absorbed))


def test_a_batch_on_two_devices_is_one_batch():
    def all_of(delta, terminated):
        absorbed = reps.absorbed_mass(terminated, 0.5)
        eta = reps.temperature(delta, 0.2, absorbed)
        kl = reps.weights_kl(delta, eta, absorbed)
        return (absorbed, eta, kl), reps.log_weights(delta, eta, absorbed)

    terminated = jnp.arange(8) < 3
    whole, weights = all_of(DELTA, terminated)
    rows = [x.reshape(2, 4) for x in (DELTA, terminated)]
    halves, split = jax.vmap(all_of, axis_name=collectives.AXIS)(*rows)
    for one, two in zip(whole, halves, strict=True):
        assert_allclose(two, jnp.full(2, one), rtol=1e-4)
    assert_allclose(split.reshape(8), weights, rtol=1e-3, atol=1e-4)
