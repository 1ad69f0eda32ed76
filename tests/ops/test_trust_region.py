"""Natural steps: SciPy's conjugate gradient, Fisher matrices written out, exact MDPs."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import linalg

from jaxrl_pg.ops import distributions, trust_region
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.updates import neighbours

CATEGORICAL, NORMAL = distributions.CATEGORICAL, distributions.DIAGONAL_NORMAL


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


def product(matrix, vector):
    return matrix @ vector


@partial(jax.jit, static_argnums=2)
def cg(matrix, b, iterations, tolerance=0.0):
    return trust_region.conjugate_gradient(partial(product, matrix), b, iterations, tolerance)


def positive_definite(n, seed=0):
    root = np.random.default_rng(seed).normal(size=(n, n))
    return root @ root.T + 0.5 * np.eye(n)


# --- conjugate gradient ---------------------------------------------------------------------------

A, B = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])


def test_two_steps_by_hand():
    # r = b: r.r = 5, A r = (6, 7), r.A r = 20, length 1/4: x = (1/4, 1/2), r = (-1/2, 1/4).
    one = cg(A, B, 1)
    assert_allclose(one.x, [0.25, 0.5])
    assert_allclose(one.residual, [-0.5, 0.25])
    # Two dimensions are done in two steps: x = (1, 7) / 11.
    two = cg(A, B, 2)
    assert_allclose(two.x, [1 / 11, 7 / 11])
    assert_allclose(two.residual, [0.0, 0.0], atol=1e-15)
    assert (int(one.iterations), int(two.iterations)) == (1, 2)


@pytest.mark.parametrize("iterations", [1, 4, 9])
def test_every_iterate_is_scipys(iterations):
    matrix, b = positive_definite(9), np.arange(1.0, 10.0)
    result = cg(matrix, b, iterations)
    expected, _ = linalg.cg(matrix, b, rtol=0.0, atol=0.0, maxiter=iterations)
    assert_allclose(result.x, expected, rtol=1e-9)
    assert_allclose(result.residual, b - matrix @ np.asarray(result.x), atol=1e-9)


@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-6])
def test_it_stops_where_scipy_does(tolerance):
    matrix, b, steps = positive_definite(9), np.arange(1.0, 10.0), []
    expected, _ = linalg.cg(matrix, b, rtol=tolerance, maxiter=50, callback=steps.append)
    result = cg(matrix, b, 50, tolerance)
    assert int(result.iterations) == len(steps) < 20
    assert_allclose(result.x, expected, rtol=1e-9)


def test_a_singular_matrix_is_met_only_where_b_reaches():
    root = np.random.default_rng(1).normal(size=(7, 3))
    matrix, b = root @ root.T, root @ np.array([1.0, -2.0, 0.5])
    result = cg(matrix, b, 3)
    assert_allclose(result.x, np.linalg.pinv(matrix, rcond=1e-10) @ b, rtol=1e-8, atol=1e-12)


def test_nothing_to_solve_and_nothing_to_solve_with():
    result = cg(A, np.zeros(2), 5)
    assert (result.x.tolist(), int(result.iterations)) == ([0.0, 0.0], 0)
    result = cg(np.zeros((2, 2)), B, 5)  # no curvature in the very first direction
    assert (result.x.tolist(), int(result.iterations)) == ([0.0, 0.0], 1)
    assert_allclose(result.residual, B)


# --- the Fisher information -----------------------------------------------------------------------

STATES, ACTIONS = 5, 3
OBS = np.random.default_rng(2).normal(size=(STATES, 2))
CURVED = np.random.default_rng(3).normal(size=2 * ACTIONS + ACTIONS)


def logits(obs, params):
    """A policy that is curved in its parameters: tanh of a linear map, and a bias."""
    hidden = jnp.tanh(obs @ params[: 2 * ACTIONS].reshape(2, ACTIONS))
    return hidden + jnp.square(params[2 * ACTIONS :])[None]


def normal(obs, params):
    """Two action dimensions: means as above, a log standard deviation of their own."""
    mean = logits(obs, jnp.concatenate([params[:6], jnp.zeros(3)]))[:, :2]
    return distributions.Normal(mean, jnp.broadcast_to(params[6:8][None], mean.shape))


@partial(jax.jit, static_argnums=(0, 1))
def dense(policy, divergence, obs, params):
    """All of F, column by column."""
    fisher = trust_region.fisher_vector_product(partial(policy, obs), divergence, params)
    return jax.lax.map(fisher, jnp.eye(params.size))


@partial(jax.jit, static_argnums=(0, 1))
def hessian_of_kl(policy, divergence, obs, params):
    old = jax.lax.stop_gradient(policy(obs, params))
    return jax.hessian(lambda x: jnp.mean(divergence(old, policy(obs, x))))(params)


def test_a_fisher_product_by_hand():
    # One state, logits themselves the parameters, p = (.2, .3, .5): F = diag(p) - p p^T.
    p = np.array([0.2, 0.3, 0.5])
    fisher = trust_region.fisher_vector_product(lambda x: x[None], CATEGORICAL.kl, jnp.log(p))
    assert_allclose(fisher(jnp.array([1.0, 0.0, 0.0])), [0.16, -0.06, -0.10], atol=1e-12)
    assert_allclose(fisher(jnp.ones(3)), 0.0, atol=1e-12)  # a shift of all logits is nothing


def test_it_is_the_expected_outer_product_of_scores():
    """Sums over states and actions in plain loops; only the scores come from JAX."""
    log_probs = lambda x: jax.nn.log_softmax(logits(OBS, x))  # noqa: E731
    log_prob, score = log_probs(CURVED), jax.jit(jax.jacobian(log_probs))(CURVED)
    expected = np.zeros((CURVED.size, CURVED.size))
    for s in range(STATES):
        for a in range(ACTIONS):
            expected += np.exp(log_prob[s, a]) * np.outer(score[s, a], score[s, a]) / STATES
    result = dense(logits, CATEGORICAL.kl, OBS, CURVED)
    assert_allclose(result, expected, rtol=1e-9, atol=1e-12)
    assert np.linalg.matrix_rank(result) > ACTIONS  # not the one matrix of a single state


def test_of_a_normal_it_is_precision_and_twice_the_identity():
    """F = [J^T diag(1/sigma^2) J / N, 0; 0, 2 I], J of the means."""
    params = CURVED[:8]
    jacobian = jax.jit(jax.jacobian(lambda x: normal(OBS, x).mean))(params)
    expected = np.zeros((8, 8))
    for s in range(STATES):
        for i in range(2):
            precision = np.exp(-2.0 * params[6 + i])
            expected += precision * np.outer(jacobian[s, i], jacobian[s, i]) / STATES
    expected[6:, 6:] += 2.0 * np.eye(2)
    assert_allclose(dense(normal, NORMAL.kl, OBS, params), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("policy", "family", "params"),
    [(logits, CATEGORICAL, CURVED), (normal, NORMAL, CURVED[:8])],
    ids=["categorical", "normal"],
)
def test_it_is_the_hessian_of_the_kl_in_either_direction(policy, family, params):
    result = dense(policy, family.kl, OBS, params)
    assert_allclose(result, hessian_of_kl(policy, family.kl, OBS, params), rtol=1e-9, atol=1e-12)
    backwards = hessian_of_kl(policy, reversed_kl(family), OBS, params)
    assert_allclose(result, backwards, rtol=1e-9, atol=1e-12)


def reversed_kl(family):
    return lambda p, q: family.kl(q, p)


# --- the length of a step -------------------------------------------------------------------------


def test_a_length_by_hand():
    # sqrt(2 * .01 / 2) = .1
    step = trust_region.scale_to_divergence(jnp.array([3.0, 4.0]), jnp.array(2.0), 0.01)
    assert_allclose(step, [0.3, 0.4])


@pytest.mark.parametrize("curvature", [0.0, -1.0, np.nan])
def test_without_curvature_there_is_no_step(curvature):
    step = trust_region.scale_to_divergence(jnp.array([3.0, 4.0]), jnp.array(curvature), 0.01)
    assert step.tolist() == [0.0, 0.0]


# --- the line search ------------------------------------------------------------------------------


def hill(top, x):
    """Objective x (top - x), divergence x^2."""
    return x[0] * (top - x[0]), x[0] ** 2


@partial(jax.jit, static_argnums=1)
def search(top, num_tries, max_kl, shrink=0.5, step=1.0):
    evaluate = partial(hill, top)
    start, step = jnp.zeros(1), jnp.full(1, step)
    objective = jnp.zeros(())
    return trust_region.backtracking_line_search(
        evaluate, start, step, objective, max_kl, shrink, num_tries
    )


def test_searches_by_hand():
    # Tries 1, 1/2, 1/4. KL 1 is too much and 1/4 is not: x = 1/2, objective 1/2 (2 - 1/2).
    result = search(2.0, 3, 0.3)
    assert (float(result.point[0]), float(result.fraction)) == (0.5, 0.5)
    assert_allclose((result.objective, result.divergence), (0.75, 0.25))
    # A hill that is down again at .3: 1/4 is the first that gains, 1/4 * .05.
    result = search(0.3, 3, 10.0)
    assert (float(result.point[0]), bool(result.accepted)) == (0.25, True)
    assert_allclose(result.objective, 0.0125)
    # The same, given up before it comes there.
    result = search(0.3, 2, 10.0)
    assert (float(result.point[0]), bool(result.accepted)) == (0.0, False)
    assert (float(result.fraction), float(result.objective), float(result.divergence)) == (0, 0, 0)


def test_an_even_step_is_not_a_gain_and_an_even_kl_is_no_breach():
    assert not bool(search(1.0, 1, 10.0).accepted)  # objective 1 (1 - 1) = 0, the start's
    assert bool(search(2.0, 1, 1.0).accepted)  # divergence 1, allowed 1


def test_what_is_not_a_number_is_refused():
    assert not bool(search(np.nan, 4, 10.0).accepted)
    assert not bool(search(2.0, 4, np.nan).accepted)


def search_in_python(top, num_tries, max_kl, shrink, step):
    fraction = 1.0
    for _ in range(num_tries):
        x = fraction * step
        if x * (top - x) > 0.0 and x * x <= max_kl:
            return fraction
        fraction *= shrink
    return 0.0


def test_random_searches_agree_with_a_loop_and_never_break_a_rule():
    rng = np.random.default_rng(5)
    tops, steps = rng.normal(size=300), rng.normal(size=300)
    bounds, shrinks = rng.exponential(0.3, size=300), rng.uniform(0.3, 0.95, size=300)
    each = jax.jit(jax.vmap(lambda t, m, b, x: search(t, 6, m, b, x)))
    result = jax.tree.map(np.asarray, each(tops, bounds, shrinks, steps))
    rows = zip(tops, bounds, shrinks, steps, strict=True)
    expected = [
        search_in_python(top, 6, max_kl, shrink, step) for top, max_kl, shrink, step in rows
    ]
    assert_allclose(result.fraction, expected, rtol=1e-12)
    assert 50 < result.accepted.sum() < 250
    good = result.accepted
    assert np.all(result.objective[good] > 0.0)
    assert np.all(result.divergence[good] <= bounds[good])
    assert np.all(result.point[~good] == 0.0)


# --- softmax policies of exactly known MDPs -------------------------------------------------------


class Step(NamedTuple):
    """What there is to know of a natural step on an MDP, as tables `[S, A]` of logits."""

    advantage: jax.Array
    natural: jax.Array
    result: trust_region.LineSearch
    whole_kl: jax.Array


@jax.jit
def exact_step(mdp, table, max_kl):
    """`F^+ grad J`, scaled, and halved until it is allowed; d weighs the states."""
    solution = solve.evaluate(mdp, jax.nn.softmax(table))
    start, weighted = table.ravel(), partial(weighted_kl, solution.visitation)
    policy = partial(jnp.reshape, shape=table.shape)
    fisher = trust_region.fisher_vector_product(policy, weighted, start)
    gradient = solve.policy_gradient(mdp, table).ravel()
    solved = trust_region.conjugate_gradient(fisher, gradient, 40, 1e-12)
    curvature = jnp.vdot(solved.x, gradient - solved.residual)
    full = trust_region.scale_to_divergence(solved.x, curvature, max_kl)
    evaluate = partial(surrogate_and_kl, solution, table)
    result = trust_region.backtracking_line_search(
        evaluate, start, full, jnp.zeros(()), max_kl, 0.5, 30
    )
    natural = solved.x.reshape(table.shape)
    return Step(solution.advantage, natural, result, evaluate(start + full)[1])


def weighted_kl(weights, p, q):
    """A mean over rows of this is the mean over states with these weights."""
    return weights * weights.shape[0] * CATEGORICAL.kl(p, q)


def surrogate_and_kl(solution, table, point):
    new = point.reshape(table.shape)
    gain = jnp.sum(jax.nn.softmax(new) * solution.advantage, axis=1)
    return jnp.vdot(solution.visitation, gain), jnp.vdot(
        solution.visitation, CATEGORICAL.kl(table, new)
    )


def problem(sign=1.0):
    """Four states, three actions, discount 0.8; and a table of logits. -1 turns rewards round."""
    rng = np.random.default_rng(6)
    transition = rng.dirichlet(np.ones(4), size=(4, 3))
    mdp = mdps.make(transition, sign * rng.normal(size=(4, 3)), np.full(4, 0.25), 0.8)
    return mdp, jnp.asarray(rng.normal(size=(4, 3)))


def test_the_natural_gradient_of_a_table_is_the_advantage():
    """F^+ grad J = A / (1 - gamma), but for a shift of all logits of a state (Kakade 2001).

    1e-8 of the largest: what is left are the residual of conjugate gradient and rounding.
    """
    step = exact_step(*problem(), 0.01)
    expected = np.asarray(step.advantage) / (1.0 - 0.8)
    centred = [np.asarray(x) - np.mean(x, axis=1)[:, None] for x in (step.natural, expected)]
    assert_allclose(*centred, rtol=0, atol=1e-8 * np.abs(expected).max())
    assert np.abs(expected).max() > 0.1


def test_a_natural_step_is_the_closed_form():
    mdp, table = problem()
    stepped = jax.nn.log_softmax(table + 0.7 * exact_step(mdp, table, 0.01).natural)
    closed = jax.jit(neighbours.natural_gradient_step)(mdp, jax.nn.log_softmax(table), 0.7)
    assert_allclose(stepped, closed, atol=1e-7)


def test_a_trust_region_step_is_the_exact_one():
    """The same halved steps as on the MDP, from products instead of closed forms."""
    exact, fractions = jax.jit(neighbours.trust_region_step), []
    for sign, max_kl in itertools.product((1.0, -1.0), (1e-3, 0.1, 3.0)):
        mdp, table = problem(sign)
        result = exact_step(mdp, table, max_kl).result
        new = jax.nn.log_softmax(result.point.reshape(table.shape))
        assert_allclose(new, exact(mdp, jax.nn.log_softmax(table), max_kl), atol=1e-7)
        assert float(result.divergence) <= max_kl
        fractions.append(float(result.fraction))
    assert {1.0, 0.5} <= set(fractions), fractions  # whole steps and shortened ones


def test_the_kl_of_a_step_is_what_was_asked_for_to_second_order():
    """What is missing is of third order: a hundredth of the KL leaves a tenth of the error."""
    mdp, table = problem()
    kls = [float(exact_step(mdp, table, max_kl).whole_kl) / max_kl for max_kl in (1e-2, 1e-4, 1e-6)]
    error = np.abs(np.array(kls) - 1.0)
    assert 1e-3 < error[0] < 0.1, error
    assert_allclose(error[1:], error[:2] / 10, rtol=0.2)
