"""The methods beside the analytical update: closed forms, oracles, guarantees, identities."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import (
    OPTIMAL_OBJECTIVE_G,
    OPTIMAL_VALUE_G,
    random_mdps,
    random_policies,
    random_sizes,
)
from numpy.testing import assert_allclose

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.probability import kl_divergence, log_of
from jaxrl_pg.theory.updates import neighbours
from jaxrl_pg.theory.updates.analytical import analytical_update
from worked import POLICY_G, mdp_g

NUM = 10_000
evaluate = jax.jit(solve.evaluate)
update_of = jax.jit(analytical_update)
ppo_step = jax.jit(neighbours.ppo_step)  # any number of steps in one program
a2c_step = jax.jit(neighbours.a2c_step)


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        mdp = jax.tree.map(lambda x: x[0], random_mdps(0, 1, 3, 2, 0.9))
        return mdp, jnp.log(POLICY_G), evaluate(mdp, jnp.asarray(POLICY_G))


def fisher(mdp, policy, visited):
    """Return E_d,pi [grad log pi grad log pi^T] with NumPy; logits are `[S A]` in a row."""
    num_states, num_actions = policy.shape
    total = np.zeros((policy.size, policy.size))
    for s in range(num_states):
        for a in range(num_actions):
            score = np.zeros_like(policy)
            score[s] = -policy[s]
            score[s, a] += 1.0
            total += visited[s] * policy[s, a] * np.outer(score, score)
    return total


def test_the_natural_gradient_is_the_analytical_update(problem):
    mdp, log_policy, solution = problem
    inverse = np.linalg.pinv(fisher(mdp, POLICY_G, np.asarray(solution.visitation)))
    gradient = np.asarray(jax.jit(solve.policy_gradient)(mdp, log_policy))
    natural_step = jax.jit(neighbours.natural_gradient_step)
    natural = (inverse @ gradient.ravel()).reshape(gradient.shape)
    for eta in (0.01, 0.3):
        want = jax.nn.log_softmax(log_policy + eta * natural)
        got = natural_step(mdp, log_policy, eta)
        assert_allclose(got, want, atol=1e-11)
        rule = update_of(log_policy, solution.advantage, (1 - 0.9) / eta)
        assert_allclose(got, rule.log_policy, atol=1e-13)


def test_the_analytical_update_maximises_the_penalised_surrogate(problem):
    _, log_policy, solution = problem
    goal = jax.jit(partial(neighbours.penalised_surrogate, solution, log_policy, 0.3))
    update = update_of(log_policy, solution.advantage, 0.3)
    assert_allclose(goal(update.log_policy), solution.visitation @ update.gain, atol=1e-14)
    assert_allclose(jax.jit(jax.grad(goal))(update.log_policy), 0.0, atol=1e-12)
    noise = np.random.default_rng(1).normal(size=(200, 3, 2))
    others = jax.vmap(goal)(update.log_policy[None] + noise)
    assert jnp.max(others) < goal(update.log_policy)


def test_projecting_onto_the_target_is_the_penalised_surrogate(problem):
    # grad KL(pi || pi_new) = -(1/C) grad [E_pi A - C KL(pi || pi_old)], at any pi.
    _, log_policy, solution = problem
    visited = solution.visitation
    slope_to_target = jax.jit(jax.grad(neighbours.reverse_projection, 2))
    slope_of_goal = jax.jit(jax.grad(neighbours.penalised_surrogate, 3))
    for constant in (0.1, 2.0):
        target = update_of(log_policy, solution.advantage, constant).log_policy
        for seed in range(3):
            logits = 2.0 * np.random.default_rng(seed).normal(size=(3, 2))
            left = slope_to_target(visited, target, logits)
            right = -slope_of_goal(solution, log_policy, constant, logits) / constant
            assert_allclose(left, right, atol=1e-12)
            assert jnp.max(jnp.abs(left)) > 1e-3


def test_surrogates_by_hand(problem):
    _, log_policy, solution = problem
    logits = jnp.array([[0.3, -0.2], [0.0, 1.0], [-0.5, 0.5]])
    new = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    visited, advantage = np.asarray(solution.visitation), np.asarray(solution.advantage)
    plain = clipped = likelihood = 0.0
    for s in range(3):
        for a in range(2):
            ratio, weight = new[s, a] / POLICY_G[s, a], visited[s] * POLICY_G[s, a]
            plain += weight * ratio * advantage[s, a]
            bounded = min(max(ratio, 0.8), 1.2)
            clipped += weight * min(ratio * advantage[s, a], bounded * advantage[s, a])
            likelihood += weight * advantage[s, a] * np.log(new[s, a])
    assert_allclose(neighbours.surrogate(solution, log_policy, logits), plain, atol=1e-14)
    got = neighbours.clipped_surrogate(solution, log_policy, 0.2, logits)
    assert_allclose(got, clipped, atol=1e-14)
    assert abs(clipped - plain) > 1e-3  # some ratio is clipped
    got = neighbours.likelihood_surrogate(solution, log_policy, logits)
    assert_allclose(got, likelihood, atol=1e-14)


def test_all_surrogates_have_the_gradient_of_the_objective_at_the_old_policy(problem):
    mdp, log_policy, solution = problem
    want = (1 - 0.9) * jax.jit(solve.policy_gradient)(mdp, log_policy)
    for goal in (
        partial(neighbours.surrogate, solution, log_policy),
        partial(neighbours.clipped_surrogate, solution, log_policy, 0.2),
        partial(neighbours.likelihood_surrogate, solution, log_policy),
        partial(neighbours.penalised_surrogate, solution, log_policy, 3.0),
    ):
        assert_allclose(jax.jit(jax.grad(goal))(log_policy), want, atol=1e-14)


def test_a2c_is_the_policy_gradient_however_many_steps_and_ppo_with_one(problem):
    mdp, log_policy, _ = problem
    want = jax.jit(neighbours.policy_gradient_step)(mdp, log_policy, 0.5)
    rate = 0.5 / (1 - 0.9)
    assert_allclose(ppo_step(mdp, log_policy, rate, 0.2, 1), want, atol=1e-13)
    assert_allclose(a2c_step(mdp, log_policy, rate, 1), want, atol=1e-13)
    assert_allclose(a2c_step(mdp, log_policy, rate / 5, 5), want, atol=1e-13)
    others = ppo_step(mdp, log_policy, rate, 0.2, 5)
    assert jnp.max(jnp.abs(others - want)) > 1e-3


def test_ppo_stops_near_its_clip_range_and_a2c_does_not(problem):
    mdp, log_policy, _ = problem
    clipped = jnp.exp(ppo_step(mdp, log_policy, 0.05, 0.2, 2000) - log_policy)
    free = jnp.exp(a2c_step(mdp, log_policy, 0.05, 2000) - log_policy)
    # Two actions: the one with the positive advantage stops at 1.2, or the other at 0.8.
    reached = jnp.minimum(jnp.max(clipped, axis=1) - 1.2, 0.8 - jnp.min(clipped, axis=1))
    assert jnp.all(reached < 0.01)
    assert jnp.max(free) > 1.3


def test_policy_gradient_of_a_bandit():
    # Rewards (1, 0, 1/2), 100 steps of 0.5 from the uniform policy; a computed number. With
    # gamma = 0 J is the reward.
    mdp = solve.MDP(jnp.ones((1, 3, 1)), jnp.array([[1.0, 0.0, 0.5]]), jnp.ones(1), jnp.zeros(()))
    step = jax.jit(neighbours.policy_gradient_step)
    log_policy = jnp.log(jnp.full((1, 3), 1 / 3))
    for _ in range(100):
        log_policy = step(mdp, log_policy, 0.5)
    want = [[0.975872626939, 0.008021264264, 0.016106108797]]
    assert_allclose(jnp.exp(log_policy), want, rtol=0, atol=1e-11)


def test_a_mixture_by_hand():
    # One state, rewards (1, 0), gamma = 1/2, pi = (1/2, 1/2): V = 1, A = (1/2, -1/2), G = w = 1/2.
    # Curvature 2 gamma w / (1 - gamma) = 1, alpha = G / 2 = 1/4, guaranteed (1/8 - 1/16) / .5.
    mdp = solve.MDP(jnp.ones((1, 2, 1)), jnp.array([[1.0, 0.0]]), jnp.ones(1), jnp.asarray(0.5))
    conservative_step = jax.jit(neighbours.conservative_step)
    mixed = conservative_step(mdp, jnp.log(jnp.full((1, 2), 0.5)))
    assert_allclose([mixed.rate, mixed.certificate], [0.25, 0.125])
    assert_allclose(jnp.exp(mixed.log_policy), [[0.625, 0.375]])
    free = conservative_step(mdp._replace(gamma=jnp.asarray(0.0)), mixed.log_policy)
    assert_allclose([free.rate, free.certificate], [1.0, 0.375])
    assert_allclose(free.log_policy, log_of(jnp.array([[1.0, 0.0]])))


def steps_and_changes(mdp, log_policy, rate):
    before = solve.evaluate(mdp, jnp.exp(log_policy))
    mixed = neighbours.conservative_step(mdp, log_policy)
    trusted = neighbours.trust_region_step(mdp, log_policy, 0.01)
    greedy = neighbours.policy_iteration_step(mdp, log_policy)
    objective = partial(solve.objective, mdp)
    climbed = neighbours.policy_gradient_step(mdp, log_policy, rate)
    after = [objective(jnp.exp(x)) for x in (mixed.log_policy, trusted, greedy, climbed)]
    kl = jnp.vdot(before.visitation, kl_divergence(log_policy, trusted))
    gain = jnp.vdot(before.visitation, jnp.sum(jnp.exp(trusted) * before.advantage, axis=1))
    best = jnp.vdot(before.visitation, jnp.max(before.advantage, axis=1))
    return jnp.stack(after) - before.objective, mixed, kl, gain, best


@pytest.mark.theorem
def test_guarantees_of_the_neighbours_on_ten_thousand_mdps():
    batch = random_mdps(5, NUM, 5, 3, sparse=True)
    log_policies = np.log(random_policies(2, NUM, 5, 3))
    rates = random_sizes(3, NUM, -7.0, 7.0)
    together = jax.jit(jax.vmap(steps_and_changes))(batch, log_policies, rates)
    changes, mixed, kl, gain, best = jax.tree.map(np.asarray, together)
    rounding = 1e-11 / (1 - batch.gamma)
    # Conservative policy iteration: its promise is kept, and is worth something.
    assert np.all(changes[:, 0] >= mixed.certificate - rounding)
    assert np.all((mixed.rate > 0) & (mixed.rate <= 1))
    assert np.mean(mixed.certificate > 1e-6) > 0.9
    # Policy iteration gains as much as its advantage under its own visitation, never less than 0.
    assert np.all(changes[:, 2] >= -rounding)
    # Exact gradient ascent in logits never loses either, small or huge as the step may be.
    assert np.all(changes[:, 3] >= -rounding)
    # The trust region is kept and used, and the surrogate does not fall.
    assert np.all(kl <= 0.01)
    assert np.median(kl) > 0.004
    assert np.all(gain >= 0)
    assert np.all(gain <= best + rounding)


def test_iterating_policy_iteration_finds_the_optimum():
    mdp, log_policy = mdp_g(0.9), jnp.log(POLICY_G)
    step = jax.jit(neighbours.policy_iteration_step)
    for _ in range(4):
        log_policy = step(mdp, log_policy)
    solution = evaluate(mdp, jnp.exp(log_policy))
    assert_allclose(solution.objective, OPTIMAL_OBJECTIVE_G, atol=1e-11)
    assert_allclose(solution.value, OPTIMAL_VALUE_G, atol=1e-11)
