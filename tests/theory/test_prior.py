"""The update with a prior: numbers by hand, any other policy, two limits, where it never loses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.probability import kl_divergence
from jaxrl_pg.theory.soft import soft_values
from jaxrl_pg.theory.updates import prior
from jaxrl_pg.theory.updates.analytical import analytical_update
from worked import POLICY_G, mdp_g

NUM = 1000
HALF, SKEWED = np.log([[0.5, 0.5]]), np.log([[0.8, 0.2]])
PRIOR_G = np.log([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])
UPDATE = jax.jit(jax.vmap(prior.prior_update))
PLAIN = jax.jit(jax.vmap(analytical_update))


def problems(seed, actions=3):
    """Return policies, priors, advantages, temperatures and shares of one state, at random."""
    rng = np.random.default_rng(seed)
    old, other = (np.log(random_policies(seed + i, NUM, 1, actions)) for i in (0, 1))
    advantage = rng.normal(size=(NUM, 1, actions))
    sizes = random_sizes(seed, NUM, np.log(0.05), np.log(5.0))
    return old, other, advantage, sizes, rng.uniform(size=NUM)


def test_the_mixture_by_hand():
    # sqrt(.5 x .8), sqrt(.5 x .2) = .632456, .316228: shares 2/3 and 1/3, M = .948683.
    mixed, log_mass = prior.mixture(HALF, SKEWED, 0.5)
    assert_allclose(jnp.exp(mixed), [[2 / 3, 1 / 3]], rtol=1e-12)
    assert_allclose(log_mass, [np.log(0.4**0.5 + 0.1**0.5)], rtol=1e-12)


def test_one_update_by_hand():
    # From (2/3, 1/3) with A / C = (0, log 2): 2/3 against 1/3 x 2, so a half each, and
    # C log(M x 4/3) with C = 2.
    update = prior.prior_update(HALF, SKEWED, jnp.array([[0.0, 2 * np.log(2)]]), 2.0, 0.5)
    assert_allclose(jnp.exp(update.log_policy), [[0.5, 0.5]], rtol=1e-12)
    assert_allclose(update.gain, [2 * np.log((0.4**0.5 + 0.1**0.5) * 4 / 3)], rtol=1e-12)


def test_without_a_share_it_is_the_plain_update_and_with_all_of_it_that_of_the_prior():
    old, other, advantage, constant, share = problems(0)
    for policy, b in ((old, 0.0), (other, 1.0)):
        expected = PLAIN(policy, advantage, constant)
        update = UPDATE(old, other, advantage, constant, np.full_like(share, b))
        assert_allclose(update.log_policy, expected.log_policy, rtol=1e-12, atol=1e-12)
        assert_allclose(update.gain, expected.gain, rtol=1e-9, atol=1e-12)


def test_any_other_policy_is_worse_by_its_divergence_from_the_update():
    # The maximum is C log Z at pi_new, and any p has that less C KL(p || pi_new): tried for every
    # point of a grid on the simplex of three actions, but for its edges.
    old, other, advantage, constant, share = problems(1)
    update = UPDATE(old, other, advantage, constant, share)
    n = 20
    grid = np.array([(i, j, n - i - j) for i in range(1, n) for j in range(1, n - i)]) / n

    def compare(new):
        each = jax.vmap(prior.objective, (None, 0, 0, 0, 0, 0))
        score = each(new[None], old, other, advantage, constant, share)
        divergence = jax.vmap(kl_divergence, (None, 0))(new[None], update.log_policy)
        return score, divergence

    scores, divergences = map(np.asarray, jax.jit(jax.vmap(compare))(np.log(grid)))
    assert scores.shape == (len(grid), NUM, 1)
    gain = np.asarray(update.gain)
    assert np.all(scores <= gain + 1e-11)
    expected = gain - constant[:, None] * divergences
    assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)


def test_without_a_constant_no_divergence_counts_not_even_an_infinite_one():
    # The old policy never takes action 1, which is worth 3: E A = (1 + 3) / 2.
    with np.errstate(divide="ignore"):
        old = np.log([[1.0, 0.0]])
    new, other, advantage = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]]), np.array([[1.0, 3.0]])
    for share in (0.0, 0.5, 1.0):
        assert_allclose(prior.objective(new, old, other, advantage, 0.0, share), [2.0])
    assert prior.objective(new, old, other, advantage, 0.1, 0.5) == -np.inf


def test_what_neither_takes_is_not_taken_and_no_share_needs_no_support():
    never = np.log([[1.0, 1e-300]])
    never[0, 1] = -np.inf
    q = jnp.array([[0.0, 5.0]])
    for b, expected in ((0.0, HALF), (0.5, never), (1.0, never)):
        mixed, _ = prior.mixture(HALF, never, b)
        assert_allclose(jnp.exp(mixed), np.exp(expected), rtol=1e-12)
        assert np.all(np.isfinite(prior.prior_update(HALF, never, q, 1.0, b).gain))
    with pytest.raises(ValueError, match=r"share is 1.5: give one in \[0, 1\]"):
        prior.mixture(HALF, SKEWED, 1.5)


# --- repeated -------------------------------------------------------------------------------------


def test_without_a_future_each_update_keeps_one_share_less_of_where_it_began():
    # log(pi_k / limit) = (1-b)^k log(pi_0 / limit), up to a shift: at b = 1/4 after 2 updates 9/16.
    bandit = mdps.make([[[1.0], [1.0]]], [[1.0, 0.0]], [1.0], 0.0)
    policies = prior.iterate(bandit, HALF, SKEWED, 2.0, 0.25, 80)
    odds = policies[:, 0, 0] - policies[:, 0, 1]
    limit = np.log(4.0) + 1.0 / 0.5  # of the prior, and the rewards' difference over b C
    assert_allclose(odds[:3] - limit, -limit * np.array([1.0, 0.75, 0.5625]), rtol=1e-12)
    assert_allclose(odds[-1], limit, rtol=1e-9)
    assert_allclose(prior.residual(bandit, policies[-1], SKEWED, 0.5), 0.0, atol=1e-8)
    # There the optimum of the objective that counts every divergence is the same.
    best = soft_values.policy_iteration(prior.regularised(bandit, SKEWED, 0.5), 0.5).policy
    assert_allclose(jnp.exp(policies[-1]), best, rtol=1e-9)


@jax.jit
@jax.vmap
def study(mdp, log_policy, log_prior, constant, share):
    """Run both iterations on one MDP."""
    temperature = share * constant
    plain = prior.iterate(mdp, log_policy, log_prior, constant, share, 400)
    changed = prior.regularised(mdp, log_prior, temperature)

    def step(log_policy, _):
        solution = soft_values.evaluate(changed, jnp.exp(log_policy), temperature)
        q = solution.q - temperature * log_prior  # what follows the reward as it was
        new = prior.prior_update(log_policy, log_prior, q, constant, share).log_policy
        same = analytical_update(log_policy, solution.advantage, constant).log_policy
        return new, (solution.objective, jnp.max(jnp.abs(jnp.exp(same) - jnp.exp(new))))

    last, (objectives, differences) = jax.lax.scan(step, log_policy, None, length=400)
    best = soft_values.policy_iteration(changed, temperature).policy
    return {
        "residual": prior.residual(mdp, plain[-1], log_prior, temperature),
        "differences": differences,
        "objectives": objectives,
        "far": jnp.max(jnp.abs(jnp.exp(last) - best)),
        "apart": jnp.max(jnp.abs(jnp.exp(plain[-1]) - best)),
    }


@pytest.fixture(scope="module")
def studied():
    with jax.enable_x64(True):
        num, states, actions = 300, 4, 3
        mdps_ = random_mdps(5, num, states, actions, gamma=0.8)
        old, other = (np.log(random_policies(i, num, states, actions)) for i in (6, 7))
        rng = np.random.default_rng(8)
        share, constant = rng.uniform(0.05, 1.0, num), rng.uniform(0.5, 5.0, num)
        return jax.tree.map(np.asarray, study(mdps_, old, other, constant, share))


def test_with_the_plain_advantage_it_stays_where_each_state_pays_for_itself(studied):
    assert np.max(studied["residual"]) < 1e-6


def test_with_the_regularised_one_it_goes_to_the_soft_optimal_policy(studied):
    assert np.max(studied["far"]) < 1e-6


def test_with_the_regularised_one_it_is_the_plain_update_of_that_advantage(studied):
    assert np.max(studied["differences"]) < 1e-9


def test_with_the_regularised_one_it_never_loses(studied):
    gains = np.diff(studied["objectives"], axis=1)
    scale = np.maximum(np.abs(studied["objectives"]).max(axis=1, keepdims=True), 1.0)
    assert np.min(gains / scale) > -1e-12
    assert np.mean(gains[:, 0] > 1e-3) > 0.9


def test_the_two_limits_differ_where_there_is_a_future(studied):
    assert np.median(studied["apart"]) > 0.01


def test_the_whole_share_of_the_regularised_update_is_soft_policy_iteration():
    mdp, t = mdp_g(0.9), 0.3
    changed = prior.regularised(mdp, PRIOR_G, t)
    solution = soft_values.evaluate(changed, jnp.asarray(POLICY_G), t)
    q = solution.q - t * PRIOR_G
    update = prior.prior_update(jnp.log(POLICY_G), PRIOR_G, q, t, 1.0)
    assert_allclose(jnp.exp(update.log_policy), soft_values.improve(solution.q, t), rtol=1e-12)
    # The objective is J less the divergences of every step.
    divergence = np.sum(POLICY_G * (np.log(POLICY_G) - PRIOR_G), axis=1)
    paid = mdp._replace(reward=mdp.reward - t * divergence[:, None])
    expected = solve.evaluate(paid, jnp.asarray(POLICY_G)).objective
    assert_allclose(solution.objective, expected, rtol=1e-12)
