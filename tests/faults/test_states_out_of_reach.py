"""What happens in a state that a policy cannot reach counts for nothing, however infinite it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.bounds import improvement_bounds
from jaxrl_pg.theory.updates import improvement
from jaxrl_pg.theory.updates.analytical import analytical_update


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def sparse_problems(seed, num, states, actions):
    """Each action has one or two successors; both policies leave actions out."""
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(num, states, actions, states))
    weights *= rng.uniform(size=weights.shape) < 1.2 / states
    np.put_along_axis(weights, rng.integers(0, states, (num, states, actions, 1)), 1.0, axis=3)
    transition = weights / weights.sum(-1, keepdims=True)
    policies = rng.dirichlet(np.ones(actions), (2, num, states))
    policies *= rng.uniform(size=policies.shape) < 0.9
    np.put_along_axis(policies, rng.integers(0, actions, (2, num, states, 1)), 0.5, axis=3)
    policies /= policies.sum(-1, keepdims=True)
    start = np.eye(states)[rng.integers(0, states, num)]
    gammas = np.where(np.arange(num) % 10 == 0, 0.0, rng.uniform(0.0, 0.99, num))
    problems = mdp.MDP(transition, rng.normal(size=(num, states, actions)), start, gammas)
    return problems, policies[0], policies[1]


def reached(problem, policy):
    chain = np.einsum("sa,sak->sk", policy, problem.transition) > 0
    closure = problem.start > 0
    for _ in closure:
        closure = closure | (problem.gamma > 0) & (closure @ chain > 0)
    return closure


def test_visits_and_bounds_know_what_can_be_reached():
    problems, old, new = sparse_problems(5, 300, 6, 3)

    def both(problem, old, new):
        c = improvement_bounds.compare(problem, old, new)
        return c, improvement_bounds.expected_kl_bound(c), improvement_bounds.paper_bound(c)

    compared, bound, paper = jax.tree.map(np.asarray, jax.jit(jax.vmap(both))(problems, old, new))
    infinite = 0
    for i in range(300):
        one = jax.tree.map(lambda x, i=i: x[i], problems)
        inside = reached(one, old[i])
        np.testing.assert_array_equal(compared.visitation[i] > 0, inside)
        np.testing.assert_array_equal(compared.visitation[i] == 0, ~inside)
        np.testing.assert_array_equal(compared.new_visitation[i] > 0, reached(one, new[i]))
        leaves_out = np.any((new[i] > 0) & (old[i] == 0), axis=1)
        finite = not np.any(leaves_out & inside)
        assert np.isfinite(bound.bound[i]) == finite
        assert np.isfinite(paper.bound[i]) == (finite or one.gamma == 0)
        assert bound.gap[i] <= bound.bound[i] + 1e-12
        infinite += not finite
    assert 30 < infinite < 270


def test_no_divergence_is_minus_infinity():
    problems, old, _ = sparse_problems(6, 100, 5, 3)

    def greedy(problem, policy):
        log_policy = jnp.log(policy)
        before = solve.evaluate(problem, policy)
        update = analytical_update(log_policy, before.advantage, 0.0)
        after = solve.evaluate(problem, jnp.exp(update.log_policy))
        zero = jnp.zeros_like(before.objective)
        return improvement.account(problem.gamma, zero, log_policy, before, update, after)

    step = jax.jit(jax.vmap(greedy))(problems, old)
    assert np.all(np.asarray(step.kl) >= 0)
    assert np.all(np.isfinite(step.kl))
    assert np.all(np.asarray(step.kl_reverse) >= 0)
    np.testing.assert_allclose(step.change, step.identity, atol=1e-9)


def test_a_state_out_of_reach_keeps_its_derivative():
    # State 1 is reached with action 1 only, and every visit of it is worth 1.
    transition = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    problem = mdp.make(transition, np.zeros((2, 2)), [1.0, 0.0], 0.5)
    stays = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    visits = jax.jit(jax.value_and_grad(lambda policy: solve.visitation(problem, policy)[1]))
    value, slope = visits(stays)
    assert value == 0.0
    np.testing.assert_allclose(slope, [[0.0, 1.0], [0.0, 0.0]], atol=1e-12)
