"""Inverse reinforcement learning: worked numbers, derivatives, likelihood, what is recovered."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.learning import estimators
from jaxrl_pg.theory.soft import inverse, soft_values
from worked import mdp_g

NUM, FITTED, STATES, ACTIONS, FEATURES = 2_000, 100, 4, 3, 3  # solved dozens of times, each
ROWS = ("S..w.", ".#wm.", "..m.w", ".w#..", "S...G")
TRUE, TEMPERATURE, STEP = (2.0, -1.5, -0.7), 0.4, 1e-5
SOFT_OPTIMUM = jax.jit(lambda mdp, tau: soft_values.policy_iteration(mdp, tau).policy)


def gridworld():
    """Return a slippery world, its tiles as features (banana, water, mud), and the true reward."""
    mdp = builders.grid(ROWS, 0.9, 0.2)
    tiles = "".join(ROWS)
    marks = np.array([[tile == kind for kind in "Gwm"] for tile in tiles], float)
    return mdp, jnp.broadcast_to(jnp.asarray(marks)[:, None], (25, 4, 3))


def random_problems(num=NUM):
    """Draw MDPs, features, weights and another policy, and temperatures from .3 to 3."""
    rng = np.random.default_rng(0)
    batch = random_mdps(1, num, STATES, ACTIONS, 0.8, sparse=0.3)
    feature = rng.normal(size=(num, STATES, ACTIONS, FEATURES))
    weight = rng.normal(size=(num, FEATURES))
    temperature = random_sizes(2, num, np.log(0.3), np.log(3.0))
    expert = 0.9 * random_policies(3, num, STATES, ACTIONS) + 0.1 / ACTIONS
    return batch, feature, weight, expert, temperature


@cache
def studied():
    """Differentiate the dual by differences, and compare it with what is said of it."""

    def one(mdp, feature, weight, expert, temperature, way):
        counts = inverse.feature_counts(mdp, expert, feature)

        def loss(w):
            return inverse.dual(mdp, feature, w, counts, temperature)

        ends = jnp.stack([weight + STEP * way, weight - STEP * way])
        policy = jax.vmap(lambda w: inverse.optimal_policy(mdp, feature, w, temperature))(ends)
        own = jax.vmap(lambda x: inverse.feature_counts(mdp, x, feature))(policy)
        three = jnp.stack([weight, -weight[::-1], 0.5 * (weight - weight[::-1])])
        here, other, between, above, below = jax.vmap(loss)(jnp.concatenate([three, ends]))
        middle = inverse.optimal_policy(mdp, feature, weight, temperature)
        gradient = inverse.feature_counts(mdp, middle, feature) - counts
        return {
            "gradient": gradient @ way,
            "differences": (above - below) / (2 * STEP),
            "hessian": inverse.hessian(mdp, feature, weight, temperature),
            "second": (own[0] - own[1]) / (2 * STEP),
            "dual": here,
            "likelihood": solve.objective(mdp._replace(reward=jnp.log(middle)), expert),
            "bend": 0.5 * (here + other) - between,
        }

    run = jax.jit(partial(jax.lax.map, lambda x: one(*x), batch_size=500))
    ways = np.random.default_rng(4).normal(size=(NUM, FEATURES))
    problems = jax.tree.map(jnp.asarray, (*random_problems(), ways))
    return ways, *jax.tree.map(np.asarray, (problems[-2], run(problems)))


@cache
def fitted():
    """Fit soft-optimal experts, and experts that are nothing in particular."""

    def one(mdp, feature, weight, expert, temperature):
        optimal = inverse.optimal_policy(mdp, feature, weight, temperature)
        found = {}
        for name, policy in (("optimal", optimal), ("any", expert)):
            counts = inverse.feature_counts(mdp, policy, feature)
            fit = inverse.fit(mdp, feature, counts, temperature)
            entropies = [inverse.causal_entropy(mdp, x) for x in (fit.policy, policy)]
            least = inverse.dual(mdp, feature, fit.weight, counts, temperature)
            found[name] = {
                "fit": fit,
                "counts": counts,
                "policy": policy,
                "entropy": jnp.stack(entropies),
                "dual": least,
            }
        return found

    problems = jax.tree.map(jnp.asarray, random_problems(FITTED))
    found = jax.jit(jax.vmap(one))(*problems)
    return jax.tree.map(np.asarray, (problems, found))


@jax.jit
def explain(mdp, feature, expert, temperature, ridge=0.0):
    """Return all that is said of an expert, in one program for each shape."""
    counts = inverse.feature_counts(mdp, expert, feature)
    found = inverse.fit(mdp, feature, counts, temperature, ridge)
    return {
        "counts": counts,
        "fit": found,
        "hessian": inverse.hessian(mdp, feature, found.weight, temperature),
        "dual": inverse.dual(mdp, feature, found.weight, counts, temperature),
        "entropy": inverse.causal_entropy(mdp, expert),
        "visits": [solve.visitation(mdp, x) for x in (expert, found.policy)],
    }


# --- worked numbers -------------------------------------------------------------------------------


def test_a_bandit_by_hand():
    # One state without a future, three actions; features mark the first and the second. The expert
    # takes them with 1/2, 1/3, 1/6: odds of 3 and 2 against the third, so w = tau (log 3, log 2).
    mdp = mdps.make(np.ones((1, 3, 1)), np.zeros((1, 3)), [1.0], 0.0)
    feature = np.eye(3)[None, :, :2]
    expert = np.array([[1 / 2, 1 / 3, 1 / 6]])
    got = explain(mdp, feature, expert, 0.7)
    assert_allclose(got["counts"], [1 / 2, 1 / 3])
    assert_allclose(got["fit"].weight, 0.7 * np.log([3.0, 2.0]), rtol=1e-8)
    assert_allclose(got["fit"].policy, expert, rtol=1e-8)
    # The Hessian is the covariance of the features by tau: p (1 - p) and -p q.
    assert_allclose(got["hessian"], np.array([[1 / 4, -1 / 6], [-1 / 6, 2 / 9]]) / 0.7, rtol=1e-8)
    entropy = np.log(2) / 2 + np.log(3) / 3 + np.log(6) / 6
    assert_allclose(got["entropy"], entropy, rtol=1e-13)
    assert_allclose(got["dual"], 0.7 * entropy, rtol=1e-12)


def test_demonstrations_are_counted_by_hand():
    # phi is the number of the state: paths 0, 2, 1 and 1, 1, 0 at gamma 1/2 count 0 + 1 + 1/4 and
    # 1 + 1/2 + 0.
    state = np.array([[0, 2, 1], [1, 1, 0]])
    paths = estimators.Trajectories(state, np.zeros_like(state), 0.0 * state, np.array([0.5, 0.5]))
    feature = np.arange(3.0)[:, None, None]
    got = inverse.empirical_counts(feature, paths, 0.5)
    assert_allclose(got, [(1.25 + 1.5) / 2])


# --- the dual -------------------------------------------------------------------------------------


@pytest.mark.theorem
def test_the_gradient_is_the_difference_of_the_counts():
    # Both derivatives along a random direction, by central differences.
    ways, _, found = studied()
    assert_allclose(found["gradient"], found["differences"], atol=1e-6)
    assert np.median(np.abs(found["gradient"])) > 0.5
    scale = np.max(np.abs(found["second"]), axis=1, keepdims=True)
    along = np.einsum("njk,nk->nj", found["hessian"], ways)
    assert_allclose(along / scale, found["second"] / scale, atol=1e-6)
    assert np.min(np.linalg.eigvalsh(found["hessian"])) > -1e-12


@pytest.mark.theorem
def test_it_is_the_likelihood_of_the_expert_and_convex():
    _, temperature, found = studied()
    assert_allclose(found["dual"], -temperature * found["likelihood"], atol=1e-9)
    assert np.min(found["bend"]) > -1e-12
    assert np.median(found["bend"]) > 0.1


# --- what is recovered ----------------------------------------------------------------------------


def test_the_gridworld_is_explained():
    mdp, feature = gridworld()
    paid = inverse.rewarded(mdp, feature, jnp.array(TRUE))
    expert = SOFT_OPTIMUM(paid, TEMPERATURE)
    got = explain(mdp, feature, expert, TEMPERATURE)
    found = got["fit"]
    assert found.residual < 1e-8
    assert_allclose(*got["visits"], atol=1e-9)  # 1e-4 would be a match
    assert_allclose(found.policy, expert, atol=1e-8)
    assert np.linalg.eigvalsh(got["hessian"])[0] > 0.05  # so that the weights are known, too
    assert_allclose(found.weight, TRUE, atol=1e-8)
    assert 3 <= found.iterations < 20  # from w = 0
    assert np.max(np.abs(expert - 0.25)) > 0.5


@pytest.mark.theorem
def test_a_soft_optimal_expert_is_recovered():
    (_, _, weight, _, _), found = fitted()
    fit = found["optimal"]["fit"]
    assert np.max(fit.residual) < 1e-8
    assert_allclose(fit.counts, found["optimal"]["counts"], atol=1e-8)
    assert_allclose(fit.policy, found["optimal"]["policy"], atol=1e-6)
    assert_allclose(fit.weight, weight, atol=1e-5)


@pytest.mark.theorem
def test_any_expert_is_matched_by_the_policy_of_largest_entropy():
    (_, _, _, _, temperature), found = fitted()
    fit, expert = found["any"]["fit"], found["any"]
    assert np.max(fit.residual) < 1e-8
    assert_allclose(fit.counts, expert["counts"], atol=1e-8)
    gain = expert["entropy"][:, 0] - expert["entropy"][:, 1]
    assert np.min(gain) > -1e-8
    assert np.median(gain) > 0.1
    # There is no gap: the least dual is temperature times the largest entropy.
    assert_allclose(expert["dual"], temperature * expert["entropy"][:, 0], atol=1e-6)


def test_what_is_known_of_a_reward_is_known_up_to_shaping():
    # With a feature for every state and action, the counts are all that there is to know. The
    # policy is found, and its reward is the true one plus gamma P h - h for some h.
    mdp = mdps.MDP(*(jnp.asarray(x[0]) for x in random_mdps(5, 1, 4, 3, 0.8)))
    feature, true = jnp.eye(12).reshape(4, 3, 12), mdp.reward
    expert = SOFT_OPTIMUM(mdp, 0.5)
    got = explain(mdp, feature, expert, 0.5)
    found = got["fit"]
    assert_allclose(found.policy, expert, atol=1e-6)
    apart = (found.weight.reshape(4, 3) - true).reshape(12)
    assert np.max(np.abs(apart)) > 0.1
    shaping = (mdp.gamma * mdp.transition - jnp.eye(4)[:, None]).reshape(12, 4)
    h, *_ = np.linalg.lstsq(shaping, apart, rcond=None)
    assert_allclose(shaping @ h, apart, atol=1e-5)
    assert np.linalg.matrix_rank(shaping) == 4  # a constant is -c / (1 - gamma) of h
    assert np.sum(np.linalg.eigvalsh(got["hessian"]) < 1e-8) == 4
    assert_allclose(got["hessian"] @ shaping, 0.0, atol=1e-8)


def test_an_expert_without_doubts_needs_a_ridge():
    mdp, feature = gridworld()
    paid = inverse.rewarded(mdp, feature, jnp.array(TRUE))
    expert = jax.jit(solve.policy_iteration)(paid).policy
    got = explain(mdp, feature, expert, TEMPERATURE, 0.01)
    found = got["fit"]
    assert found.residual < 1e-8
    assert_allclose(got["counts"] - found.counts, 0.01 * found.weight, atol=1e-8)
    looser = explain(mdp, feature, expert, TEMPERATURE, 0.1)["fit"]
    assert np.linalg.norm(looser.weight) < np.linalg.norm(found.weight)


def test_wrong_shapes_are_refused():
    mdp, feature = gridworld()
    with pytest.raises(ValueError, match=r"counts has shape \(2,\): give \[3\]"):
        inverse.fit(mdp, feature, np.zeros(2), 0.5)
    with pytest.raises(ValueError, match="ridge is -1"):
        inverse.fit(mdp, feature, np.zeros(3), 0.5, ridge=-1.0)


def test_single_precision_stays_single():
    mdp, feature = mdp_g(0.9, jnp.float32), jnp.ones((3, 2, 2), jnp.float32)
    policy = jnp.full((3, 2), 0.5, jnp.float32)
    found = jax.eval_shape(explain, mdp, feature, policy, 0.5)
    paths = jax.eval_shape(lambda m, x: estimators.enumerate_trajectories(m, x, 2), mdp, policy)
    counts = jax.eval_shape(lambda f, x: inverse.empirical_counts(f, x, 0.9), feature, paths)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((found, counts))}
    assert dtypes == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
