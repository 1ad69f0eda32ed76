"""Soft values and losses: worked numbers, loops, scipy in float64, and the exact theory."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, optimize, special, stats

from jaxrl_pg.ops import soft
from jaxrl_pg.ops.distributions import Normal, correlated, tanh_normal_sample
from jaxrl_pg.theory import mdp
from jaxrl_pg.theory.soft import soft_values as exact
from jaxrl_pg.theory.updates import analytical

LOG2 = math.log(2.0)
HALF = jnp.array([[0.5, 0.5]])


def random_values(seed, num=6, actions=4, scale=3.0):
    rng = np.random.default_rng(seed)
    log_prob = special.log_softmax(rng.normal(scale=scale, size=(num, actions)), axis=1)
    q = rng.normal(scale=scale, size=(num, actions))
    return soft.ActionValues(*(np.float32(x) for x in (np.exp(log_prob), log_prob, q)))


def logs(x):
    return jnp.log(jnp.asarray(x))


# --- values ---------------------------------------------------------------------------------------


def test_values_worked():
    # Two actions of probability 1/2 with Q = 1 and 3: mean 2, entropy log 2; at temperature
    # 1/2 the value is 2 + log(2) / 2. The best is 1/2 log(e^2 + e^6).
    two = soft.ActionValues(HALF, logs(HALF), jnp.array([[1.0, 3.0]]))
    assert_allclose(soft.entropy(two), [LOG2], rtol=1e-6)
    assert_allclose(soft.expected_value(two, 0.5), [2.0 + 0.5 * LOG2], rtol=1e-6)
    best = 0.5 * math.log(math.exp(2.0) + math.exp(6.0))
    assert_allclose(soft.optimal_value(two.q, 0.5), [best], rtol=1e-6)


def test_a_single_draw_has_weight_one():
    # One action with density e and Q = 5 at temperature 2: 5 - 2 = 3, entropy -1.
    one = soft.ActionValues(jnp.ones((1, 1)), jnp.ones((1, 1)), jnp.full((1, 1), 5.0))
    assert_allclose(soft.expected_value(one, 2.0), [3.0])
    assert_allclose(soft.entropy(one), [-1.0])


def test_values_as_loops():
    case = random_values(0)
    for n in range(6):
        rows = list(zip(*(x[n].tolist() for x in case), strict=True))
        value = sum(p * (q - 0.3 * log_p) for p, log_p, q in rows)
        assert_allclose(soft.expected_value(case, 0.3)[n], value, rtol=1e-5)
        assert_allclose(soft.entropy(case)[n], -sum(p * log_p for p, log_p, _ in rows), rtol=1e-5)
        best = 0.3 * math.log(sum(math.exp(q / 0.3) for *_, q in rows))
        assert_allclose(soft.optimal_value(case.q, 0.3)[n], best, rtol=1e-5)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 50.0])
def test_the_optimal_value_is_that_of_the_boltzmann_policy_and_of_no_other(alpha):
    q = random_values(1).q
    log_prob = jax.nn.log_softmax(q / alpha)
    best = soft.ActionValues(jnp.exp(log_prob), log_prob, q)
    assert_allclose(soft.expected_value(best, alpha), soft.optimal_value(q, alpha), rtol=2e-5)
    other = random_values(1)
    assert np.all(soft.expected_value(other, alpha) < soft.optimal_value(q, alpha))


def test_the_optimal_value_of_a_box_worked():
    # Q = 3 everywhere on [-1, 1]^2, of volume 4, at temperature 1/2: 3 + log(4) / 2. Of two actions
    # in one dimension with Q = 0 and log 3 at temperature 1: log((1 + 3) / 2 * 2) = log 4.
    same = soft.optimal_value_of_box(jnp.full((1, 5), 3.0), 0.5, 2)
    assert_allclose(same, [3.0 + LOG2], rtol=1e-6)
    two = soft.optimal_value_of_box(logs([[1.0, 3.0]]), 1.0, 1)
    assert_allclose(two, [2.0 * LOG2], rtol=1e-6)


def test_the_optimal_value_of_a_box_is_an_integral():
    """Of Q = -3 (a - 0.3)^2; 1,000 actions at equal distances are as good as the integral."""
    action = (np.arange(1000) + 0.5) / 500 - 1.0
    q = lambda action: -3.0 * (action - 0.3) ** 2  # noqa: E731
    exact = 0.4 * math.log(integrate.quad(lambda a: math.exp(q(a) / 0.4), -1.0, 1.0)[0])
    assert_allclose(soft.optimal_value_of_box(q(action)[None], 0.4, 1), [exact], atol=1e-4)
    # By the mean's convexity few draws say too little: by 10,000 estimates from 4, seven standard
    # errors below (false alarms: 1e-12, as long as the bias is there).
    few = np.random.default_rng(0).uniform(-1.0, 1.0, (10_000, 4))
    estimates = np.asarray(soft.optimal_value_of_box(q(few), 0.4, 1))
    assert np.mean(estimates) + 7.0 * np.std(estimates) / 100.0 < exact


def test_the_optimal_value_of_large_numbers_is_finite():
    assert_allclose(soft.optimal_value(jnp.array([[1e4, 0.0]]), 1e-3), [1e4])
    # Both equal: 3 + alpha log 2.
    assert_allclose(soft.optimal_value(jnp.array([[3.0, 3.0]]), 0.1), [3.0 + 0.1 * LOG2], rtol=1e-6)


# --- targets and losses ---------------------------------------------------------------------------


def test_a_backup_worked():
    # gamma .9: 1 + .9 * 10 = 10; terminated: 1 alone, whatever the successor is said to be worth.
    reward, terminated = jnp.ones(3), jnp.array([False, True, True])
    result = soft.backup(reward, terminated, jnp.array([10.0, 10.0, jnp.inf]), 0.9)
    assert_allclose(result, [10.0, 1.0, 1.0])


def test_no_gradient_passes_a_backup():
    grad = jax.grad(lambda v: jnp.sum(soft.backup(jnp.ones(2), jnp.zeros(2, bool), v, 0.9)))
    assert_array_equal(grad(jnp.ones(2)), 0.0)


def test_the_q_loss_worked():
    # Errors 1, 3 of one critic and 0, 2 of the other: (1 + 9)/4 + (0 + 4)/4 = 3.5.
    q, target = jnp.array([[1.0, 3.0], [0.0, 2.0]]), jnp.zeros(2)
    assert_allclose(soft.q_loss(q, target), 3.5)
    # d/dQ_kn = (Q_kn - y_n) / N: every critic learns as if it were alone.
    assert_allclose(jax.grad(soft.q_loss)(q, target), q / 2)


def test_q_loss_refuses_shapes_that_would_broadcast():
    with pytest.raises(AssertionError):
        soft.q_loss(jnp.ones((2, 3)), jnp.ones((2, 3)))
    with pytest.raises(AssertionError):
        soft.q_loss(jnp.ones((2, 3)), jnp.ones(2))


def test_policy_losses_worked():
    # p = 1/2 each, Q = 1 and 3, alpha = 1/2: E[alpha log p - Q] = -log(2)/2 - 2. The target is
    # softmax(2, 6) = (1/(1+e^4), e^4/(1+e^4)): KL = -log 2 - (2 + 6)/2 + log(e^2 + e^6).
    two = soft.ActionValues(HALF, logs(HALF), jnp.array([[1.0, 3.0]]))
    assert_allclose(soft.expected_policy_loss(two, 0.5), -0.5 * LOG2 - 2.0, rtol=1e-6)
    divergence = -LOG2 - 4.0 + math.log(math.exp(2.0) + math.exp(6.0))
    assert_allclose(soft.kl_projection_loss(two, 0.5), divergence, rtol=1e-6)


def test_the_two_policy_losses_differ_by_the_scale_and_a_constant():
    """`alpha KL = E[alpha log pi - Q] + V*`, so their gradients are parallel."""
    q, logits, alpha = random_values(2).q, random_values(3).log_prob, 0.4

    def both(logits):
        log_prob = jax.nn.log_softmax(logits)
        case = soft.ActionValues(jnp.exp(log_prob), log_prob, q)
        return soft.expected_policy_loss(case, alpha), soft.kl_projection_loss(case, alpha)

    expected, divergence = both(logits)
    constant = jnp.mean(soft.optimal_value(q, alpha))
    assert_allclose(alpha * divergence, expected + constant, rtol=1e-5)
    first = jax.grad(lambda x: both(x)[0])(logits)
    second = jax.grad(lambda x: both(x)[1])(logits)
    assert_allclose(alpha * second, first, rtol=1e-4, atol=1e-7)
    assert np.max(np.abs(first)) > 1e-2


def test_the_projection_is_least_at_the_boltzmann_policy():
    """Its gradient is 0 there and a minimiser from elsewhere ends there (scipy's, in float64)."""
    q, alpha = np.array([0.3, -1.0, 0.8]), 0.4

    def loss(logits):
        log_prob = special.log_softmax(logits)
        target = special.log_softmax(q / alpha)
        return float(np.sum(np.exp(log_prob) * (log_prob - target)))

    result = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
    assert_allclose(special.softmax(result), special.softmax(q / alpha), atol=1e-5)
    log_prob = jnp.asarray(special.log_softmax(result), jnp.float32)[None]
    case = soft.ActionValues(jnp.exp(log_prob), log_prob, jnp.float32(q)[None])
    assert_allclose(soft.kl_projection_loss(case, alpha), 0.0, atol=1e-6)


def test_the_temperature_rises_while_the_entropy_is_too_small():
    # Entropies .2 and .4 against a target of 1: the gradient of log alpha is .3 - 1 = -.7.
    grad = jax.grad(soft.temperature_loss)(jnp.array(-1.0), jnp.array([0.2, 0.4]), 1.0)
    assert_allclose(grad, -0.7, rtol=1e-6)
    assert_allclose(soft.temperature_loss(jnp.array(-1.0), jnp.array([0.2, 0.4]), 1.0), 0.7)
    of_policy = jax.grad(soft.temperature_loss, argnums=1)(jnp.array(-1.0), jnp.ones(2), 0.0)
    assert_array_equal(of_policy, 0.0)


def test_a_polyak_update_goes_a_share_of_the_way():
    # 1 + .25 (5 - 1) = 2; four such steps leave .75^4 of the way.
    target, params = {"a": jnp.ones(2)}, {"a": jnp.full(2, 5.0)}
    assert_allclose(soft.polyak_update(target, params, 0.25)["a"], 2.0)
    for _ in range(4):
        target = soft.polyak_update(target, params, 0.25)
    assert_allclose(target["a"], 5.0 - 4.0 * 0.75**4)
    assert_allclose(soft.polyak_update(target, params, 1.0)["a"], 5.0)


# --- the exact theory -----------------------------------------------------------------------------


EVALUATE = jax.jit(exact.evaluate)
UPDATE = jax.jit(analytical.analytical_update)


def random_problem(seed, states=4, actions=3):
    """An MDP and a policy, in float64."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(states), size=(states, actions))
    reward, start = rng.normal(size=(states, actions)), np.full(states, 1 / states)
    policy = rng.dirichlet(np.ones(actions), size=states)
    return mdp.MDP(*(jnp.asarray(x) for x in (transition, reward, start, 0.9))), policy


@pytest.mark.parametrize("uniform", [True, False])
def test_the_analytical_rule_with_the_soft_advantage_gives_the_projections_target(uniform):
    """With C = temperature: `pi exp(A / C) / Z = softmax(Q / C)`, from any policy.

    And the projection's loss at that policy is 0, from whatever policy the rule started. With the
    plain advantage instead it is so from a uniform policy only.
    """
    with jax.enable_x64(True):
        problem, policy = random_problem(0)
        policy = np.full((4, 3), 1 / 3) if uniform else policy
        solution = EVALUATE(problem, policy, 0.3)
        new = UPDATE(np.log(policy), solution.advantage, 0.3).log_policy
        assert_allclose(new, special.log_softmax(solution.q / 0.3, axis=1), atol=1e-12)
        case = soft.ActionValues(np.exp(new), np.asarray(new), np.asarray(solution.q))
        assert_allclose(soft.kl_projection_loss(case, 0.3), 0.0, atol=1e-12)
        plain = solution.q - np.sum(policy * solution.q, axis=1, keepdims=True)
        other = UPDATE(np.log(policy), plain, 0.3).log_policy
        gap = np.max(np.abs(other - new))
        assert (gap < 1e-12) if uniform else (gap > 0.1)


def test_values_are_those_of_the_exact_room():
    with jax.enable_x64(True):
        problem, policy = random_problem(2)
        solution = EVALUATE(problem, policy, 0.7)
        case = soft.ActionValues(policy, np.log(policy), np.asarray(solution.q))
        assert_allclose(soft.expected_value(case, 0.7), solution.value, rtol=1e-12)
        best = exact.soft_maximum(solution.q, 0.7)
        assert_allclose(soft.optimal_value(solution.q, 0.7), best)
        next_value = np.einsum("sat,t->sa", problem.transition, solution.value).reshape(-1)
        reward = np.asarray(problem.reward).reshape(-1)
        result = soft.backup(reward, np.zeros(12, bool), next_value, 0.9)
        assert_allclose(result.reshape(4, 3), solution.q, rtol=1e-12)


# --- tanh of a normal -----------------------------------------------------------------------------


def log_density(u, mean, log_std):
    """Of tanh(u), in float64: log N(u) - log(1 - tanh(u)^2), the last as -2 log cosh(u)."""
    log_cosh = np.abs(u) + np.log1p(np.exp(-2.0 * np.abs(u))) - LOG2
    return stats.norm.logpdf(u, mean, np.exp(log_std)) + 2.0 * log_cosh


SAMPLE = jax.jit(tanh_normal_sample)


@pytest.mark.parametrize("log_std", [-5.0, -1.0, 0.0, 2.0])
@pytest.mark.parametrize("far", [0.0, 1e-3, 1.0, 9.0, 20.0])
def test_the_log_density_is_right_far_out(far, log_std):
    """Draws up to |u| = 20, where 1 - tanh(u)^2 is 2e-17 and rounds to 0 in float32."""
    rng = np.random.default_rng(5)
    noise = np.float32(np.clip(rng.normal(size=(200, 1)), -3, 3))
    target = np.where(rng.random((200, 1)) < 0.5, -far, far)
    mean = np.float32(target - np.exp(log_std) * noise)
    action, log_prob = SAMPLE(Normal(mean, np.full_like(mean, log_std)), noise)
    u = np.float64(mean) + np.exp(np.float64(log_std)) * np.float64(noise)
    assert np.max(np.abs(np.abs(u) - far)) < 1e-4
    assert_allclose(action, np.tanh(u), rtol=1e-5, atol=1e-5)
    normal = stats.norm.logpdf(np.float64(noise)) - log_std
    expected = normal[:, 0] + (log_density(u, 0.0, 0.0) - stats.norm.logpdf(u))[:, 0]
    assert_allclose(log_prob, expected, rtol=2e-6, atol=2e-5)
    assert np.all(np.isfinite(log_prob))


def test_the_naive_formula_would_not_do():
    with np.errstate(divide="ignore"):
        naive = np.log(np.float32(1.0) - np.tanh(np.float32(20.0)) ** 2)
    assert np.isneginf(naive)


def test_coordinates_add_up():
    params = Normal(jnp.array([[0.3, -1.0]]), jnp.array([[-0.5, 0.7]]))
    noise = jnp.array([[0.4, -1.2]])
    _, both = SAMPLE(params, noise)
    each = [
        SAMPLE(Normal(*(x[:, i : i + 1] for x in params)), noise[:, i : i + 1])[1] for i in (0, 1)
    ]
    assert_allclose(both, each[0] + each[1], rtol=1e-6)


def test_it_is_a_density():
    """Integrated over (-1, 1) in the variable u: 1; and draws have its probabilities."""
    mean, log_std = 0.4, -0.3

    def density(a):
        u = np.arctanh(a)
        return np.exp(log_density(u, mean, log_std))

    assert_allclose(integrate.quad(density, -1, 1)[0], 1.0, rtol=1e-6)
    noise = jax.random.normal(jax.random.key(0), (40_000, 1))
    params = Normal(jnp.full((40_000, 1), mean), jnp.full((40_000, 1), log_std))
    action, log_prob = SAMPLE(params, noise)
    edges = np.linspace(-0.9, 0.95, 12)
    counts = np.histogram(action[:, 0], edges)[0]
    share = [integrate.quad(density, a, b)[0] for a, b in itertools.pairwise(edges)]
    rest = [len(noise) - counts.sum(), 1.0 - sum(share)]
    observed, expected = np.append(counts, rest[0]), len(noise) * np.append(share, rest[1])
    assert stats.chisquare(observed, expected).pvalue > 1e-6
    near = np.abs(np.asarray(action[:, 0])) < 0.99  # where arctanh of a float32 is exact enough
    assert_allclose(np.exp(log_prob)[near], density(np.float64(action[:, 0])[near]), rtol=1e-3)


@pytest.mark.parametrize("at", [-20.0, -3.0, 0.0, 0.5, 20.0])
def test_gradients_are_those_of_the_path(at):
    """`d log pi / d mean = 2 tanh u`, `d log pi / d log_std = -1 + 2 tanh(u) std noise`."""
    noise, log_std = 0.7, -0.4
    mean = at - math.exp(log_std) * noise

    def log_prob(mean, log_std):
        params = Normal(jnp.array([mean]), jnp.array([log_std]))
        return tanh_normal_sample(params, jnp.array([noise]))[1]

    result = jax.grad(log_prob, argnums=(0, 1))(mean, log_std)
    slope = 2.0 * math.tanh(at)
    assert_allclose(result[0], slope, rtol=1e-5, atol=1e-6)
    assert_allclose(result[1], -1.0 + slope * math.exp(log_std) * noise, rtol=1e-5, atol=1e-6)


# --- noise that remembers -------------------------------------------------------------------------


def test_correlated_noise_worked():
    # c = .6, so sqrt(1 - c^2) = .8: 1, .6 + 1.6 = 2.2, 1.32 - .8 = .52.
    result = correlated(jnp.array([[1.0], [2.0], [-1.0]]), 0.6)
    assert_allclose(result[:, 0], [1.0, 2.2, 0.52], rtol=1e-6)
    noise = jnp.array([[1.0], [2.0], [-1.0]])
    assert_array_equal(correlated(noise, 0.0), noise)
    assert_array_equal(correlated(noise, 1.0), 1.0)


def test_correlated_noise_stays_standard_and_forgets_exponentially():
    noise = jax.random.normal(jax.random.key(0), (4, 40_000))
    z = np.asarray(correlated(noise, 0.8))
    for t in range(4):
        assert stats.kstest(z[t], "norm").pvalue > 1e-6
        # Standard error 1 / sqrt(40,000) = .005 at most.
        assert_allclose(np.corrcoef(z[0], z[t])[0, 1], 0.8**t, atol=0.03)
