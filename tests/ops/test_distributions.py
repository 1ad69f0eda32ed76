"""Distributions of policies: worked numbers, scipy, rlax, and statistics of the samples.

A statistical test here passes when its p-value is above 1e-6: the share of seeds on which a
correct sampler would fail it. Seeds are fixed, so a pass stays a pass.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats

from jaxrl_pg.ops.distributions import CATEGORICAL, DIAGONAL_NORMAL, Normal

FALSE_ALARM = 1e-6
SAMPLE = jax.jit(CATEGORICAL.sample)
LOG_PROB = jax.jit(CATEGORICAL.log_prob)
ENTROPY = jax.jit(CATEGORICAL.entropy)
KL = jax.jit(CATEGORICAL.kl)
NORMAL_LOG_PROB = jax.jit(DIAGONAL_NORMAL.log_prob)
NORMAL_KL = jax.jit(DIAGONAL_NORMAL.kl)
NORMAL_ENTROPY = jax.jit(DIAGONAL_NORMAL.entropy)
NORMAL_SAMPLE = jax.jit(DIAGONAL_NORMAL.sample)

MASK = -1e9
LAST = float(np.float32(1 - 2**-23))
"""the largest number that `jax.random.uniform` returns"""


def random_logits(seed, shape=(7, 5), scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def probabilities(logits):
    """Softmax in float64."""
    e = np.exp(np.float64(logits) - np.max(logits, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def random_normal(seed, shape=(7, 3)):
    rng = np.random.default_rng(seed)
    mean, log_std = rng.normal(size=shape), rng.uniform(-2, 1, size=shape)
    return Normal(np.float32(mean), np.float32(log_std))


# --- categorical --------------------------------------------------------------------------------


def test_categorical_worked():
    # p = 1/2, 1/4, 1/4: entropy = 1/2 log 2 + 2 (1/4 log 4) = 1.5 log 2;
    # KL to q = 1/4, 1/4, 1/2: 1/2 log 2 + 0 + 1/4 log(1/2) = .25 log 2
    p, q = jnp.log(jnp.array([0.5, 0.25, 0.25])), jnp.log(jnp.array([0.25, 0.25, 0.5]))
    assert_allclose(ENTROPY(p), 1.5 * np.log(2), rtol=1e-6)
    assert_allclose(KL(p, q), 0.25 * np.log(2), rtol=1e-6)
    assert_allclose(LOG_PROB(p, jnp.array(1)), -np.log(4), rtol=1e-6)
    assert CATEGORICAL.mode(p) == 0
    assert CATEGORICAL.mode(q) == 2


def test_sample_inverts_the_cumulative_distribution():
    # p = .2, .3, .5: partial sums .2, .5, 1
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.3, 0.5])), (6, 3))
    uniform = jnp.array([0.0, 0.19, 0.21, 0.49, 0.51, LAST])
    action = SAMPLE(logits, uniform)
    assert_array_equal(action, [0, 0, 1, 1, 2, 2])
    assert action.dtype == jnp.int32


@pytest.mark.parametrize("num_actions", [1, 2, 3, 18, 300])
def test_every_uniform_gives_an_action_that_exists(num_actions):
    logits = random_logits(0, (200, num_actions))
    assert np.all(np.asarray(SAMPLE(logits, np.zeros(200, np.float32))) == 0)
    assert np.all(np.asarray(SAMPLE(logits, np.full(200, LAST, np.float32))) < num_actions)


@pytest.mark.parametrize("live", [(2,), (1, 4), (0, 2, 3), (3, 5), (0, 1, 5)])
def test_masked_actions_are_never_sampled(live):
    logits = np.full((1001, 6), MASK, np.float32)
    logits[:, live] = random_logits(1, (1001, len(live)))
    uniform = np.linspace(0.0, 1.0 - 1e-5, 1001).astype(np.float32)
    assert set(np.unique(SAMPLE(logits, uniform))) == set(live)
    assert set(np.unique(SAMPLE(logits, np.zeros(1001, np.float32)))) == {live[0]}


def test_a_certain_action_is_taken_whatever_the_noise():
    logits = np.array([[0.0, 1e4, 0.0], [-1e9, -1e9, 5.0], [3e38, 0.0, 0.0]], np.float32)
    for u in (0.0, 0.5, LAST):
        assert_array_equal(SAMPLE(logits, np.full(3, u, np.float32)), [1, 2, 0])


def chi_square_p(counts, probability):
    """p-value of counts; categories that expect fewer than 5 are put together."""
    expected = probability * counts.sum()
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(counts, expected).pvalue


@pytest.mark.parametrize(
    "logits",
    [
        (0.0, 0.0),
        (1.0, -2.0, 0.5, 3.0, 0.0, -4.0),
        (MASK, 1.0, MASK, 0.0, 0.3),
        tuple(np.linspace(-3, 3, 40)),
        (700.0, 701.0, 699.0),
    ],
)
def test_samples_have_the_right_frequencies(logits):
    n, logits = 40_000, np.array(logits, np.float32)
    noise = CATEGORICAL.noise(jax.random.key(2), (n,), logits.size)
    action = np.asarray(SAMPLE(np.broadcast_to(logits, (n, logits.size)), noise))
    live = logits > MASK / 2
    counts = np.bincount(action, minlength=logits.size)
    assert counts[~live].sum() == 0
    assert chi_square_p(counts[live], probabilities(logits)[live]) > FALSE_ALARM


def test_categorical_noise_is_uniform():
    noise = CATEGORICAL.noise(jax.random.key(3), (200, 50), 4)
    assert noise.shape == (200, 50)
    assert stats.kstest(np.asarray(noise).ravel(), "uniform").pvalue > FALSE_ALARM


def test_categorical_against_scipy():
    p_logits, q_logits = random_logits(4), random_logits(5)
    p, q = probabilities(p_logits), probabilities(q_logits)
    assert_allclose(ENTROPY(p_logits), stats.entropy(p, axis=-1), rtol=1e-5)
    assert_allclose(KL(p_logits, q_logits), stats.entropy(p, q, axis=-1), rtol=1e-5)
    action = np.argmin(p_logits, -1)
    for row in range(7):
        oracle = stats.rv_discrete(values=(np.arange(5), p[row]))
        want = oracle.logpmf(action[row])
        assert_allclose(LOG_PROB(p_logits, action)[row], want, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_categorical_against_rlax(rlax):
    p, q = random_logits(6), random_logits(7)
    action = np.argmax(q, -1)

    @jax.jit
    def oracle(p, q, action):
        softmax = rlax.softmax()
        kl = rlax.categorical_kl_divergence(p, q)
        return softmax.entropy(p), softmax.logprob(action, p), kl

    with jax.numpy_rank_promotion("allow"):
        entropy, log_prob, kl = oracle(p, q, action)
    assert_allclose(ENTROPY(p), entropy, rtol=1e-5)
    assert_allclose(LOG_PROB(p, action), log_prob, rtol=1e-5)
    assert_allclose(KL(p, q), kl, rtol=1e-5)


def test_categorical_identities():
    p, q = random_logits(8), random_logits(9)
    log_probs = np.stack([LOG_PROB(p, np.full(7, action)) for action in range(5)])
    assert_allclose(np.exp(log_probs).sum(0), 1.0, rtol=1e-5)
    assert_allclose(-np.sum(np.exp(log_probs) * log_probs, 0), ENTROPY(p), rtol=1e-5)
    assert_allclose(KL(p, p), 0.0, atol=1e-6)
    assert np.all(np.asarray(KL(p, q)) > 0)
    assert_allclose(KL(p, q), KL(p + 5.0, q - 3.0), rtol=1e-4)
    assert_allclose(ENTROPY(np.zeros((7, 5), np.float32)), np.log(5), rtol=1e-6)
    assert_array_equal(CATEGORICAL.mode(p), np.argmax(p, -1))


def test_the_gradient_of_a_log_probability_is_one_hot_less_the_probabilities():
    logits, action = random_logits(10), np.array([0, 1, 2, 3, 4, 0, 1])
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(CATEGORICAL.log_prob(x, action))))(logits)
    assert_allclose(gradient, np.eye(5)[action] - probabilities(logits), rtol=1e-5, atol=1e-6)


def test_masked_actions_change_nothing_for_the_others():
    live = random_logits(11, (7, 3))
    masked = np.full((7, 5), MASK, np.float32)
    masked[:, [0, 2, 3]] = live
    other = np.where(masked > MASK / 2, masked * 0.5, masked)
    assert_allclose(ENTROPY(masked), ENTROPY(live), rtol=1e-6)
    assert_allclose(KL(masked, other), KL(live, 0.5 * live), rtol=1e-5)
    action = np.full(7, 1)
    assert_allclose(LOG_PROB(masked, np.full(7, 2)), LOG_PROB(live, action), rtol=1e-6)

    def total(x):
        return jnp.sum(CATEGORICAL.log_prob(x, 0 * action) + CATEGORICAL.entropy(x))

    gradient = jax.jit(jax.grad(total))(masked)
    assert np.all(np.isfinite(gradient))
    assert_array_equal(gradient[:, [1, 4]], np.zeros((7, 2)))


def test_categorical_has_any_leading_axes():
    logits = random_logits(12, (2, 3, 4))
    uniform = np.random.default_rng(0).random((2, 3), np.float32)
    action = SAMPLE(logits, uniform)
    assert action.shape == LOG_PROB(logits, action).shape == ENTROPY(logits).shape == (2, 3)
    flat = SAMPLE(logits.reshape(6, 4), uniform.reshape(6))
    assert_array_equal(action.reshape(6), flat)


# --- normal -------------------------------------------------------------------------------------


def test_normal_worked():
    # One coordinate, mean 1, std 2, at 3: z = 1, -(1/2 + log 2 + log(2 pi)/2) = -2.1120857;
    # entropy log 2 + (1 + log 2 pi)/2 = 2.1120857. KL to mean 0, std 1:
    # log(1/2) + (4 + 1)/2 - 1/2 = 2 - log 2 = 1.3068528
    p = Normal(jnp.array([1.0]), jnp.log(jnp.array([2.0])))
    q = Normal(jnp.array([0.0]), jnp.array([0.0]))
    assert_allclose(NORMAL_LOG_PROB(p, jnp.array([3.0])), -2.1120857, rtol=1e-6)
    assert_allclose(NORMAL_ENTROPY(p), 2.1120857, rtol=1e-6)
    assert_allclose(NORMAL_KL(p, q), 1.3068528, rtol=1e-6)
    # two deviations above the mean: 1 + 2 * 2
    assert_allclose(NORMAL_SAMPLE(p, jnp.array([2.0])), [5.0])
    assert_array_equal(DIAGONAL_NORMAL.mode(p), [1.0])


def test_normal_against_scipy():
    p = random_normal(0)
    mean, std = np.float64(p.mean), np.exp(np.float64(p.log_std))
    action = np.float32(mean + std * np.random.default_rng(1).normal(size=mean.shape))
    want = stats.norm.logpdf(action, mean, std).sum(-1)
    assert_allclose(NORMAL_LOG_PROB(p, action), want, rtol=1e-4)
    assert_allclose(NORMAL_ENTROPY(p), stats.norm.entropy(mean, std).sum(-1), rtol=1e-4)
    for row in range(7):
        joint = stats.multivariate_normal(mean[row], np.diag(std[row] ** 2))
        assert_allclose(want[row], joint.logpdf(action[row]), rtol=1e-6)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_normal_against_rlax(rlax):
    p, q = random_normal(2), random_normal(3)
    action = p.mean + 0.3

    @jax.jit
    def oracle(p, q, action):
        p_std, q_std, gaussian = jnp.exp(p.log_std), jnp.exp(q.log_std), rlax.gaussian_diagonal()
        kl = rlax.multivariate_normal_kl_divergence(p.mean, p_std, q.mean, q_std)
        return gaussian.entropy(p.mean, p_std), gaussian.logprob(action, p.mean, p_std), kl

    with jax.numpy_rank_promotion("allow"):
        entropy, log_prob, kl = oracle(p, q, action)
    assert_allclose(NORMAL_LOG_PROB(p, action), log_prob, rtol=1e-4)
    assert_allclose(NORMAL_ENTROPY(p), entropy, rtol=1e-4)
    assert_allclose(NORMAL_KL(p, q), kl, rtol=1e-4)


def test_normal_kl_is_its_integral():
    p, q = Normal(0.4, -0.5), Normal(-0.3, 0.2)

    def integrand(x):
        log_p = stats.norm.logpdf(x, p.mean, np.exp(p.log_std))
        return np.exp(log_p) * (log_p - stats.norm.logpdf(x, q.mean, np.exp(q.log_std)))

    want, _ = integrate.quad(integrand, -8, 8)
    got = NORMAL_KL(*(Normal(jnp.array([d.mean]), jnp.array([d.log_std])) for d in (p, q)))
    assert_allclose(got, want, rtol=1e-5)


def test_normal_identities():
    p, q = random_normal(4), random_normal(5)
    assert_allclose(NORMAL_KL(p, p), 0.0, atol=1e-6)
    assert np.all(np.asarray(NORMAL_KL(p, q)) > 0)
    # The log-probability of a sample is that of its noise, less the log of the stretching.
    noise = DIAGONAL_NORMAL.noise(jax.random.key(4), (7,), 3)
    standard = Normal(*np.zeros((2, 7, 3), np.float32))
    want = NORMAL_LOG_PROB(standard, noise) - np.sum(p.log_std, -1)
    assert_allclose(NORMAL_LOG_PROB(p, NORMAL_SAMPLE(p, noise)), want, rtol=1e-4)
    assert np.all(NORMAL_LOG_PROB(p, DIAGONAL_NORMAL.mode(p)) >= want)


def test_normal_samples_have_the_right_law():
    n, mean, std = 20_000, np.array([1.0, -2.0, 0.0]), np.array([0.5, 3.0, 1.0])
    params = Normal(*(np.tile(np.float32(x), (n, 1)) for x in (mean, np.log(std))))
    noise = DIAGONAL_NORMAL.noise(jax.random.key(5), (n,), 3)
    action = np.float64(NORMAL_SAMPLE(params, noise))
    assert action.shape == (n, 3)
    for i in range(3):
        p_value = stats.kstest(action[:, i], stats.norm(mean[i], std[i]).cdf).pvalue
        assert p_value > FALSE_ALARM
    # First moments within five standard errors (false alarm 6e-7 each); coordinates independent.
    assert np.all(np.abs(action.mean(0) - mean) < 5 * std / np.sqrt(n))
    assert np.all(np.abs(action.std(0) / std - 1) < 5 / np.sqrt(2 * n))
    correlation = np.corrcoef(action.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 5 / np.sqrt(n))


def test_a_rollout_of_normal_noise():
    assert DIAGONAL_NORMAL.noise(jax.random.key(6), (4, 2), 3).shape == (4, 2, 3)


@pytest.mark.parametrize("num_actions", [3, 6, 18])
def test_a_masked_last_action_is_not_sampled_by_the_largest_uniform(num_actions):
    logits = np.random.default_rng(0).normal(scale=2, size=(5000, num_actions)).astype(np.float32)
    logits[:, -1] = -1e9
    largest = np.full(5000, np.float32(1 - 2**-23))
    assert np.max(CATEGORICAL.sample(logits, largest)) < num_actions - 1
