"""Losses: worked numbers, gradients, identities, and rlax."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.ops import losses

CLIPPED = jax.jit(losses.clipped_surrogate_loss)
CLIPPED_GRAD = jax.jit(jax.value_and_grad(losses.clipped_surrogate_loss))
SURROGATE = jax.jit(losses.surrogate_loss)
SURROGATE_GRAD = jax.jit(jax.value_and_grad(losses.surrogate_loss))
CLIPPED_VALUE = jax.jit(losses.clipped_value_loss)
VALUE_LOSS = jax.jit(losses.value_loss)
APPROX_KL = jax.jit(losses.approx_kl)
TURNED_KL = jax.jit(partial(losses.approx_kl, direction="new_old"))
CLIP_FRACTION = jax.jit(losses.clip_fraction)
EXPLAINED = jax.jit(losses.explained_variance)


def floats(*numbers):
    return np.array(numbers, np.float32)


LOG_RATIO = np.log(floats(0.5, 0.9, 1.1, 1.5))


@partial(jax.jit, static_argnums=0)
def one_by_one(loss, *columns):
    """The loss of each sample alone."""
    return jax.vmap(loss)(*(x[:, None] for x in columns))


def clipped(log_ratio, advantage):
    return losses.clipped_surrogate_loss(log_ratio, advantage, 0.2)


def clipped_value(value, old_value, target):
    return losses.clipped_value_loss(value, old_value, target, 0.2)


def random_batch(seed, scale=0.3):
    first, second = np.random.default_rng(seed).normal(size=(2, 64))
    return np.float32(scale * first), np.float32(second)


# --- policy losses ------------------------------------------------------------------------------

# clip .2, band [.8, 1.2]; the objective is min(ratio A, clip(ratio) A):
#   ratio .5, A  1: min(.5, .8) = .5        A -1: min(-.5, -.8) = -.8
#   ratio .9, A -1: -.9 (inside)            A -1: -.9
#   ratio 1.1, A 1: 1.1 (inside)            A -1: -1.1
#   ratio 1.5, A 1: min(1.5, 1.2) = 1.2     A -1: min(-1.5, -1.2) = -1.5


@pytest.mark.parametrize(
    ("advantage", "objective"),
    [
        ((1.0, -1.0, 1.0, 1.0), (0.5, -0.9, 1.1, 1.2)),
        ((-1.0, -1.0, -1.0, -1.0), (-0.8, -0.9, -1.1, -1.5)),
    ],
)
def test_clipped_surrogate_worked(advantage, objective):
    advantage = floats(*advantage)
    assert_allclose(-one_by_one(clipped, LOG_RATIO, advantage), objective, rtol=1e-6)
    assert_allclose(CLIPPED(LOG_RATIO, advantage, 0.2), -np.mean(objective), rtol=1e-6)


def test_surrogate_worked():
    # -(.5*1 + .9*-2 + 1.1*3 + 1.5*-1) / 4 = -.5 / 4
    loss = SURROGATE(LOG_RATIO, floats(1.0, -2.0, 3.0, -1.0))
    assert_allclose(loss, -0.125, rtol=1e-5)


def test_the_clip_stops_gradients_only_where_the_objective_would_gain():
    # d/d(log ratio) of -ratio A is -ratio A, or 0 where the clipped branch is the smaller one:
    # beyond 1.2 with A > 0, below .8 with A < 0. On the other sides the way back stays open.
    ratio = floats(0.5, 0.5, 1.0, 1.0, 1.5, 1.5)
    advantage = floats(1.0, -1.0, 1.0, -1.0, 1.0, -1.0)
    _, gradient = CLIPPED_GRAD(np.log(ratio), advantage, 0.2)
    assert_allclose(6 * gradient, [-0.5, 0.0, -1.0, 1.0, 0.0, 1.5], rtol=1e-6)


def test_at_ratio_one_the_clip_changes_neither_loss_nor_gradient():
    _, advantage = random_batch(0)
    log_ratio = np.zeros_like(advantage)
    surrogate, gradient = SURROGATE_GRAD(log_ratio, advantage)
    loss, clipped_gradient = CLIPPED_GRAD(log_ratio, advantage, 0.2)
    assert_allclose(surrogate, -advantage.mean(), rtol=1e-5)
    assert_allclose(loss, surrogate, rtol=1e-6)
    assert_allclose(gradient, -advantage / advantage.size, rtol=1e-6)
    assert_allclose(clipped_gradient, gradient, rtol=1e-6)


def test_the_clipped_objective_is_never_the_larger():
    log_ratio, advantage = random_batch(1)
    loss = one_by_one(clipped, log_ratio, advantage)
    assert np.all(np.asarray(loss) >= one_by_one(losses.surrogate_loss, log_ratio, advantage))


def test_a_wide_band_clips_nothing():
    log_ratio, advantage = random_batch(2)
    wide, _ = CLIPPED_GRAD(log_ratio, advantage, 1e6)
    assert_allclose(wide, SURROGATE_GRAD(log_ratio, advantage)[0], rtol=1e-6)


def test_clipped_surrogate_against_rlax(rlax):
    log_ratio, advantage = random_batch(3)

    def loss(x, clip_eps):
        return rlax.clipped_surrogate_pg_loss(jnp.exp(x), advantage, clip_eps)

    oracle = jax.jit(jax.value_and_grad(loss))
    for clip_eps in (0.1, 0.2, 0.5):
        want, want_gradient = oracle(log_ratio, clip_eps)
        got, gradient = CLIPPED_GRAD(log_ratio, advantage, clip_eps)
        assert_allclose(got, want, rtol=1e-5)
        assert_allclose(gradient, want_gradient, rtol=1e-5, atol=1e-7)


def test_any_one_shape_will_do_and_no_two():
    log_ratio, advantage = random_batch(4)
    square = CLIPPED(log_ratio.reshape(8, 8), advantage.reshape(8, 8), 0.2)
    assert_allclose(square, CLIPPED_GRAD(log_ratio, advantage, 0.2)[0], rtol=1e-5)
    for loss in (losses.surrogate_loss, clipped, losses.value_loss):
        with pytest.raises(AssertionError):
            loss(log_ratio, advantage[:1])
    with pytest.raises(AssertionError):
        losses.clipped_value_loss(log_ratio, log_ratio[:1], advantage, 0.2)


def test_leave_one_out_ratio_worked():
    # Without the first: (2 + 6) / (1 + 3) = 2; without the second: (8 + 6) / (4 + 3) = 2;
    # without the third: (8 + 2) / (4 + 1) = 2. Then with 1e8 in place of 8:
    result = losses.leave_one_out_ratio(jnp.array([8.0, 2, 6]), jnp.array([4.0, 1, 3]))
    assert_allclose(result, [2.0, 2.0, 2.0])
    result = losses.leave_one_out_ratio(jnp.array([1e8, 2, 6]), jnp.array([1e8, 1, 3]))
    assert_allclose(result[0], 2.0)  # what is left out leaves no rounding behind
    assert_allclose(losses.leave_one_out_ratio(jnp.ones(2), jnp.array([0.0, 1]))[1], 0.0)
    # On a second axis each column by itself.
    columns = losses.leave_one_out_ratio(
        jnp.array([[8.0, 1], [2, 0], [6, 3]]), jnp.array([[4.0, 2], [1, 0], [3, 0]])
    )
    assert_allclose(columns, [[8 / 4, 0.0], [14 / 7, 4 / 2], [10 / 5, 1 / 2]])


# --- value losses -------------------------------------------------------------------------------


def test_value_loss_worked():
    # ((1 - 2)^2 + (3 - 0)^2) / 2 samples / 2 = 2.5
    assert_allclose(VALUE_LOSS(floats(1.0, 3.0), floats(2.0, 0.0)), 2.5)


# eps .2 around V_old = 1:
#   V 1.5, target 2: clipped to 1.2; max(.5^2, .8^2) = .64, no gradient
#   V  .5, target 2: clipped to  .8; max(1.5^2, 1.2^2) = 2.25, gradient V - target = -1.5
#   V 1.1, target 1: inside; .1^2 = .01, gradient .1
#   V  .5, target 0: clipped to  .8; max(.5^2, .8^2) = .64, no gradient
VALUE, OLD_VALUE, TARGET = floats(1.5, 0.5, 1.1, 0.5), floats(1, 1, 1, 1), floats(2, 2, 1, 0)
CLIPPED_ERROR = np.array([0.64, 2.25, 0.01, 0.64])


def test_clipped_value_loss_worked():
    each = one_by_one(clipped_value, VALUE, OLD_VALUE, TARGET)
    assert_allclose(each, CLIPPED_ERROR / 2, rtol=1e-5)
    loss, gradient = jax.jit(jax.value_and_grad(clipped_value))(VALUE, OLD_VALUE, TARGET)
    assert_allclose(loss, CLIPPED_ERROR.mean() / 2, rtol=1e-6)
    assert_allclose(4 * gradient, [0.0, -1.5, 0.1, 0.0], rtol=1e-5, atol=1e-7)


def test_clipping_never_lowers_the_value_loss_and_a_wide_band_does_nothing():
    value, target = random_batch(5, scale=1.0)
    old_value, _ = random_batch(6, scale=1.0)
    plain = np.asarray(one_by_one(losses.value_loss, value, target))
    assert np.all(np.asarray(one_by_one(clipped_value, value, old_value, target)) >= plain)
    assert_allclose(CLIPPED_VALUE(value, old_value, target, 1e6), plain.mean(), rtol=1e-5)


# --- diagnostics --------------------------------------------------------------------------------


def test_approx_kl_worked():
    # ratio 2: 2 - 1 - log 2 = .30685; ratio 1/2: 1/2 - 1 + log 2 = .19315; mean .25
    log_ratio = np.log(floats(2.0, 0.5))
    assert_allclose(one_by_one(losses.approx_kl, log_ratio), [0.30685282, 0.19314718], rtol=1e-5)
    assert_allclose(APPROX_KL(log_ratio), 0.25, rtol=1e-6)


def test_approx_kl_is_unbiased():
    # Its expectation over the old policy, by enumeration, is KL(old || new).
    old, new = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    each = one_by_one(losses.approx_kl, np.float32(np.log(new / old)))
    assert_allclose(np.sum(old * each), np.sum(old * np.log(old / new)), rtol=1e-5)


def test_approx_kl_of_the_new_policy_from_the_old_worked():
    # ratio 2: 2 log 2 - 1 = .38629; ratio 1/2: -log(2)/2 + 1/2 = .15343; mean log(2) 3/4 - 1/4
    each = one_by_one(TURNED_KL, np.log(floats(2.0, 0.5)))
    assert_allclose(each, [0.38629436, 0.15342641], rtol=1e-5)
    assert_allclose(TURNED_KL(np.log(floats(2.0, 0.5))), 0.26986039, rtol=1e-6)


def test_either_kl_is_unbiased_for_normals():
    """Expectations over N(0, 1) by Gauss-Hermite quadrature, new policy N(.3, .8^2).

    KL(old || new) = log .8 + (1 + .09) / (2 * .64) - 1/2 = .128419,
    KL(new || old) = -log .8 + (.64 + .09) / 2 - 1/2 = .088144.
    """
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    log_ratio = np.float32(0.5 * node**2 - 0.5 * ((node - 0.3) / 0.8) ** 2 - np.log(0.8))
    weight = weight / weight.sum()
    for loss, expected in ((APPROX_KL, 0.128419), (TURNED_KL, 0.088144)):
        assert_allclose(weight @ np.asarray(one_by_one(loss, log_ratio)), expected, rtol=1e-4)


def test_approx_kl_of_the_new_policy_from_the_old_is_unbiased_and_bounded_below():
    old, new = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    each = one_by_one(TURNED_KL, np.float32(np.log(new / old)))
    assert_allclose(np.sum(old * each), np.sum(new * np.log(new / old)), rtol=1e-5)
    # An action that is given up adds its old probability, and no gradient that is not a number.
    gone = floats(-200.0, -1e9, -np.inf)
    assert_allclose(one_by_one(TURNED_KL, gone), [1.0, 1.0, 1.0])
    assert_allclose(jax.jit(jax.grad(TURNED_KL))(gone), [0.0, 0.0, 0.0], atol=1e-30)
    # Its slope in log ratio is ratio log ratio.
    x = floats(0.7, -0.4)
    assert_allclose(jax.jit(jax.grad(TURNED_KL))(x), np.exp(x) * x / 2, rtol=1e-5)
    x = np.array([1e-4, -1e-4, 1e-3, -1e-3])  # x^2/2 + x^3/3 close to 0
    each = one_by_one(TURNED_KL, np.float32(x))
    assert_allclose(each, x**2 / 2 + x**3 / 3, rtol=2e-3)


def test_approx_kl_keeps_its_digits_when_the_policies_are_close():
    # x^2/2 + x^3/6 for small x; exp(x) - 1 - x in float32 is wrong by a tenth and more.
    x = np.array([1e-4, -1e-4, 1e-3, -1e-3])
    each = one_by_one(losses.approx_kl, np.float32(x))
    assert_allclose(each, x**2 / 2 + x**3 / 6, rtol=2e-3)


def test_approx_kl_is_zero_for_equal_policies_and_never_negative():
    sizes = np.geomspace(1e-9, 3.0, 500)
    x = np.float32(np.concatenate([[0.0], sizes, -10 * sizes]))
    each = np.asarray(one_by_one(losses.approx_kl, x))
    assert each[0] == 0
    assert np.all(each >= 0)


def test_clip_fraction_worked():
    # .5 and 1.5 lie outside [.8, 1.2], none outside [.45, 1.55], all outside [.95, 1.05].
    for clip_eps, share in ((0.2, 0.5), (0.55, 0.0), (0.05, 1.0)):
        assert CLIP_FRACTION(LOG_RATIO, clip_eps) == share
    # The band is of ratios, not of their logarithms: .22 holds .8 but not 1/.8 = 1.25.
    assert CLIP_FRACTION(np.log(floats(1.25, 0.8, 1.0, 1.0)), 0.22) == 0.25


def test_explained_variance_worked():
    # target 1, 2, 3, 4: variance 1.25; residuals 0, 0, 0, 1: variance 3/16; 1 - .1875/1.25 = .85
    explained = EXPLAINED(floats(1, 2, 3, 3), floats(1, 2, 3, 4))
    assert_allclose(explained, 0.85, rtol=1e-6)


def test_explained_variance_at_its_landmarks():
    _, target = random_batch(7)
    assert_allclose(EXPLAINED(target, target), 1.0)
    assert_allclose(EXPLAINED(target + np.float32(3), target), 1.0, atol=1e-6)  # only an offset
    assert_allclose(EXPLAINED(0 * target, target), 0.0, atol=1e-6)
    assert_allclose(EXPLAINED(-target, target), -3.0, rtol=1e-5)  # 1 - Var(2 target)/Var(target)
    assert EXPLAINED(target, np.ones_like(target)) == 0


@pytest.mark.parametrize("constant", [0.1, 3.3, 99.9])
def test_a_constant_target_whose_mean_rounds_explains_nothing(constant):
    value = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert losses.explained_variance(value, np.full(1000, constant, np.float32)) == 0


def test_explained_variance_has_no_unit():
    target = np.float32(1e-7) * np.random.default_rng(0).normal(size=100).astype(np.float32)
    got = losses.explained_variance(np.zeros(100, np.float32), target)
    np.testing.assert_allclose(got, 0.0, atol=1e-3)


# --- gradient TD --------------------------------------------------------------------------------


def test_the_steps_of_gradient_td_worked():
    """V = w x, h = u y, v = V + rho (r + gamma w x' - V), of two samples.

    w = .5; x = 1, 2; x' = 3, -1; r = 1, 0; rho = 2, .5; gamma = .5: V = .5, 1; V' = 1.5, -.5
      e = 2 (1 + .75 - .5) = 2.5        and .5 (-.25 - 1) = -.625
      grad v = (1 - rho) x + rho gamma x' = -1 + 3 = 2   and 1 - .25 = .75
    u = .2; y = 1, 3: h = .2, .6
      step of w: mean(2.5 * 1 - .2 * 2, -.625 * 2 - .6 * .75) = mean(2.1, -1.7) = .2
      step of u: mean((2.5 - .2) * 1, (-.625 - .6) * 3) = mean(2.3, -3.675) = -.6875
    """
    x, after, y = jnp.array([1.0, 2.0]), jnp.array([3.0, -1.0]), jnp.array([1.0, 3.0])
    rho, reward = jnp.array([2.0, 0.5]), jnp.array([1.0, 0.0])

    def loss(w, u):
        value = w * x
        target = value + rho * (reward + 0.5 * w * after - value)
        return losses.gradient_td_loss(value, target, u * y)

    steps = jax.grad(loss, (0, 1))(0.5, 0.2)
    np.testing.assert_allclose(-np.asarray(steps), [0.2, -0.6875], rtol=1e-6)
    # With h = 0 the step of w is that of the value loss: mean(2.5, -1.25).
    np.testing.assert_allclose(-jax.grad(loss)(0.5, 0.0), 0.625, rtol=1e-6)


def test_gradient_td_converges_where_td_diverges():
    """Values w and 2 w, and only steps from the first state to the second (S. & B., 11.2).

    At gamma = .9 and rate a TD's step is w += a (2 * .9 - 1) w = .8 a w, for ever upwards. Gradient
    TD's is (w, u) += a [[.8, -1.8], [.8, -1]] (w, u), of trace -.2 a and determinant .64 a^2.
    """

    def td(x):
        return losses.value_loss(x[0], jax.lax.stop_gradient(0.9 * 2.0 * x[0]))

    def gradient_td(x):
        return losses.gradient_td_loss(x[0], 0.9 * 2.0 * x[0], x[1])

    def run(loss, steps):
        step = jax.grad(loss)
        start = jnp.array([1.0, 0.0])
        return jax.lax.fori_loop(0, steps, lambda _, x: x - 0.1 * step(x), start)

    np.testing.assert_allclose(jax.grad(gradient_td)(jnp.array([1.0, 0.5])), [0.1, -0.3], atol=1e-6)
    run = jax.jit(run, static_argnums=(0, 1))
    np.testing.assert_allclose(run(td, 300)[0], 1.08**300, rtol=1e-3)
    # Eigenvalues of modulus sqrt(.9864) at rate .1: 1.1e-6 of the start is left after 2000 steps.
    assert np.abs(run(gradient_td, 2000)).max() < 1e-5
