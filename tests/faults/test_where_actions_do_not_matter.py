"""REPS where some or all actions are equally good: the policy stays, and no flow is lost."""

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.updates import reps

NUM, STATES, ACTIONS = 200, 4, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@jax.jit
@jax.vmap
def updated(problem, log_policy, epsilon):
    result = reps.reps_update(problem, log_policy, epsilon)
    before = (1.0 - problem.gamma) * solve.objective(problem, np.exp(1.0) ** log_policy)
    best = solve.policy_iteration(problem).value @ problem.start * (1.0 - problem.gamma)
    return result, before, best


def problems(kind):
    rng = np.random.default_rng(sum(map(ord, kind)))
    transition = rng.dirichlet(np.full(STATES, 0.5), (NUM, STATES, ACTIONS))
    reward = rng.normal(size=(NUM, STATES, ACTIONS)) * np.exp(rng.normal(size=(NUM, 1, 1)))
    if kind == "same actions":
        transition[:], reward[:] = transition[:, :, :1], reward[:, :, :1]
    elif kind == "same actions in some states":
        same = np.arange(STATES) < rng.integers(1, STATES, (NUM, 1))
        transition = np.where(same[:, :, None, None], transition[:, :, :1], transition)
        reward = np.where(same[:, :, None], reward[:, :, :1], reward)
    elif kind == "constant reward":
        reward[:] = reward[:, :1, :1]
    else:  # one action is better by next to nothing
        transition[:], reward[:] = transition[:, :, :1], reward[:, :, :1]
        reward[:, 0, 1] += 10.0 ** -rng.integers(2, 14, NUM)
    start, gamma = rng.dirichlet(np.ones(STATES), NUM), rng.uniform(0.0, 0.99, NUM)
    policy = rng.dirichlet(np.ones(ACTIONS), (NUM, STATES))
    return mdp.MDP(transition, reward, start, gamma), np.log(policy)


@pytest.mark.parametrize(
    "kind", ["same actions", "same actions in some states", "constant reward", "nearly the same"]
)
def test_the_flow_is_balanced_and_nothing_is_lost(kind):
    problem, log_policy = problems(kind)
    scale = 1.0 + np.max(np.abs(problem.reward), axis=(1, 2))
    for epsilon in (0.0, 0.05, 1e3):
        result, before, best = updated(problem, log_policy, np.full(NUM, epsilon))
        assert np.max(result.flow_error) < (1e-7 if kind == "nearly the same" else 1e-8)
        assert np.all(result.primal >= before - 1e-9 * scale)
        assert np.all(result.primal <= best + 1e-8 * scale)
        assert np.all(result.kl <= epsilon + 1e-9)
        if epsilon == 0.0 or kind in ("same actions", "constant reward"):
            assert_allclose(result.log_policy, log_policy, atol=1e-12)
            assert_allclose(result.primal, before, atol=1e-12 * np.max(scale))


def test_a_state_whose_actions_are_never_met_does_not_hide_it():
    # State 2 has advantages, and is out of reach; the policy is deterministic in state 1.
    transition = np.full((3, 2, 3), 1.0) * [0.5, 0.5, 0.0]
    problem = mdp.make(transition, [[1.0, 1.0], [0.0, 9.0], [50.0, -50.0]], [0.3, 0.7, 0.0], 0.8)
    with np.errstate(divide="ignore"):
        log_policy = np.log([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    result = jax.jit(reps.reps_update)(problem, log_policy, 0.05)
    assert_allclose(result.primal, 0.2 * (0.3 + 4.0 * 0.5), atol=1e-12)  # (1 - gamma) J
    assert_allclose(np.exp(result.log_policy), np.exp(log_policy), atol=1e-12)
    assert result.flow_error < 1e-12
