"""REPS: duality, its constraints, monotonicity, SciPy as oracle, the analytical update inside."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose
from scipy import optimize, special

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.mdp import make
from jaxrl_pg.theory.updates import reps
from jaxrl_pg.theory.updates.analytical import analytical_update
from worked import POLICY_G, mdp_g

NUM = 5000


def updated(mdp, log_policy, epsilon):
    result = reps.reps_update(mdp, log_policy, epsilon)
    before = solve.objective(mdp, jnp.exp(log_policy))
    after = solve.objective(mdp, jnp.exp(result.log_policy))
    delta = reps.bellman_error(mdp, result.value)
    same = analytical_update(log_policy, delta, result.eta).log_policy
    return result, before, after, jnp.max(jnp.abs(jnp.exp(same) - jnp.exp(result.log_policy)))


many = jax.jit(jax.vmap(updated))
once = jax.jit(updated)
one = jax.jit(reps.reps_update)
visitation = jax.jit(solve.visitation)


def random_problems(states, actions):
    batch = random_mdps(states, NUM, states, actions, sparse=states > 2)
    policies = random_policies(2, NUM, states, actions)
    return batch, np.log(policies), random_sizes(3, NUM, -7.0, -1.0)


@cache
def solved(states, actions):
    problems = random_problems(states, actions)
    return jax.tree.map(np.asarray, (problems, many(*problems)))


@pytest.mark.theorem
@pytest.mark.parametrize(("states", "actions"), [(2, 2), (6, 3)])
def test_duality_constraints_and_improvement_on_thousands_of_mdps(states, actions):
    (batch, _, epsilon), (result, before, after, difference) = solved(states, actions)
    scale = 1.0 + np.max(np.abs(batch.reward), axis=(1, 2))
    # The gap is eta (epsilon - KL): nothing where the constraint binds.
    binding = result.eta > 1e-4 * scale
    assert_allclose(result.kl[binding], epsilon[binding], rtol=1e-8)
    assert np.all(np.abs(result.primal - result.dual)[binding] < 1e-10)
    assert np.mean(binding) > 0.8
    # Otherwise the optimal policy is inside, and eta goes to 0.
    assert np.all(result.kl <= epsilon * (1 + 1e-8))
    assert np.all(np.abs(result.primal - result.dual) < 1e-6 * scale)
    assert np.all(result.flow_error < 1e-7)
    assert_allclose(result.joint.sum((1, 2)), 1.0, atol=1e-12)
    # The joint distribution is that of the policy, so the primal is its J.
    assert_allclose((1 - batch.gamma) * after, result.primal, atol=1e-6)
    assert_allclose(((1 - batch.gamma) * after)[binding], result.primal[binding], atol=1e-9)
    # It never loses, and it is the analytical update with delta_v and eta.
    assert np.all(after - before > 1e-9)
    assert np.max(difference) < 1e-12
    assert np.max(result.iterations) < 60


@pytest.mark.parametrize("where", [0, 6])
def test_a_state_that_is_never_visited_changes_nothing(where):
    """One more state, which stays where it is and pays, but which nothing leads to."""
    (batch, log_policies, epsilon), (alone, *_) = jax.tree.map(lambda x: x[:500], solved(6, 3))

    def more(x, axis):
        return np.insert(np.asarray(x), where, 0.0, axis=axis)

    transition = more(more(batch.transition, 1), 3)
    transition[:, where, :, where] = 1.0
    reward = more(batch.reward, 1)
    reward[:, where] = 7.0
    larger = batch._replace(
        transition=jnp.asarray(transition),
        reward=jnp.asarray(reward),
        start=jnp.asarray(more(batch.start, 1)),
    )
    policies = np.insert(np.asarray(log_policies), where, -np.log(3.0), axis=1)
    result = many(larger, jnp.asarray(policies), epsilon)[0]
    assert jnp.all(result.flow_error < 1e-7)
    scale = 1.0 + jnp.max(jnp.abs(batch.reward), axis=(1, 2))
    binding = alone.eta > 1e-4 * scale
    assert_allclose(result.kl[binding], epsilon[binding], rtol=1e-8)
    assert_allclose(result.eta[binding], alone.eta[binding], rtol=1e-6)
    assert jnp.max(result.iterations) < 60  # as without it
    joint = np.delete(np.asarray(result.joint), where, axis=1)
    assert_allclose(joint[binding], alone.joint[binding], atol=1e-8)


def test_a_policy_that_is_inside_the_trust_region_is_found():
    batch, log_policies, _ = random_problems(2, 2)
    result, _, after, _ = many(batch, log_policies, jnp.full(NUM, 100.0))
    best = jax.jit(jax.vmap(solve.policy_iteration))(batch)
    best = jnp.sum(batch.start * best.value, axis=1)
    assert_allclose(after, best, atol=1e-9)
    assert jnp.max(result.flow_error) < 1e-7
    assert jnp.median(result.eta) < 1e-5


# On the MDP that the seed draws, epsilon .05: best primal and dual, eta, J before and after.
WORKED = [
    (0, 0.20496939, 0.6130, 1.339, 2.050),
    (1, -0.03283864, 1.3079, -1.599, -0.328),
    (2, 0.02357608, 1.4435, -1.178, 0.236),
]


@pytest.mark.parametrize(("seed", "best", "eta", "before", "after"), WORKED)
def test_worked_updates(seed, best, eta, before, after):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.full(8, 0.3), size=(8, 3))
    reward, start = rng.uniform(-1.0, 1.0, size=(8, 3)), rng.dirichlet(np.ones(8))
    mdp, policy = make(transition, reward, start, 0.9), rng.dirichlet(np.ones(3), size=8)
    result, *objectives, difference = once(mdp, jnp.log(policy), 0.05)
    assert_allclose([result.primal, result.dual], best, rtol=0, atol=5e-9)
    assert_allclose(result.eta, eta, rtol=0, atol=5e-5)
    assert_allclose(objectives, [before, after], rtol=0, atol=5e-4)
    assert_allclose(result.primal, 0.1 * objectives[1], rtol=1e-12)
    assert_allclose(result.kl, 0.05, rtol=1e-12)
    assert difference < 1e-15


@pytest.mark.parametrize(("gamma", "epsilon"), [(0.9, 0.05), (0.5, 0.01)])
def test_the_dual_has_no_smaller_value_says_scipy(gamma, epsilon):
    mdp = mdp_g(gamma)
    result = one(mdp, jnp.log(POLICY_G), jnp.asarray(epsilon))
    visited = np.asarray(visitation(mdp, jnp.asarray(POLICY_G)))
    q = visited[:, None] * POLICY_G

    def twin(x):
        eta, value = np.exp(x[0]), x[1:]
        delta = mdp.reward + gamma * np.asarray(mdp.transition) @ value - value[:, None]
        partition = special.logsumexp(delta / eta, b=q)
        return eta * (epsilon + partition) + (1 - gamma) * np.asarray(mdp.start) @ value

    best = optimize.minimize(twin, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    assert_allclose(result.dual, best.fun, rtol=0, atol=1e-9)
    assert_allclose(result.eta, np.exp(best.x[0]), rtol=1e-4)
    point = np.concatenate([[np.log(result.eta)], result.value])
    assert_allclose(twin(point), result.dual, rtol=0, atol=1e-12)
    at = reps.dual(mdp, jnp.log(q), jnp.asarray(epsilon), jnp.asarray(2.0), jnp.arange(3.0))
    assert_allclose(at, twin(np.array([np.log(2.0), 0.0, 1.0, 2.0])), rtol=0, atol=1e-12)


def test_the_primal_has_no_larger_value_says_scipy():
    # Over state-action distributions directly: linear objective, one convex constraint.
    mdp, epsilon = mdp_g(0.9), 0.05
    result = one(mdp, jnp.log(POLICY_G), jnp.asarray(epsilon))
    q = (np.asarray(visitation(mdp, jnp.asarray(POLICY_G)))[:, None] * POLICY_G).ravel()
    reward, transition = np.asarray(mdp.reward).ravel(), np.asarray(mdp.transition).reshape(6, 3)
    flow = np.repeat(np.eye(3), 2, axis=0) - 0.9 * transition
    solution = optimize.minimize(
        lambda p: -p @ reward,
        q,
        jac=lambda p: -reward,
        method="SLSQP",
        bounds=[(1e-9, 1)] * 6,
        constraints=[
            {"type": "eq", "fun": lambda p: flow.T @ p - 0.1 * np.asarray(mdp.start)},
            {"type": "ineq", "fun": lambda p: epsilon - np.sum(p * np.log(p / q))},
        ],
        options={"ftol": 1e-13, "maxiter": 200},
    )
    assert_allclose(result.primal, -solution.fun, rtol=0, atol=1e-7)
    assert_allclose(result.joint.ravel(), solution.x, atol=1e-4)


def test_without_a_future_it_is_the_analytical_update_itself():
    # gamma = 0: the flow constraint leaves the states as they are, and delta_v = r - v.
    mdp = mdp_g(0.5)._replace(gamma=jnp.asarray(0.0))
    result = one(mdp, jnp.log(POLICY_G), jnp.asarray(0.05))
    advantage = jax.jit(solve.evaluate)(mdp, jnp.asarray(POLICY_G)).advantage
    want = jax.jit(analytical_update)(jnp.log(POLICY_G), advantage, result.eta).log_policy
    assert_allclose(result.log_policy, want, atol=1e-9)
    assert_allclose(result.joint.sum(1), mdp.start, atol=1e-9)


def test_a_bandit_by_hand():
    # Two arms with rewards 1 and 0, each taken half of the time; the arm of p = 0.7 is at
    # KL = log 2 + .7 log .7 + .3 log .3, and eta = 1 / log(.7 / .3).
    mdp = make(np.ones((1, 2, 1)), [[1.0, 0.0]], [1.0], 0.9)
    epsilon = np.log(2) + 0.7 * np.log(0.7) + 0.3 * np.log(0.3)
    result = one(mdp, jnp.log(jnp.full((1, 2), 0.5)), epsilon)
    assert_allclose(jnp.exp(result.log_policy), [[0.7, 0.3]], rtol=1e-9)
    assert_allclose(result.eta, 1 / np.log(0.7 / 0.3), rtol=1e-9)
    assert_allclose([result.primal, result.dual], 0.7, rtol=1e-9)


def test_states_that_are_never_reached_do_no_harm():
    # State 2 leads into the others and is reached from nowhere.
    transition = np.array([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]] * 3)
    mdp = make(transition, [[1.0, 0.0], [0.0, 2.0], [5.0, -5.0]], [1.0, 0.0, 0.0], 0.9)
    result = one(mdp, jnp.log(jnp.full((3, 2), 0.5)), jnp.asarray(0.05))
    assert_allclose([result.kl, result.primal], [0.05, result.dual], atol=1e-9)
    assert jnp.all(jnp.isfinite(result.log_policy))
