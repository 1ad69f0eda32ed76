"""REINFORCE's estimators: worked numbers, derivatives, identities, plain-Python twins, batches."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import LOGITS_G, random_mdps
from numpy.testing import assert_allclose

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.learning import estimators
from jaxrl_pg.theory.learning.estimators import Estimates
from worked import mdp_g

HORIZON = 3
UNDISCOUNTED = Estimates._fields[:7]
DISCOUNTED = Estimates._fields[8:]
NUM = 10_000
USUALLY = [("causal", "raw"), ("average_baseline", "raw"), ("advantage", "td_error")]
CASES = [(2, 2, 3, False), (4, 2, 2, True)]

# Compiled as wholes: operation by operation they take several times as long.
moments_of_g = jax.jit(partial(estimators.exact_moments, horizon=HORIZON))
enumerate_trajectories = jax.jit(estimators.enumerate_trajectories, static_argnums=2)
estimates = jax.jit(estimators.estimates)
gae_estimates = jax.jit(estimators.gae_estimates)
moments = jax.jit(estimators.moments)
optimal_baseline = jax.jit(estimators.optimal_baseline)
undiscounted_values = jax.jit(estimators.undiscounted_values, static_argnums=2)


@partial(jax.jit, static_argnums=2)
def objective(mdp, logits, horizon, gamma):
    """Return `E sum_t gamma^t r_t` over the horizon, by backward induction."""
    steps = jnp.broadcast_to(jax.nn.softmax(logits)[None], (horizon, *logits.shape))
    changed = mdp._replace(gamma=jnp.asarray(gamma, logits.dtype))
    return jnp.vdot(mdp.start, solve.finite_horizon_evaluate(changed, steps)[0][0])


def finite_differences(function, logits, step=1e-5):
    gradient = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        away = np.zeros_like(logits)
        away[index] = step
        gradient[index] = (function(logits + away) - function(logits - away)) / (2 * step)
    return gradient


def _one(horizon, arguments):
    mdp, logits = arguments
    policy = jax.nn.softmax(logits)
    found = estimators.exact_moments(mdp, logits, horizon)
    gradient = jax.grad(objective, 1)
    return {
        "found": found,
        "undiscounted": gradient(mdp, logits, horizon, 1.0),
        "discounted": gradient(mdp, logits, horizon, mdp.gamma),
        "mass": jnp.sum(estimators.enumerate_trajectories(mdp, policy, horizon).weight),
    }


def many(states, actions, horizon, sparse):
    batch = random_mdps(states, NUM, states, actions, sparse=sparse)
    logits = jnp.asarray(np.random.default_rng(1).normal(size=(NUM, states, actions)))
    one = partial(_one, horizon)
    return jax.jit(partial(jax.lax.map, one, batch_size=500))((batch, logits))


def twin(mdp, logits, path, average, best):
    """Return the ten estimates of one trajectory, loop by loop from their definitions."""
    gamma, policy = float(mdp.gamma), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    transition, reward = np.asarray(mdp.transition), np.asarray(mdp.reward)
    horizon = len(path)
    value, q = np.zeros((horizon + 1, len(logits))), [None] * horizon
    for t in reversed(range(horizon)):
        q[t] = reward + transition @ value[t + 1]
        value[t] = (policy * q[t]).sum(axis=1)
    paid = [reward[s, a] for s, a in path]
    total, discounted = sum(paid), sum(gamma**t * r for t, r in enumerate(paid))
    result = {name: np.zeros_like(logits) for name in Estimates._fields}
    for t, (s, a) in enumerate(path):
        score = np.zeros_like(logits)
        score[s] = np.eye(logits.shape[1])[a] - policy[s]
        to_go = sum(paid[t:])
        own = sum(gamma ** (u - t) * paid[u] for u in range(t, horizon))
        next_state = value[t + 1][path[t + 1][0]] if t + 1 < horizon else 0.0
        weights = {
            "raw": total,
            "average_baseline": total - average,
            "optimal_baseline": total - best,
            "causal": to_go,
            "causal_value": to_go - value[t][s],
            "advantage": q[t][s, a] - value[t][s],
            "td_error": paid[t] + next_state - value[t][s],
            "option_1": own,
            "option_2": discounted,
            "option_2_causal": gamma**t * own,
        }
        for name, weight in weights.items():
            result[name] += weight * score
    return result


# --- worked numbers, and what the estimators estimate ---------------------------------------------

TABLE = {  # name: d/dtheta[0,0], d/dtheta[1,0], total variance; enumerated independently
    "raw": (-0.221672469288, 0.057639248423, 2.863686213),
    "average_baseline": (-0.221672469288, 0.057639248423, 0.483780562),
    "optimal_baseline": (-0.221672469288, 0.057639248423, 0.404743703),
    "causal": (-0.221672469288, 0.057639248423, 1.577499612),
    "causal_value": (-0.221672469288, 0.057639248423, 0.205905112),
    "advantage": (-0.221672469288, 0.057639248423, 0.076173638),
    "td_error": (-0.221672469288, 0.057639248423, 0.103839795),
    "option_1": (-0.219611907713, 0.058815733778, 1.361670479),
    "option_2": (-0.202418992031, 0.052380886136, 2.322985195),
    "option_2_causal": (-0.202418992031, 0.052380886136, 1.224232186),
}


@pytest.mark.parametrize("name", Estimates._fields)
def test_worked_means_and_variances(name):
    found = moments_of_g(mdp_g(0.9), jnp.asarray(LOGITS_G))
    mean, variance = getattr(found.mean, name), getattr(found.variance, name)
    assert_allclose([mean[0, 0], mean[1, 0]], TABLE[name][:2], rtol=0, atol=1e-11)
    assert_allclose(variance, TABLE[name][2], rtol=0, atol=1e-9)


def test_worked_baselines():
    mdp, logits = mdp_g(0.9), jnp.asarray(LOGITS_G)
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), HORIZON)
    best = [[1.250369268361] * 2, [1.055597294405] * 2, [1.605138964746] * 2]
    assert_allclose(optimal_baseline(logits, paths), best, atol=1e-11)
    average = paths.weight @ paths.reward.sum(axis=1)
    assert_allclose(average, 1.195180959103, atol=1e-11)
    assert_allclose(average, objective(mdp, logits, HORIZON, 1.0), atol=1e-14)


def test_means_equal_finite_differences_but_those_of_option_one():
    mdp = mdp_g(0.9)
    found = moments_of_g(mdp, jnp.asarray(LOGITS_G)).mean
    undiscounted, discounted = (
        finite_differences(lambda x, g=g: objective(mdp, jnp.asarray(x), HORIZON, g), LOGITS_G)
        for g in (1.0, 0.9)
    )
    for name in UNDISCOUNTED:
        assert_allclose(getattr(found, name), undiscounted, atol=1e-9)
    for name in DISCOUNTED:
        assert_allclose(getattr(found, name), discounted, atol=1e-9)
    for neither in (undiscounted, discounted):
        assert np.max(np.abs(found.option_1 - neither)) > 1e-3


def test_option_one_is_the_gradient_of_no_function():
    # The derivative of a gradient is symmetric. That of option 1's mean is not, so there is no
    # objective that it climbs; those of the others are.
    jacobian = jax.jacfwd(lambda x: moments_of_g(mdp_g(0.9), x).mean)(jnp.asarray(LOGITS_G))
    turns = {}
    for name in Estimates._fields:
        square = np.asarray(getattr(jacobian, name)).reshape(6, 6)
        turns[name] = np.max(np.abs(square - square.T))
    assert turns.pop("option_1") > 5e-4
    assert max(turns.values()) < 1e-15


@pytest.mark.theorem
@pytest.mark.parametrize(("states", "actions", "horizon", "sparse"), CASES)
def test_means_and_order_of_variances_on_ten_thousand_mdps(states, actions, horizon, sparse):
    result = jax.tree.map(np.asarray, many(states, actions, horizon, sparse))
    assert_allclose(result["mass"], 1.0, atol=1e-12)
    mean, variance = result["found"]
    for names, truth in ((UNDISCOUNTED, "undiscounted"), (DISCOUNTED, "discounted")):
        for name in names:
            assert_allclose(getattr(mean, name), result[truth], atol=1e-12)
    # What is sure: the best constants are better than any other.
    assert np.all(variance.optimal_baseline <= variance.raw + 1e-12)
    assert np.all(variance.optimal_baseline <= variance.average_baseline + 1e-12)
    # What is only usual: each of these has counterexamples among random MDPs.
    for better, worse in (
        ("causal", "raw"),
        ("average_baseline", "raw"),
        ("advantage", "td_error"),
    ):
        often = np.mean(getattr(variance, better) < getattr(variance, worse))
        assert 0.5 < often < 1.0


# --- twins and identities -------------------------------------------------------------------------


def test_every_estimate_of_every_trajectory_equals_its_twin():
    mdp, logits, horizon = mdp_g(0.8), jnp.asarray(LOGITS_G), 2
    policy = np.asarray(jax.nn.softmax(logits))
    paths = enumerate_trajectories(mdp, jnp.asarray(policy), horizon)
    found = estimates(mdp, logits, paths)
    pairs = list(itertools.product(range(3), range(2)))
    listed = list(itertools.product(pairs, repeat=horizon))
    average = float(objective(mdp, logits, horizon, 1.0))
    best = np.asarray(optimal_baseline(logits, paths))
    for i, path in enumerate(listed):
        (s, a), (k, b) = path
        chance = mdp.start[s] * policy[s, a] * mdp.transition[s, a, k] * policy[k, b]
        assert_allclose(paths.weight[i], chance, atol=1e-15)
        for name, want in twin(mdp, LOGITS_G, path, average, best).items():
            assert_allclose(getattr(found, name)[i], want, atol=1e-14)


def test_no_other_constant_has_less_variance():
    mdp, logits = mdp_g(0.9), jnp.asarray(LOGITS_G)
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), HORIZON)
    found = estimates(mdp, logits, paths)
    scores = (found.raw - found.average_baseline) / objective(mdp, logits, HORIZON, 1.0)

    def variance(constants):
        return moments(paths.weight, found.raw - constants[None] * scores).variance

    best = optimal_baseline(logits, paths)
    assert_allclose(jax.jit(jax.grad(variance))(best), 0.0, atol=1e-12)
    assert np.min(np.diagonal(jax.jit(jax.hessian(variance))(best).reshape(6, 6))) > 0.1


def test_a_parameter_that_no_trajectory_moves_has_the_baseline_zero():
    mdp = mdp_g(0.9)._replace(start=jnp.array([1.0, 0.0, 0.0]))
    logits = jnp.asarray(LOGITS_G)
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), 1)
    best = optimal_baseline(logits, paths)
    assert_allclose(best[1:], 0.0)
    assert jnp.all(best[0] > 0.1)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.4, 1.0])
def test_generalised_advantages_with_true_values(gae_lambda):
    # lambda 0 is the TD error, 1 the Monte Carlo sum less the value; unbiased in between. As a
    # twin: the lambda-return is (1 - lambda) sum_n lambda^(n-1) of the n-step returns, the last
    # of which has all that is left of the weight.
    mdp, logits = mdp_g(0.9), jnp.asarray(LOGITS_G)
    policy = jax.nn.softmax(logits)
    paths = enumerate_trajectories(mdp, policy, HORIZON)
    value, _ = undiscounted_values(mdp, policy, HORIZON)
    found = gae_estimates(logits, paths, value, 1.0, gae_lambda)
    exact = estimates(mdp, logits, paths)
    mean = moments(paths.weight, found).mean
    assert_allclose(mean, moments_of_g(mdp, logits).mean.raw, atol=1e-14)
    if gae_lambda in (0.0, 1.0):
        assert_allclose(found, exact.causal_value if gae_lambda else exact.td_error, atol=1e-14)
    state, reward = np.asarray(paths.state), np.asarray(paths.reward)
    want = np.zeros_like(found)
    for t in range(HORIZON):
        returns = []
        for n in range(1, HORIZON - t + 1):
            end = value[t + n][state[:, t + n]] if t + n < HORIZON else 0.0
            returns.append(reward[:, t : t + n].sum(axis=1) + end)
        weights = [(1 - gae_lambda) * gae_lambda**i for i in range(len(returns))]
        weights[-1] = gae_lambda ** (len(returns) - 1)
        advantage = sum(map(np.multiply, weights, returns)) - value[t][state[:, t]]
        chosen = np.eye(2)[np.asarray(paths.action[:, t])] - np.asarray(policy)[state[:, t]]
        want += advantage[:, None, None] * np.eye(3)[state[:, t], :, None] * chosen[:, None]
    assert_allclose(found, want, atol=1e-13)


def test_a_wrong_critic_biases_every_lambda_but_one():
    mdp, logits = mdp_g(0.9), jnp.asarray(LOGITS_G)
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), HORIZON)
    wrong = jnp.array([[0.0, 1.0, -1.0]] * HORIZON)
    truth = moments_of_g(mdp, logits).mean.raw
    bias = []
    for gae_lambda in (0.0, 0.5, 0.9, 1.0):
        sample = gae_estimates(logits, paths, wrong, 1.0, gae_lambda)
        mean = moments(paths.weight, sample).mean
        bias.append(float(jnp.max(jnp.abs(mean - truth))))
    assert bias[0] > bias[1] > bias[2] > 1e-3
    assert bias[3] < 1e-14


# --- batches --------------------------------------------------------------------------------------


def test_batches_have_the_moments_that_enumeration_says():
    mdp, logits = mdp_g(0.9), jnp.asarray(LOGITS_G)
    num = 20_000
    key = jax.random.key(0)
    sample = jax.jit(partial(estimators.sample_trajectories, horizon=HORIZON, num=num))
    paths = sample(mdp, jax.nn.softmax(logits), key=key)
    exact = moments_of_g(mdp, logits)
    # 10 estimators, 6 parameters: 5 standard errors each, false alarm below 1e-4 in all.
    for name, found in estimates(mdp, logits, paths)._asdict().items():
        got = moments(paths.weight, found)
        error = np.std(found, axis=0) / num**0.5
        assert np.all(np.abs(got.mean - getattr(exact.mean, name)) < 5 * error)
        assert_allclose(got.variance, getattr(exact.variance, name), rtol=0.1)


def test_the_average_of_a_batch_shrinks_the_gradient():
    # Exactly, over all pairs of trajectories: the mean of g_i (R_i - (R_1 + R_2)/2) is half of
    # the gradient, since every trajectory is half of its own baseline.
    mdp, logits, horizon = mdp_g(0.9), jnp.asarray(LOGITS_G), 2
    paths = enumerate_trajectories(mdp, jax.nn.softmax(logits), horizon)
    num = paths.weight.shape[0]
    first, second = (jnp.asarray(x.ravel()) for x in np.indices((num, num)))

    def batch_mean(i, j):
        both = jax.tree.map(lambda x: x[jnp.stack([i, j])], paths)
        both = both._replace(weight=jnp.full(2, 0.5))
        return moments(both.weight, estimates(mdp, logits, both).average_baseline).mean

    means = jax.jit(jax.vmap(batch_mean))(first, second)
    expected = jnp.tensordot(paths.weight[first] * paths.weight[second], means, 1)
    gradient = jax.grad(objective, 1)(mdp, logits, horizon, 1.0)
    assert_allclose(expected, gradient / 2, atol=1e-14)


def test_too_many_trajectories_are_refused():
    with pytest.raises(ValueError, match=r"60466176 trajectories of 10 steps"):
        estimators.enumerate_trajectories(mdp_g(0.9), jnp.full((3, 2), 0.5), 10)
