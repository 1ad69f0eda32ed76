"""The closed-form update: worked numbers, plain loops, scipy, and the exact theory."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import special

from jaxrl_pg.ops import closed_form, collectives
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory.bounds import improvement_bounds
from jaxrl_pg.theory.probability import kl_divergence
from jaxrl_pg.theory.updates import analytical, constants


def table(seed, num=5, actions=3, scale=2.0):
    """Log-probabilities and advantages `[num, actions]` with mean 0 under them."""
    rng = np.random.default_rng(seed)
    log_policy = special.log_softmax(rng.normal(size=(num, actions)), axis=1)
    q = rng.normal(scale=scale, size=(num, actions))
    return log_policy, q - np.sum(np.exp(log_policy) * q, axis=1, keepdims=True)


# --- the update -----------------------------------------------------------------------------------


def test_the_target_worked():
    # pi = (1/2, 1/2), A / C = (log 3, 0): weights 3/2 and 1/2, Z = 2, so (3/4, 1/4).
    # pi = (1/4, 3/4), A / C = (log 3, 0): 3/4 and 3/4, so (1/2, 1/2).
    policy = jnp.array([[0.5, 0.5], [0.25, 0.75]])
    advantage = 7.0 * jnp.array([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    result = jnp.exp(closed_form.log_target(jnp.log(policy), advantage, 7.0))
    assert_allclose(result, [[0.75, 0.25], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("constant", [0.05, 1.0, 300.0])
def test_the_target_is_the_theorys_update_and_q_does_as_well_as_the_advantage(constant):
    with jax.enable_x64(True):
        log_policy, advantage = map(jnp.asarray, table(0))
        exact = analytical.analytical_update(log_policy, advantage, constant).log_policy
        assert_allclose(closed_form.log_target(log_policy, advantage, constant), exact, atol=1e-12)
        q = advantage + jnp.arange(5.0)[:, None]
        assert_allclose(closed_form.log_target(log_policy, q, constant), exact, atol=1e-11)
        assert_allclose(
            closed_form.target_kl(exact, log_policy),
            jnp.mean(kl_divergence(exact, log_policy)),
            rtol=1e-10,
        )


def test_weights_worked_and_their_divergence():
    # A / C = (0, log 3): exp is (1, 3) with mean 2, so w = (1/2, 3/2), and
    # mean(w log w) = (log(1/2) / 2 + 3 log(3/2) / 2) / 2 = 0.130812.
    log_weight = closed_form.log_weights(jnp.array([0.0, 2.0 * math.log(3.0)]), 2.0)
    assert_allclose(jnp.exp(log_weight), [0.5, 1.5], rtol=1e-6)
    assert_allclose(closed_form.weights_kl(log_weight), 0.13081203594, rtol=1e-5)
    # A constant of all advantages changes nothing, and none is too large for exp.
    far = closed_form.log_weights(jnp.array([3000.0, 3000.0 + 2.0 * math.log(3.0)]), 2.0)
    assert_allclose(jnp.exp(far), [0.5, 1.5], rtol=1e-3)


def test_weights_by_a_loop():
    advantage = np.random.default_rng(1).normal(scale=3.0, size=40)
    result = closed_form.log_weights(jnp.asarray(advantage, jnp.float32), 1.7)
    total = sum(math.exp(a / 1.7) for a in advantage)
    weights = [40.0 * math.exp(a / 1.7) / total for a in advantage]
    assert_allclose(jnp.exp(result), weights, rtol=1e-5)
    loop = sum(w * math.log(w) for w in weights) / 40.0
    assert_allclose(closed_form.weights_kl(result), loop, rtol=1e-5)


def test_a_tiny_divergence_keeps_its_digits_in_single_precision():
    # For A / C = (-x, x) the KL is x tanh(x) - log cosh(x) = x^2/2 - x^4/4 + ...
    log_weight = closed_form.log_weights(jnp.array([-1e-3, 1e-3]), 1.0)
    assert_allclose(closed_form.weights_kl(log_weight), 0.5e-6, rtol=1e-3)


# --- the constant ---------------------------------------------------------------------------------


def test_the_constant_for_a_divergence_worked():
    # Weights (1/2, 3/2) of advantages (0, 1) are those of C = 1 / log 3 = 0.910239.
    solved = closed_form.constant_for_weights(jnp.array([0.0, 1.0]), 0.13081203594, jnp.ones(()))
    assert_allclose(solved, 1.0 / math.log(3.0), rtol=2e-4)


@pytest.mark.parametrize("kl_target", [1e-4, 0.03, 1.0])
def test_the_solved_constant_meets_its_target_at_any_scale(kl_target):
    advantage = jnp.asarray(np.random.default_rng(2).standard_t(3, size=200), jnp.float32)
    sizes = jnp.array([1e-3, 1.0, 1e4])
    solve_all = jax.vmap(closed_form.constant_for_weights, (0, None, 0))
    solved = jax.jit(solve_all)(sizes[:, None] * advantage[None], kl_target, sizes)
    assert_allclose(solved / sizes, jnp.full(3, solved[1]), rtol=2e-3)
    for size, constant in zip(sizes, solved, strict=True):
        reached = closed_form.weights_kl(closed_form.log_weights(size * advantage, constant))
        assert_allclose(reached, kl_target, rtol=2e-3)


def test_a_divergence_that_is_never_reached_gives_the_smallest_constant():
    # No weights of 4 rows are further from uniform than log 4; equal advantages never move.
    advantage = jnp.array([0.0, 1.0, 2.0, 3.0])
    solved = closed_form.constant_for_weights(advantage, 1.01 * math.log(4.0), jnp.float32(3.0))
    assert_allclose(solved, 3.0 * math.exp(-10.0), rtol=1e-4)
    nothing = closed_form.constant_for_weights(jnp.zeros(4), 0.1, jnp.zeros(()))
    assert np.all(np.isfinite(closed_form.log_weights(jnp.zeros(4), nothing)))


@pytest.mark.parametrize("kl_target", [1e-3, 0.1])
def test_the_constant_for_all_actions_is_the_theorys(kl_target):
    with jax.enable_x64(True):
        log_policy, advantage = map(jnp.asarray, table(3))
        eps = jnp.max(jnp.abs(advantage))
        value = jnp.zeros(5)
        states = solve.Solution(value, advantage, advantage, jnp.full(5, 0.2), value[0])
        iterate = constants.Iterate(states, log_policy, value[0], value[0])
        exact = constants.kl_target(kl_target)(iterate)
        solved = closed_form.constant_for_target(log_policy, advantage, kl_target, eps)
        assert_allclose(solved, exact, rtol=2e-5)


def over_shards(fn):
    return jax.vmap(fn, axis_name=collectives.AXIS)


def test_a_batch_on_several_devices_is_one_batch():
    advantage = jnp.asarray(np.random.default_rng(4).normal(size=60) * 5.0, jnp.float32)
    shards = advantage.reshape(3, 20)
    whole = closed_form.log_weights(advantage, 0.8)
    split = over_shards(lambda a: closed_form.log_weights(a, 0.8))(shards)
    assert_allclose(split.reshape(-1), whole, rtol=1e-5, atol=1e-5)
    one = jnp.ones(())
    solved = over_shards(lambda a: closed_form.constant_for_weights(a, 0.2, one))(shards)
    together = closed_form.constant_for_weights(advantage, 0.2, one)
    assert_allclose(solved, jnp.full(3, together), rtol=1e-4)
    log_policy, q = (jnp.asarray(x, jnp.float32) for x in table(5, num=6))
    parts = [x.reshape(3, 2, 3) for x in (log_policy, q)]
    solved = over_shards(lambda p, a: closed_form.constant_for_target(p, a, 0.2, one))(*parts)
    together = closed_form.constant_for_target(log_policy, q, 0.2, one)
    assert_allclose(solved, jnp.full(3, together), rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99])
def test_the_constants_of_bounds_are_the_theorys(gamma):
    with jax.enable_x64(True):
        eps = jnp.asarray(0.7)
        assert_allclose(
            closed_form.paper_constant(gamma, eps),
            improvement_bounds.paper_constant(gamma, eps),
            rtol=1e-12,
            atol=1e-12,  # the least constant, in place of 0
        )
        proved = closed_form.proved_constant(gamma, eps)
        assert_allclose(proved, improvement_bounds.expected_kl_constant(gamma, eps), rtol=1e-15)
    assert np.isfinite(closed_form.paper_constant(1.0, jnp.ones(())))


def test_the_schedule_goes_by_equal_factors_and_stays_at_its_end():
    progress = jnp.array([0.0, 0.5, 1.0, 2.0])
    result = closed_form.scheduled_constant(1.0, 0.01, progress, 3.0)
    assert_allclose(result, [3.0, 0.3, 0.03, 0.03], rtol=1e-5)


# --- what is predicted ----------------------------------------------------------------------------


def test_the_certificate_of_the_update_is_its_log_partition():
    # E_new A - C KL(new || old) = C log Z in every state, so the mean over states has it too.
    with jax.enable_x64(True):
        log_policy, advantage = map(jnp.asarray, table(6))
        constant, gamma = jnp.asarray(1.3), 0.8
        update = analytical.analytical_update(log_policy, advantage, constant)
        gain = jnp.mean(jnp.sum(jnp.exp(update.log_policy) * advantage, axis=1))
        kl = closed_form.target_kl(update.log_policy, log_policy)
        result = closed_form.certificate(gain, kl, constant, gamma)
        assert_allclose(result, jnp.mean(update.gain) / 0.2, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.3, 0.9])
@pytest.mark.parametrize("scale", [0.03, 1.0, 30.0])
def test_with_exact_parts_the_certificate_never_promises_too_much(gamma, scale):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 20)
        mdp = jax.vmap(lambda key: builders.random_mdp(key, 6, 3, gamma))(keys)
        slack = jax.jit(jax.vmap(lambda m: slack_of(m, scale)))(mdp)
        assert np.all(slack > -1e-12)
        assert np.any(slack > 1e-9)


def slack_of(mdp, scale):
    """`J(pi_new) - J(pi)` less the certificate, for C = scale times max |A|."""
    log_policy = jnp.log(jax.nn.softmax(mdp.reward * 3.0))
    before = solve.evaluate(mdp, jnp.exp(log_policy))
    eps = jnp.max(jnp.abs(before.advantage))
    new = closed_form.log_target(log_policy, before.advantage, scale * eps)
    after = solve.evaluate(mdp, jnp.exp(new))
    gain = before.visitation @ jnp.sum(jnp.exp(new) * before.advantage, axis=1)
    kl = before.visitation @ kl_divergence(new, log_policy)
    proved = closed_form.proved_constant(mdp.gamma, eps)
    promised = closed_form.certificate(gain, kl, proved, mdp.gamma)
    return after.objective - before.objective - promised


def test_the_surrogates_gain_worked():
    # Ratios (2, 1/2), A = (3, -1): ((2 - 1) 3 + (1/2 - 1)(-1)) / 2 = 1.75; / (1 - 0.75) = 7.
    log_ratio = jnp.log(jnp.array([2.0, 0.5]))
    assert_allclose(
        closed_form.surrogate_gain(log_ratio, jnp.array([3.0, -1.0]), 0.75), 7.0, rtol=1e-6
    )


# --- advantages of all actions --------------------------------------------------------------------


def test_advantages_of_all_actions_worked():
    # pi = (1/4, 3/4), q = (5, 1): V = 2, U = (3, -1). The taken action is 0, worth 7 in the
    # rollout: an error of 4, weight min(1 / (1/4), 2) = 2, so (3 + 8, -1) = (11, -1), whose mean
    # 11/4 - 3/4 = 2 is taken off: (9, -3).
    log_policy = jnp.log(jnp.array([[0.25, 0.75]]))
    rows = (jnp.array([[5.0, 1.0]]), log_policy, jnp.array([0]), jnp.array([7.0]))
    assert_allclose(closed_form.all_action_advantage(*rows, 2.0), [[9.0, -3.0]], rtol=1e-6)
    assert_allclose(closed_form.all_action_advantage(*rows, 0.0), [[3.0, -1.0]], rtol=1e-6)


def test_without_a_clip_the_mean_over_the_taken_action_is_exact_whatever_the_critic_says():
    with jax.enable_x64(True):
        log_policy, truth = map(jnp.asarray, table(7, num=4))
        critic = jnp.asarray(np.random.default_rng(8).normal(size=(4, 3)))
        mean = 0.0
        for action in range(3):
            taken = jnp.full(4, action)
            result = closed_form.all_action_advantage(
                critic, log_policy, taken, truth[:, action], 1e9
            )
            mean += jnp.exp(log_policy[:, action])[:, None] * result
            assert_allclose(jnp.sum(jnp.exp(log_policy) * result, axis=1), jnp.zeros(4), atol=1e-12)
        assert_allclose(mean, truth, atol=1e-12)
        # And an exact critic is left alone by an exact estimate, at any clip.
        result = closed_form.all_action_advantage(truth, log_policy, taken, truth[:, 2], 0.5)
        assert_allclose(result, truth, atol=1e-12)
