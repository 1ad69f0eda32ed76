"""What entropy is good for: the worst rewards of a set, and a gate that may be closed."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import robustness, soft_values

NUM, STATES, ACTIONS = 10_000, 3, 3
OPEN, CLOSED = ("S..G", ".##.", "...."), ("S.#G", ".##.", "....")
WORST_CASE = jax.jit(robustness.worst_case)


# --- worked numbers -------------------------------------------------------------------------------


def test_a_bandit_by_hand():
    # Two arms that pay 1 and 0, temperature 1. Who always pulls the first can lose log 2 there, for
    # the second arm may get any price then: 1 - log 2. Who pulls it with 3/4 has x = log(3/2) and
    # log(1/2), a loss of .75 log 1.5 + .25 log .5 = .130812: .619188.
    mdp = mdps.make(np.ones((1, 2, 1)), [[1.0, 0.0]], [1.0], 0.0)
    assert_allclose(WORST_CASE(mdp, np.array([[1.0, 0.0]]), 1.0), 1 - np.log(2), rtol=1e-13)
    policy = np.array([[0.75, 0.25]])
    change = robustness.adversary(policy, 1.0)
    assert_allclose(change, np.log([[1.5, 0.5]]), rtol=1e-13)
    assert_allclose(robustness.allowance(change, 1.0), 1.0, rtol=1e-14)
    assert_allclose(WORST_CASE(mdp, policy, 1.0), 0.75 - 0.130812, atol=1e-6)
    # The best of the worst cases is log((e + 1) / 2) = .620115, with odds of e.
    best = soft_values.improve(np.array([[1.0, 0.0]]), 1.0)
    assert_allclose(WORST_CASE(mdp, best, 1.0), np.log((np.e + 1) / 2), rtol=1e-13)
    assert_allclose(robustness.adversary(np.array([[1.0, 0.0]]), 1.0)[0], [np.log(2), -np.inf])


def test_a_gate_by_hand():
    # Through the gate it is 3 steps, round the wall 7, at gamma .9 to a reward of 1: .9^2 and .9^6.
    # The greedy policy earns nothing if the gate is closed. One that decides at the start, half
    # and half, earns the mean of both ways, and half of one.
    worlds = [builders.grid(rows, 0.9) for rows in (OPEN, CLOSED)]
    both = jax.tree.map(lambda *x: jnp.stack(x), *worlds)
    greedy, round_it = jax.jit(jax.vmap(solve.policy_iteration))(both).policy
    expected = jax.jit(robustness.expected_objective)
    assert_allclose(expected(both, np.array([1.0, 0.0]), greedy), 0.9**2, rtol=1e-13)
    assert_allclose(expected(both, np.array([0.0, 1.0]), greedy), 0.0, atol=1e-13)
    assert_allclose(expected(both, np.array([0.75, 0.25]), greedy), 0.75 * 0.9**2, rtol=1e-13)
    assert_allclose(expected(both, np.array([0.0, 1.0]), round_it), 0.9**6, rtol=1e-13)
    split = greedy.at[4:].set(round_it[4:]).at[0].set(0.5 * (greedy[0] + round_it[0]))
    got = expected(both, np.array([0.5, 0.5]), split)
    assert_allclose(got, 0.5 * (0.9**2 + 0.9**6) / 2 + 0.5 * 0.9**6 / 2, rtol=1e-12)


# --- theorems, on random MDPs ---------------------------------------------------------------------


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, 0))
def study(mdp, policy, temperature, draws):
    def paid(policy, change):
        return solve.objective(mdp._replace(reward=mdp.reward - change), policy)

    worst = robustness.adversary(policy, temperature)
    # Any change becomes one that uses the whole allowance, by one number for each state.
    used = robustness.allowance(draws, temperature)[:, None]
    allowed = draws - temperature * jnp.log(used)
    best = soft_values.policy_iteration(mdp, temperature).policy
    hard = solve.policy_iteration(mdp)
    return {
        "worst": paid(policy, worst),
        "said": robustness.worst_case(mdp, policy, temperature),
        "other": paid(policy, allowed),
        "used": jnp.stack([robustness.allowance(x, temperature) for x in (worst, allowed)]),
        "best": robustness.worst_case(mdp, best, temperature),
        "hard": robustness.worst_case(mdp, hard.policy, temperature),
        "optimum": mdp.start @ hard.value,
    }


@pytest.mark.theorem
def test_the_soft_optimal_policy_has_the_best_worst_case():
    rng = np.random.default_rng(0)
    batch = random_mdps(1, NUM, STATES, ACTIONS, 0.8, sparse=0.3)
    policy = 0.99 * random_policies(2, NUM, STATES, ACTIONS) + 0.01 / ACTIONS
    temperature = random_sizes(3, NUM, np.log(0.1), np.log(3.0))
    draws = rng.normal(size=(NUM, STATES, ACTIONS))
    found = jax.tree.map(np.asarray, study(batch, policy, temperature, draws))
    assert_allclose(found["used"], 1.0, atol=1e-11)
    assert_allclose(found["worst"], found["said"], atol=1e-10)
    assert np.min(found["other"] - found["said"]) > -1e-10
    assert np.min(found["best"] - found["said"]) > -1e-10
    # A policy without doubts loses tau log|A| a step, and is worse than the soft-optimal one.
    loss = temperature * np.log(ACTIONS) / (1 - 0.8)
    assert_allclose(found["hard"], found["optimum"] - loss, atol=1e-9)
    assert np.min(found["best"] - found["hard"]) > 0.0
    assert np.median(found["best"] - found["hard"]) > 0.1


def test_without_an_adversary_nothing_changes():
    mdp = jax.tree.map(lambda x: x[0], random_mdps(4, 1, STATES, ACTIONS, 0.8))
    policy = random_policies(5, 1, STATES, ACTIONS)[0]
    assert_allclose(robustness.adversary(policy, 0.0), 0.0)
    plain = solve.objective(mdp, policy)
    for temperature in (1e-12, 0.0):
        assert_allclose(WORST_CASE(mdp, policy, temperature), plain, atol=1e-10)
    sure = np.eye(ACTIONS)[:STATES]
    assert_allclose(robustness.adversary(sure, 0.0), 0.0, atol=0.0)
    assert_allclose(robustness.worst_case(mdp, sure, 0.0), WORST_CASE(mdp, sure, 0.0), rtol=1e-14)
    with pytest.raises(ValueError, match="temperature is -1"):
        robustness.worst_case(mdp, policy, -1.0)
    with pytest.raises(ValueError, match="temperature is -1"):
        robustness.adversary(policy, -1.0)
