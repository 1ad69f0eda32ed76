"""The policy gradient from another policy's steps, and what V-trace converges to."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.ops import off_policy_returns
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.updates import off_policy_gradient as opg

NUM = 300
evaluate = jax.jit(solve.evaluate)
corrected = jax.jit(opg.corrected_gradient)
uncorrected = jax.jit(opg.uncorrected_gradient)


def problem(seed=0):
    mdp = jax.tree.map(lambda x: x[0], random_mdps(seed, 1, 3, 2, 0.9))
    pi, mu = random_policies(seed, 2, 3, 2)
    return mdp, pi, mu


def expectation(visited, mu, weight, pi):
    """`E_{s~d, a~mu}[weight grad log pi]` as a sum over states, actions and logits."""
    total = np.zeros_like(pi)
    for s, a in itertools.product(*map(range, pi.shape)):
        score = -pi[s].copy()
        score[a] += 1.0
        total[s] += visited[s] * mu[s, a] * weight[s, a] * score
    return total


def test_both_gradients_are_expectations_over_the_behaviour_policys_steps():
    mdp, pi, mu = problem()
    visited, of_pi, of_mu = evaluate(mdp, mu).visitation, evaluate(mdp, pi), evaluate(mdp, mu)
    want = expectation(visited, mu, pi / mu * np.asarray(of_pi.advantage), pi) / 0.1
    assert_allclose(corrected(mdp, np.log(pi) + 3.0, mu), want, atol=1e-12)
    # A baseline of the state changes nothing: the same with Q.
    want = expectation(visited, mu, pi / mu * np.asarray(of_pi.q), pi) / 0.1
    assert_allclose(corrected(mdp, np.log(pi), mu), want, atol=1e-12)
    without = expectation(visited, mu, np.asarray(of_mu.advantage), pi) / 0.1
    assert_allclose(uncorrected(mdp, np.log(pi), mu), without, atol=1e-12)
    assert np.abs(without - want).max() > 0.1


def test_from_its_own_steps_both_are_the_policy_gradient():
    mdp, pi, _ = problem(1)
    want = solve.policy_gradient(mdp, np.log(pi))
    for gradient in (corrected, uncorrected):
        assert_allclose(gradient(mdp, np.log(pi), pi), want, atol=1e-12)


def test_a_step_of_any_length_lowers_the_value_of_no_state():
    mdps, pis, mus = random_mdps(2, NUM, 4, 3), *(random_policies(s, NUM, 4, 3) for s in (3, 4))
    rates = random_sizes(5, NUM, -3.0, 5.0)

    def gain(mdp, pi, mu, rate):
        step = rate * opg.corrected_gradient(mdp, jnp.log(pi), mu)
        after = solve.evaluate(mdp, jax.nn.softmax(jnp.log(pi) + step)).value
        return after - solve.evaluate(mdp, pi).value

    gains = np.asarray(jax.jit(jax.vmap(gain))(mdps, pis, mus, rates))
    assert gains.min() > -1e-9
    assert gains.max() > 0.1


# --- what V-trace converges to ------------------------------------------------------------------


def test_the_clipped_policy_worked():
    # min(1 * mu, pi) = .25 .25 and .5 .3: halves, and 5/8 and 3/8.
    pi, mu = np.array([[0.75, 0.25], [0.7, 0.3]]), np.array([[0.25, 0.75], [0.5, 0.5]])
    assert_allclose(opg.clipped_policy(pi, mu, 1.0), [[0.5, 0.5], [0.625, 0.375]])
    assert_allclose(opg.clipped_policy(pi, mu, 3.0), pi)
    assert_allclose(opg.clipped_policy(pi, mu, 1e-3), mu)
    with pytest.raises(ValueError, match=r"rho_clip is 0: give one in \(0, inf\)"):
        opg.clipped_policy(pi, mu, 0.0)


@cache
def trajectories(states=2, actions=2, steps=3):
    """Every sequence of actions and successors, `[N, steps, 2]`."""
    one = list(itertools.product(range(actions), range(states)))
    return np.array(list(itertools.product(one, repeat=steps)))


@pytest.mark.parametrize(("rho_clip", "c_clip"), [(0.8, 0.8), (1.5, 1.0), (np.inf, np.inf)])
def test_the_clipped_policys_value_is_where_vtrace_stays(rho_clip, c_clip):
    """The expected error is 0 there, summed over all trajectories of three steps of mu.

    Ratios are 2.25, 1/6, 0.5 and 1.75, so that both finite clips hold in both states.
    """
    mdp = jax.tree.map(lambda x: x[0], random_mdps(6, 1, 2, 2, 0.9))
    pi, mu = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([[0.4, 0.6], [0.6, 0.4]])
    clipped = pi if np.isinf(rho_clip) else opg.clipped_policy(pi, mu, rho_clip)
    path = trajectories()
    action, successor = path[..., 0].T, path[..., 1].T
    for first in range(2):
        state = np.concatenate([np.full((1, len(path)), first), successor[:-1]])
        chance = np.prod(mu[state, action] * mdp.transition[state, action, successor], axis=0)
        assert_allclose(chance.sum(), 1.0)
        never = np.zeros(state.shape, bool)
        for policy, stays in ((clipped, True), (mu, False)):
            value = np.asarray(evaluate(mdp, policy).value)
            found = off_policy_returns.vtrace(
                *((pi / mu)[state, action], mdp.reward[state, action]),
                *(value[state], value[successor], never, never),
                *(0.9, 0.7, rho_clip, c_clip),
            )
            error = chance @ np.asarray(found.target[0] - value[state[0]])
            assert (abs(error) < 1e-12) == stays


# --- what ratios repair -------------------------------------------------------------------------


def climb(gradient, gamma, steps=4000):
    """Probabilities of the best actions in the two states after gradient ascent, and J."""
    mdp, mu = opg.two_bets(gamma)
    rise = jax.jit(
        lambda logits: jax.lax.fori_loop(
            0, steps, lambda _, x: x + 0.3 * gradient(mdp, x, mu), logits
        )
    )
    policy = jax.nn.softmax(rise(jnp.zeros((3, 2))))
    return np.asarray([policy[0, 1], policy[1, 0]]), float(solve.objective(mdp, policy))


def test_without_ratios_two_bets_end_in_the_wrong_policy():
    """By hand at gamma = .9: V_mu = .525, .5; d_mu = .1, .045; mu = .5; 1 - gamma = .1.

    A_mu(0) = .6 - .525, .45 - .525 = +-.075;   A_mu(1) = +-.5
    gradient: .1 * .5 * .075 / .1 = .0375 in state 0; .045 * .5 * .5 / .1 = .1125 in state 1
    """
    mdp, mu = opg.two_bets(0.9)
    found = uncorrected(mdp, np.zeros((3, 2)), mu)
    assert_allclose(found[:2], [[0.0375, -0.0375], [0.1125, -0.1125]], rtol=1e-12)
    assert_allclose(found[2], 0.0)
    best, objective = climb(opg.uncorrected_gradient, 0.9)
    assert best[0] < 0.01
    assert best[1] > 0.99
    assert_allclose(objective, 0.6, atol=0.01)


def test_without_ratios_the_action_taken_often_goes_before_the_best():
    """Three arms: V_mu = .1 + .45 = .55, mu A_mu = .1 .45, .5 .35, -.4 .55 = .045, .175, -.22.

    Each step adds that to the logits, so that the second arm wins, though the first pays more. It
    pays more than mu does.
    """
    bandit = mdps.make(np.ones((1, 3, 1)), [[1.0, 0.9, 0.0]], [1.0], 0.0)
    mu = np.array([[0.1, 0.5, 0.4]])
    for logits in (np.zeros((1, 3)), np.array([[5.0, 0.0, 0.0]])):
        assert_allclose(uncorrected(bandit, logits, mu), [[0.045, 0.175, -0.22]])
    # With ratios it is the policy gradient here: pi (r - pi . r), largest for the first arm.
    with_ratios = corrected(bandit, np.zeros((1, 3)), mu)
    assert_allclose(with_ratios, np.array([[1.1, 0.8, -1.9]]) / 9.0)


@pytest.mark.parametrize("name", ["uniform", "two actions"])
def test_without_ratios_it_is_the_greedy_action_for_a_uniform_policy_or_two_actions(name):
    actions = 3 if name == "uniform" else 2
    batch = random_mdps(7, 50, 4, actions)
    mus = random_policies(8, 50, 4, actions) if actions == 2 else np.full((50, 4, 3), 1.0 / 3.0)
    both = jax.jit(
        jax.vmap(lambda mdp, mu: (opg.uncorrected_gradient(mdp, mu, mu), evaluate(mdp, mu).q))
    )
    gradient, q = both(batch, mus)
    np.testing.assert_array_equal(np.argmax(gradient, axis=2), np.argmax(q, axis=2))


@pytest.mark.parametrize("gamma", [0.7, 0.9])
def test_with_ratios_they_end_in_the_best(gamma):
    optimum = solve.policy_iteration(opg.two_bets(gamma).mdp)
    assert_allclose(optimum.value, [gamma, 1.0, 0.0])
    best, objective = climb(opg.corrected_gradient, gamma, 40_000)
    assert np.all(best > 0.95)
    assert objective > 0.97 * gamma
    # It first goes the wrong way, as long as pi plays the second bet badly.
    mdp, mu = opg.two_bets(gamma)
    assert corrected(mdp, np.zeros((3, 2)), mu)[0, 1] < 0.0
