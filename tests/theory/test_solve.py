"""Exact solutions: worked numbers, plain-NumPy twins, identities, derivatives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import OPTIMAL_OBJECTIVE_G, OPTIMAL_VALUE_G, random_mdps, random_policies
from jax.test_util import check_grads
from numpy.testing import assert_allclose

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from worked import POLICY_G, mdp_g

# Compiled as wholes: operation by operation they take several times as long.
EVALUATE = jax.jit(jax.vmap(solve.evaluate))
evaluate = jax.jit(solve.evaluate)
value_iteration = jax.jit(solve.value_iteration)
modified_policy_iteration = jax.jit(solve.modified_policy_iteration)
policy_iteration = jax.jit(solve.policy_iteration)
objective = jax.jit(solve.objective)
finite_horizon_evaluate = jax.jit(solve.finite_horizon_evaluate)
finite_horizon_optimal = jax.jit(solve.finite_horizon_optimal, static_argnums=1)
policy_gradient = jax.jit(solve.policy_gradient)
ITERATE = jax.jit(jax.vmap(solve.policy_iteration))
SIZES = [(2, 2, 0.0, False), (7, 3, 0.9, True), (20, 5, 0.99, False), (150, 2, 0.95, True)]


def twin(mdp, policy):
    """Return V, Q, d and J by NumPy, from their definitions."""
    gamma, num_states = float(mdp.gamma), mdp.start.shape[0]
    transition = np.einsum("sa,sak->sk", policy, mdp.transition)
    system = np.eye(num_states) - gamma * transition
    value = np.linalg.solve(system, np.sum(policy * mdp.reward, axis=1))
    q = mdp.reward + gamma * mdp.transition @ value
    visited = (1 - gamma) * np.linalg.solve(system.T, mdp.start)
    return value, q, q - value[:, None], visited, mdp.start @ value


# --- worked numbers: the MDP of examples.mdp_g, solved independently ------------------------------


def test_worked_numbers_at_discount_nine_tenths():
    solution = evaluate(mdp_g(0.9), jnp.asarray(POLICY_G))
    assert_allclose(
        solution.value, [3.998043142162, 3.975655019200, 4.445701270425], rtol=0, atol=1e-11
    )
    assert_allclose(
        solution.q,
        [
            [3.668742635700, 4.491993901855],
            [4.120816898488, 3.913442785220],
            [4.627728499505, 4.263674041345],
        ],
        rtol=0,
        atol=1e-11,
    )
    assert_allclose(
        solution.visitation, [0.327314305537, 0.341604779924, 0.331080914539], atol=1e-11
    )
    assert_allclose(solution.objective, 4.080858330926, atol=1e-11)
    assert_allclose(jnp.max(jnp.abs(solution.advantage)), 0.493950759693, atol=1e-11)


def test_worked_numbers_at_discount_one_half():
    solution = evaluate(mdp_g(0.5), jnp.asarray(POLICY_G))
    assert_allclose(
        solution.value, [0.689894679351, 0.652012522011, 1.129185050508], rtol=0, atol=1e-11
    )
    assert_allclose(
        solution.visitation, [0.404625765370, 0.324636568106, 0.270737666525], atol=1e-11
    )
    assert_allclose(solution.objective, 0.766388106380, atol=1e-11)
    assert_allclose(jnp.max(jnp.abs(solution.advantage)), 0.465733262842, atol=1e-11)


@pytest.mark.parametrize(("gamma", "best"), [(0.9, OPTIMAL_OBJECTIVE_G), (0.5, 1.350483037520)])
def test_worked_optimum(gamma, best):
    mdp = mdp_g(gamma)
    for result in (
        value_iteration(mdp, 1e-14),
        modified_policy_iteration(mdp, 5, 1e-14),
        policy_iteration(mdp),
    ):
        assert_allclose(mdp.start @ result.value, best, atol=1e-11)
        assert_allclose(objective(mdp, result.policy), best, atol=1e-11)
    if gamma == 0.9:
        assert_allclose(policy_iteration(mdp).value, OPTIMAL_VALUE_G, atol=1e-11)


# --- twins and identities -------------------------------------------------------------------------


@pytest.mark.parametrize(("states", "actions", "gamma", "sparse"), SIZES)
def test_evaluation_equals_its_numpy_twin(states, actions, gamma, sparse):
    batch = random_mdps(states, 3, states, actions, gamma, sparse=sparse)
    policies = random_policies(1, 3, states, actions)
    solutions = EVALUATE(batch, policies)
    for i in range(3):
        one = jax.tree.map(lambda x, i=i: np.asarray(x[i]), batch)
        for got, want in zip(solutions, twin(one, np.asarray(policies[i])), strict=True):
            assert_allclose(got[i], want, rtol=1e-9, atol=1e-10)


@pytest.mark.theorem
def test_a_solution_keeps_its_identities_on_ten_thousand_mdps():
    batch = random_mdps(0, 10_000, 6, 3, 0.9, sparse=True)
    policies = random_policies(1, 10_000, 6, 3)
    got = EVALUATE(batch, policies)
    assert_allclose(got.visitation.sum(1), 1.0, atol=1e-12)
    assert jnp.min(got.visitation) >= -1e-15
    assert_allclose(jnp.sum(policies * got.advantage, axis=2), 0.0, atol=1e-11)
    # J = sum_s d(s) r_pi(s) / (1 - gamma)
    reward = jnp.sum(policies * batch.reward, axis=2)
    flow = jnp.sum(got.visitation * reward, axis=1) / (1.0 - batch.gamma)
    assert_allclose(got.objective, flow, atol=1e-10)
    assert_allclose(jax.jit(jax.vmap(solve.objective))(batch, policies), got.objective, atol=1e-12)
    visited = jax.jit(jax.vmap(solve.visitation))(batch, policies)
    assert_allclose(visited, got.visitation, atol=1e-14)


def test_the_solvers_agree_and_their_policies_are_optimal():
    batch = random_mdps(2, 200, 8, 3, 0.95)
    by_values = jax.jit(jax.vmap(partial(solve.value_iteration, tolerance=1e-12)))(batch)
    by_sweeps = jax.jit(jax.vmap(partial(solve.modified_policy_iteration, sweeps=20)))(batch)
    by_policies = ITERATE(batch)
    assert_allclose(by_values.value, by_policies.value, atol=1e-10)
    assert_allclose(by_sweeps.value, by_policies.value, atol=1e-8)
    improved = jax.jit(jax.vmap(solve.bellman_optimality))(batch, by_policies.value)
    assert_allclose(improved, by_policies.value, atol=1e-11)
    assert jnp.all(by_policies.residual == 0)
    # Evaluating more between improvements never takes more of them.
    assert jnp.all(by_policies.iterations <= by_sweeps.iterations)
    assert jnp.all(by_sweeps.iterations <= by_values.iterations)


def test_value_iteration_keeps_its_promise_about_the_distance():
    batch = random_mdps(3, 200, 8, 3, 0.9)
    rough = jax.jit(jax.vmap(partial(solve.value_iteration, tolerance=1e-2)))(batch)
    exact = ITERATE(batch)
    distance = jnp.max(jnp.abs(rough.value - exact.value), axis=1)
    assert jnp.all(rough.residual <= 1e-2)
    assert jnp.all(distance <= 1e-2 * 0.9 / 0.1)
    assert jnp.max(distance) > 1e-3  # and it did stop early


@pytest.mark.parametrize("sweeps", [0, 2])
def test_the_policy_is_greedy_for_the_value_that_comes_with_it(sweeps):
    # Action 0 pays 1 and ends, action 1 leads on to 10. From V = 0 it is action 0, for 1; the value
    # after that sweep knows the 10, and so .9 * 10 > 1.
    transition = np.zeros((3, 2, 3))
    transition[:, :, 2] = 1.0
    transition[0, 1] = [0.0, 1.0, 0.0]
    mdp = mdps.make(transition, [[1.0, 0.0], [10.0, 10.0], [0.0, 0.0]], [1.0, 0.0, 0.0], 0.9)
    found = modified_policy_iteration(mdp, sweeps, 1e-10, 1)
    assert_allclose(found.value, [1.0, 10.0, 0.0])
    assert_allclose(found.policy, mdps.greedy_policy(solve.q_values(mdp, found.value)))
    assert_allclose(found.policy[0], [0.0, 1.0])


def test_an_iteration_limit_is_kept():
    result = value_iteration(mdp_g(0.9), 0.0, max_iterations=7)
    assert result.iterations == 7
    assert result.residual > 0


# --- finite horizon -------------------------------------------------------------------------------


def test_finite_horizon_by_hand():
    # One state, two actions with rewards 1 and 0, gamma 1/2, always the first: with three steps to
    # go 1 + 1/2 + 1/4 = 1.75, then 1.5, 1, 0. Taking the second first costs the 1.
    mdp = mdps.make([[[1.0], [1.0]]], [[1.0, 0.0]], [1.0], 0.5)
    policies = jnp.tile(jnp.array([[[1.0, 0.0]]]), (3, 1, 1))
    values, q = finite_horizon_evaluate(mdp, policies)
    assert_allclose(values[:, 0], [1.75, 1.5, 1.0, 0.0])
    assert_allclose(q[:, 0], [[1.75, 0.75], [1.5, 0.5], [1.0, 0.0]])
    best, _ = finite_horizon_optimal(mdp, 3)
    assert_allclose(best, values)
    with_end, _ = finite_horizon_evaluate(mdp, policies, jnp.array([8.0]))
    assert_allclose(with_end[:, 0], [2.75, 3.5, 5.0, 8.0])  # 8 / 2^3 = 1 more at the start


def test_the_soft_maximum_by_hand():
    # 2 log(e^(2 log 3 / 2) + e^0) = 2 log 4; at temperature 0 the maximum itself.
    q = np.array([2 * np.log(3.0), 0.0])
    soft_maximum = jax.jit(solve.soft_maximum)
    assert_allclose(soft_maximum(q, 2.0), 2 * np.log(4.0), rtol=1e-14)
    assert soft_maximum(q, 0.0) == q[0]


def test_a_long_horizon_is_the_infinite_one():
    mdp = mdp_g(0.9)
    policy = jnp.asarray(POLICY_G)
    values, _ = finite_horizon_evaluate(mdp, jnp.tile(policy[None], (400, 1, 1)))
    assert_allclose(values[0], evaluate(mdp, policy).value, atol=1e-12)
    best, q = finite_horizon_optimal(mdp, 400)
    assert_allclose(best[0], policy_iteration(mdp).value, atol=1e-12)
    assert_allclose(q.max(axis=2), best[:-1])
    assert jnp.all(best[0] >= values[0])


# --- derivatives ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("states", "gamma"), [(3, 0.5), (10, 0.9), (140, 0.9)])
def test_the_policy_gradient_theorem_equals_implicit_differentiation(states, gamma):
    mdp = jax.tree.map(lambda x: x[0], random_mdps(4, 1, states, 3, gamma))
    logits = np.random.default_rng(5).normal(size=(states, 3))
    by_theorem = policy_gradient(mdp, logits)
    by_autodiff = jax.jit(jax.grad(lambda x: solve.objective(mdp, jax.nn.softmax(x))))(logits)
    assert_allclose(by_theorem, by_autodiff, atol=1e-12)
    assert_allclose(by_theorem.sum(axis=1), 0.0, atol=1e-12)  # a shift of logits changes nothing


def test_derivatives_of_every_part_agree_with_finite_differences():
    mdp, logits = mdp_g(0.9), jnp.log(jnp.asarray(POLICY_G))

    @jax.jit
    def parts(logits, reward, gamma):
        changed = mdp._replace(reward=reward, gamma=gamma)
        return solve.evaluate(changed, jax.nn.softmax(logits))

    check_grads(parts, (logits, mdp.reward, mdp.gamma), order=2, atol=1e-4, rtol=1e-4, eps=1e-5)


def test_gradients_pass_through_vmap():
    batch = random_mdps(6, 4, 130, 2, 0.9)
    logits = np.random.default_rng(7).normal(size=(4, 130, 2))

    def total(logits):
        return jnp.sum(jax.vmap(solve.objective)(batch, jax.nn.softmax(logits)))

    together = jax.jit(jax.grad(total))(logits)
    for i in range(4):
        one = jax.tree.map(lambda x, i=i: x[i], batch)
        assert_allclose(together[i], policy_gradient(one, logits[i]), atol=1e-12)


# --- bad input ------------------------------------------------------------------------------------

GOOD = {
    "transition": np.full((2, 3, 2), 0.5),
    "reward": np.zeros((2, 3)),
    "start": [0.5, 0.5],
    "gamma": 0.9,
}
BAD = [
    ({"transition": np.full((2, 3, 3), 1 / 3)}, r"transition has shape \(2, 3, 3\)"),
    ({"transition": np.full((2, 3, 2), 0.6)}, r"rows of transition must .* sums to 1\.2"),
    ({"transition": np.tile([1.5, -0.5], (2, 3, 1))}, r"smallest entry is -0\.5"),
    ({"reward": np.zeros((3, 2))}, r"reward has shape \(3, 2\)"),
    ({"reward": np.full((2, 3), np.nan)}, "reward has an entry nan"),
    ({"start": [0.5, 0.4]}, r"rows of start must .* sums to 0\.9"),
    ({"start": [1.0]}, r"start has shape \(1,\)"),
    ({"gamma": 1.0}, r"gamma is 1: give one in \[0, 1\)"),
    ({"gamma": np.nan}, "gamma is nan"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_no_mdp_is_refused(change, message):
    mdps.make(**GOOD)
    with pytest.raises(ValueError, match=message):
        mdps.make(**{**GOOD, **change})


def test_policies():
    mdp = mdps.make(**GOOD)
    assert_allclose(mdps.uniform_policy(mdp), np.full((2, 3), 1 / 3))
    assert_allclose(mdps.greedy_policy(jnp.array([[1.0, 3, 3], [2, 1, 0]])), [[0, 1, 0], [1, 0, 0]])
