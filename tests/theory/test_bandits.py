"""Bandits: worked numbers, the exact gradient and variance, what exact ascent guarantees."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.theory.learning import bandits

NUM = 10_000
SMOOTH_STEP = 0.4


def random_bandits(arms):
    """Return rewards in [0, 1] and policies from nearly uniform to nearly deterministic."""
    rng = np.random.default_rng(arms)
    logits = np.exp(rng.uniform(-2.0, 1.5, (NUM, 1))) * rng.normal(size=(NUM, arms))
    return jnp.asarray(rng.uniform(size=(NUM, arms))), jnp.asarray(logits)


def pulls(reward, logits, baseline):
    """Return every pull's estimate `[A, A]` and its probability `[A]`."""
    estimate = partial(bandits.gradient_estimate, logits=logits, baseline=baseline)
    each = jax.vmap(lambda a: estimate(payoff=reward[a], action=a))(jnp.arange(reward.shape[0]))
    return each, jax.nn.softmax(logits)


@jax.jit
@jax.vmap
def everything(reward, logits):
    """Compute all quantities of one bandit that are compared below."""
    best = bandits.optimal_baseline(reward, logits)
    averages = {"none": 0.0, "average": bandits.objective(reward, logits), "best": best}
    listed = {name: pulls(reward, logits, b) for name, b in averages.items()}
    return {
        "gradient": bandits.policy_gradient(reward, logits),
        "autodiff": jax.grad(bandits.objective, 1)(reward, logits),
        "mean": {name: p @ each for name, (each, p) in listed.items()},
        "listed": {
            name: p @ jnp.sum(jnp.square(each - (p @ each)[None]), axis=1)
            for name, (each, p) in listed.items()
        },
        "variance": {
            name: bandits.gradient_variance(reward, logits, b) for name, b in averages.items()
        },
        "off": bandits.gradient_variance(reward, logits, best + 0.3),
        "score": pulls(reward, logits, best)[1]
        @ jnp.sum(jnp.square(jnp.eye(reward.shape[0]) - jax.nn.softmax(logits)[None]), axis=1),
    }


def test_a_hundred_exact_steps_by_formula():
    reward, theta = np.array([1.0, 0.0, 0.5]), np.zeros(3)
    for _ in range(100):
        policy = np.exp(theta) / np.exp(theta).sum()
        theta = theta + 0.5 * policy * (reward - policy @ reward)
    ascend = jax.jit(bandits.ascend, static_argnums=3)
    result = ascend(jnp.asarray(reward), jnp.zeros(3), 0.5, 100)
    assert_allclose(result.logits[-1], theta, atol=1e-12)
    assert_allclose(
        result.policy[-1], [0.975872626939, 0.008021264264, 0.016106108797], rtol=0, atol=1e-12
    )
    assert_allclose(result.objective[-1], 0.983925681338, rtol=0, atol=1e-12)
    # The first step from uniform: p (r - 1/2) = (1/6, -1/6, 0), times 1/2.
    assert_allclose(result.logits[0], [1 / 12, -1 / 12, 0], atol=1e-15)


def test_variance_by_hand():
    # Two arms, uniform: |e_a - pi|^2 = 1/2. Rewards 1 and 0 without a baseline: E|g|^2 = 1/4, the
    # gradient (1/4, -1/4) has the square 1/8: variance 1/8. With b = 1/2 both pulls say the same.
    reward, logits = jnp.array([1.0, 0.0]), jnp.zeros(2)
    gradient_variance = jax.jit(bandits.gradient_variance)
    assert_allclose(gradient_variance(reward, logits, 0.0), 0.125)
    assert_allclose(gradient_variance(reward, logits, 0.5), 0.0, atol=1e-16)
    assert_allclose(gradient_variance(reward, logits, 0.5, 3.0), 4.5)  # 9 / 2
    assert_allclose(bandits.optimal_baseline(reward, logits), 0.5)


@pytest.mark.theorem
@pytest.mark.parametrize("arms", [2, 5])
def test_gradient_and_variance_on_ten_thousand_bandits(arms):
    reward, logits = random_bandits(arms)
    result = everything(reward, logits)
    assert_allclose(result["gradient"], result["autodiff"], atol=1e-14)
    assert_allclose(result["gradient"].sum(axis=1), 0.0, atol=1e-14)
    for name, mean in result["mean"].items():  # unbiased whatever the baseline
        assert_allclose(mean, result["gradient"], atol=1e-14)
        assert_allclose(result["variance"][name], result["listed"][name], atol=1e-13)
    variance = result["variance"]
    assert jnp.all(variance["best"] <= variance["average"] + 1e-15)
    assert jnp.all(variance["best"] <= variance["none"] + 1e-15)
    assert_allclose(result["off"], variance["best"] + 0.09 * result["score"], atol=1e-13)
    # Subtracting the mean reward is no guarantee: it can make things worse than nothing.
    worse = jnp.mean(variance["average"] > variance["none"])
    assert 0.0 < worse < 0.2


@pytest.mark.parametrize("arms", [2, 5])
def test_exact_ascent_is_monotone_and_as_fast_as_it_should_be(arms):
    reward, logits = random_bandits(arms)
    ascend = partial(bandits.ascend, learning_rate=SMOOTH_STEP, num_steps=200)
    result = jax.jit(jax.vmap(ascend))(reward, logits)
    first = jax.vmap(bandits.objective)(reward, logits)
    path = jnp.concatenate([first[:, None], result.objective], axis=1)
    assert jnp.min(jnp.diff(path, axis=1)) > -1e-15
    best = jnp.max(reward, axis=1, keepdims=True)
    chosen = jnp.argmax(reward, axis=1)[:, None, None]
    policy = jnp.concatenate([jax.nn.softmax(logits)[:, None], result.policy], axis=1)
    least = jax.lax.cummin(jnp.take_along_axis(policy, chosen, axis=2)[..., 0], axis=1)[:, 1:]
    bound = 5.0 / (jnp.square(least) * jnp.arange(1.0, 201.0)[None])
    assert jnp.all(best - result.objective <= bound)
    assert jnp.max(result.objective[:, -1] - first) > 0.3  # and it did climb


def sampled_twin(actions, payoffs, rate, baseline, baseline_rate, num_arms):
    theta = np.zeros(num_arms)
    for a, paid in zip(actions, payoffs, strict=True):
        policy = np.exp(theta) / np.exp(theta).sum()
        theta = theta + rate * (paid - baseline) * (np.eye(num_arms)[a] - policy)
        baseline = baseline + baseline_rate * (paid - baseline)
    return theta, baseline


@partial(jax.jit, static_argnums=7)
@partial(jax.vmap, in_axes=(*[None] * 6, 0, None))
def learn(*arguments):
    return bandits.learn(*arguments)


@pytest.mark.parametrize("baseline_rate", [0.0, 0.1])
def test_learning_from_pulls(baseline_rate):
    # Payoffs are the means here, so that the actions say all; the twin replays them.
    reward = jnp.array([4.0, 3.0, 3.5])
    keys = jax.random.split(jax.random.key(0), 200)
    result = learn(reward, jnp.zeros(3), 0.05, 1.0, baseline_rate, 0.0, keys, 200)
    for i in range(3):
        actions = np.asarray(result.action[i])
        theta, baseline = sampled_twin(
            actions, np.asarray(reward)[actions], 0.05, 1.0, baseline_rate, 3
        )
        assert_allclose(result.logits[i], theta, atol=1e-12)
        assert_allclose(result.baseline[i], baseline, atol=1e-12)
        assert_allclose(result.objective[i, -1], bandits.objective(reward, theta), atol=1e-12)
    # The first pull is uniform: 200 of them, each arm within 5 standard deviations (.033 each)
    # of a third; false alarm below 1e-5.
    counts = np.bincount(np.asarray(result.action[:, 0]), minlength=3) / 200
    assert_allclose(counts, 1 / 3, atol=0.167)
    assert result.objective[:, -1].mean() > reward.mean() + 0.05


def test_noise_is_added_to_payoffs_with_the_deviation_asked_for():
    # One arm, b follows completely (rate 1): the last baseline is the last payoff, 2 + 3 N(0, 1).
    run = partial(bandits.learn, jnp.array([2.0]), jnp.zeros(1), 0.1, 0.0, 1.0, 3.0)
    keys = jax.random.split(jax.random.key(1), 2_000)
    paid = jax.jit(jax.vmap(partial(run, num_steps=1)))(keys).baseline
    # 5 standard errors: mean 3/sqrt(2000) = .067, deviation 3/sqrt(4000) = .047; alarm 1e-6.
    assert abs(paid.mean() - 2.0) < 5 * 0.067
    assert abs(paid.std() - 3.0) < 5 * 0.047
