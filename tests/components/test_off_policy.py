"""Raw actions out of a policy's parameters: logits, normals before tanh, a clipped one."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.components import off_policy
from jaxrl_pg.ops import distributions, full_normal

NORMAL = distributions.Normal(jnp.array([[0.5, -1.0]]), jnp.log(jnp.array([[2.0, 0.5]])))


def test_logits_are_sampled_by_a_uniform_and_their_mode_is_the_largest():
    # p = .2, .3, .5: partial sums .2, .5, 1
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.3, 0.5])), (3, 3))
    action = off_policy.sample(logits, jnp.array([0.1, 0.4, 0.9]))
    assert_array_equal(action, [0, 1, 2])
    assert action.dtype == jnp.int32
    assert_array_equal(off_policy.mode(logits), [2, 2, 2])


def test_normals_are_sampled_before_tanh_and_their_mode_is_tanh_of_the_mean():
    # u = (.5 + 2 * .25, -1 + .5 * 2) = (1, 0)
    action = off_policy.sample(NORMAL, jnp.array([[0.25, 2.0]]))
    assert_allclose(action, [[np.tanh(1.0), 0.0]], rtol=1e-6)
    assert_allclose(off_policy.mode(NORMAL), np.tanh([[0.5, -1.0]]), rtol=1e-6)


def test_a_full_normal_mixes_its_noise_before_tanh():
    # Scales (2, 1/2) and N21 = 3: u = (.5 + 2 * .25, -1 + .5 * (2 + 3 * .25)) = (1, .375)
    full = full_normal.make(NORMAL.mean, NORMAL.log_std, jnp.array([[3.0]]))
    action = off_policy.sample(full, jnp.array([[0.25, 2.0]]))
    assert_allclose(action, np.tanh([[1.0, 0.375]]), rtol=1e-6)
    assert_allclose(off_policy.mode(full), np.tanh([[0.5, -1.0]]), rtol=1e-6)


def test_a_deterministic_action_gets_noise_and_is_clipped_and_its_mode_has_none():
    # .5 + .2 * 1 = .7 and -.9 - .2 * 2 = -1.3
    clipped = distributions.ClippedNormal(jnp.array([[0.5, -0.9]]), 0.2)
    action = off_policy.sample(clipped, jnp.array([[1.0, -2.0]]))
    assert_allclose(action, [[0.7, -1.0]], rtol=1e-6)
    assert_array_equal(off_policy.mode(clipped), clipped.mean)


def test_actions_stay_within_the_box_whatever_the_noise():
    far = distributions.Normal(jnp.full((4, 1), 1e6), jnp.full((4, 1), 9.0))
    noise = jax.random.normal(jax.random.key(0), (4, 1))
    assert np.all(np.abs(off_policy.sample(far, noise)) <= 1.0)
