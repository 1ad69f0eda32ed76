"""Agents that share a reward: one at a time never loses, all at once can."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose
from scipy import stats

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.bounds.improvement_bounds import paper_constant
from jaxrl_pg.theory.mdp import make
from jaxrl_pg.theory.updates import constants, multi_agent

NUM = 10_000
evaluate = jax.jit(solve.evaluate)
joint_policy = jax.jit(multi_agent.joint_policy)
marginal_advantage = jax.jit(multi_agent.marginal_advantage, static_argnums=2)
crowd_objective = jax.jit(multi_agent.crowd_objective)
crowd_simultaneous = jax.jit(multi_agent.crowd_simultaneous)
crowd_sequential = jax.jit(multi_agent.crowd_sequential)


def game():
    """Return a game of two agents: both act -2, one acts 1, none 0; each acts one time in ten."""
    mdp = make(np.ones((1, 4, 1)), [[0.0, 1.0, 1.0, -2.0]], [1.0], 0.5)
    return mdp, jnp.log(jnp.tile(jnp.array([[0.9, 0.1]]), (2, 1, 1)))


def objective(mdp, log_policies):
    return solve.objective(mdp, jnp.exp(multi_agent.joint_policy(log_policies)))


@jax.jit
def both_ways(mdp, log_policies, constant):
    choose = constants.fixed(constant)
    together = multi_agent.simultaneous_update(mdp, log_policies, choose)
    in_turn, steps = multi_agent.sequential_sweep(mdp, log_policies, choose)
    return objective(mdp, together), objective(mdp, in_turn), steps


# --- two agents -----------------------------------------------------------------------------------

# J before: 2 (.18 - .02) = .32. Numbers computed independently.
GAME = [
    (10.0, 0.333030, None),
    (2.0, 0.385611, None),
    (1.0, 0.446692, None),
    (0.5, 0.496962, None),
    (0.3, 0.177264, (0.7410, 0.8895)),
    (0.2, -1.0528, None),
    (0.1, -3.7419, (1.3738, 1.9564)),
    (0.05, -3.9993, (1.3999, 1.9999)),
]


@pytest.mark.parametrize(("constant", "together", "in_turn"), GAME)
def test_worked_game(constant, together, in_turn):
    mdp, log_policies = game()
    got, last, steps = both_ways(mdp, log_policies, constant)
    assert_allclose(steps.objective[0], 0.32, atol=1e-14)
    assert_allclose(got, together, rtol=0, atol=6e-5)
    assert (got < 0.32) == (constant <= 0.3)
    assert jnp.all(steps.change > 0)
    assert_allclose(steps.change, steps.identity, atol=1e-14)
    assert_allclose(steps.objective[-1] + steps.change[-1], last, atol=1e-14)
    if in_turn is not None:
        assert_allclose(steps.objective + steps.change, in_turn, rtol=0, atol=6e-5)


def test_the_game_by_hand():
    # An agent's advantage of acting: .9 (1) + .1 (-2) - .1 (1) = .6 over idling, so with C = 1/2
    # its odds 1/9 become exp(1.2) / 9.
    mdp, log_policies = game()
    act = np.exp(1.2) / (9 + np.exp(1.2))
    want = 2 * (2 * act * (1 - act) - 2 * act**2)
    assert_allclose(both_ways(mdp, log_policies, 0.5)[0], want, rtol=1e-12)


# --- joint policies and marginal advantages -------------------------------------------------------


def test_joint_policies_and_marginal_advantages_equal_plain_loops():
    policies = random_policies(0, 3, 4, 2)
    advantage = np.random.default_rng(1).normal(size=(4, 8))
    joint = np.exp(joint_policy(np.log(policies)))
    want = np.zeros((3, 4, 2))
    for s in range(4):
        for index, actions in enumerate(product(range(2), repeat=3)):
            chance = np.prod([policies[i, s, actions[i]] for i in range(3)])
            assert_allclose(joint[s, index], chance, rtol=1e-12)
            for i in range(3):
                others = chance / policies[i, s, actions[i]]
                want[i, s, actions[i]] += others * advantage[s, index]
    for i in range(3):
        got = marginal_advantage(advantage, np.log(policies), i)
        assert_allclose(got, want[i], atol=1e-12)


@pytest.mark.theorem
def test_one_at_a_time_never_loses_on_ten_thousand_mdps():
    batch = random_mdps(3, NUM, 3, 4)
    policies = random_policies(2, 2 * NUM, 3, 2).reshape(NUM, 2, 3, 2)
    constant = random_sizes(4, NUM, -7.0, 3.0)
    moved = jax.vmap(both_ways)(batch, np.log(policies), constant)
    together, in_turn, steps = jax.tree.map(np.asarray, moved)
    rounding = 1e-11 / (1 - batch.gamma)
    assert np.all(steps.change >= -rounding[:, None])
    assert np.all(steps.value_change >= -rounding[:, None])
    assert_allclose(steps.change, steps.identity, atol=1e-9)
    before = steps.objective[:, 0]
    assert np.all(in_turn >= before - rounding)
    # All at once loses in some of them.
    assert 0.005 < np.mean(together < before - 1e-6) < 0.5


def test_the_order_of_turns_is_the_one_given():
    mdp = jax.tree.map(lambda x: x[0], random_mdps(5, 1, 2, 4, 0.5))
    log_policies = np.log(random_policies(6, 2, 2, 2))
    choose = constants.scaled(0.3)
    sweep = jax.jit(multi_agent.sequential_sweep, static_argnums=(2, 3))
    back, steps = sweep(mdp, log_policies, choose, (1, 0))
    # Exchanging the agents, and the digits of their joint actions, exchanges the turns.
    order = jnp.array([0, 2, 1, 3])
    mirrored = mdp._replace(transition=mdp.transition[:, order], reward=mdp.reward[:, order])
    forth, other = sweep(mirrored, log_policies[::-1], choose, (0, 1))
    assert_allclose(back, forth[::-1], atol=1e-12)
    assert_allclose(steps.change, other.change, atol=1e-12)
    assert jnp.max(jnp.abs(back - sweep(mdp, log_policies, choose, None)[0])) > 1e-3


# --- a crowd --------------------------------------------------------------------------------------

# J before is -2 (n/4 + 4): mean n/2, variance n/4. eps = 2, so the paper's C = 4 at gamma = .5 and
# all act with 1 / (1 + exp(-1)). Numbers computed independently.
# More after than before from n = 19 on: (.2311 n - 2)^2 + .1966 n > n/4 + 4.
CROWD = [
    (16, -16.0, -12.05),
    (18, -17.0, -16.4011),
    (19, -17.5, -18.8965),
    (32, -24.0, -70.8),
    (128, -72.0, -1571.0),
]


@partial(jax.jit, static_argnums=0)
def overshoot(num):
    """Return advantages, policies and J of agents that act half of the time, after an update."""
    crowd, half = multi_agent.overshooting_crowd(num, 0.5), jnp.full(num, 0.5)
    advantages = multi_agent.crowd_advantages(crowd, half)
    constant = paper_constant(0.5, jnp.max(jnp.abs(advantages)))
    together = multi_agent.crowd_simultaneous(crowd, half, constant)
    objectives = [multi_agent.crowd_objective(crowd, x) for x in (half, together)]
    return advantages, together, objectives


@pytest.mark.parametrize(("num", "before", "after"), CROWD)
def test_worked_crowd(num, before, after):
    advantages, together, (first, got) = overshoot(num)
    assert_allclose(advantages, np.tile([[-2.0, 2.0]], (num, 1)), atol=1e-11)
    assert_allclose(together, 1 / (1 + np.exp(-1.0)), rtol=1e-12)
    assert_allclose(first, before, rtol=1e-12)
    assert_allclose(got, after, rtol=1e-3)
    # mean m = n p and variance n p (1 - p): J = -2 [n p (1 - p) + (m - n/2 - 2)^2].
    act = 1 / (1 + np.exp(-1.0))
    want = -2 * (num * act * (1 - act) + (num * act - num / 2 - 2) ** 2)
    assert_allclose(got, want, rtol=1e-12)
    assert (got < before) == (num >= 19)


def test_taking_turns_the_crowd_never_loses_and_all_at_once_is_safe_with_joint_advantages():
    crowd, half = multi_agent.overshooting_crowd(32, 0.5), jnp.full(32, 0.5)
    before = crowd_objective(crowd, half)
    for constant in (4.0, 0.1):
        probabilities, objectives = crowd_sequential(crowd, half, constant)
        assert np.all(np.diff([before, *objectives]) > -1e-12)
        assert objectives[-1] > before + 8
        last = crowd_objective(crowd, probabilities)
        assert_allclose(last, objectives[-1], rtol=1e-12)
    # max |A| over joint actions: (32 - 18)^2 and (0 - 18)^2 against a mean of -12.
    slow = paper_constant(0.5, 18.0**2 - 12.0)
    together = crowd_simultaneous(crowd, half, slow)
    assert crowd_objective(crowd, together) > before


def test_counts_are_binomial_or_the_sum_of_unlike_coins():
    count_distribution = jax.jit(multi_agent.count_distribution)
    got = count_distribution(jnp.full(40, 0.3))
    assert_allclose(got, stats.binom.pmf(np.arange(41), 40, 0.3), atol=1e-14)
    # 0.5 and 0.2: none .4, one .5, two .1.
    assert_allclose(count_distribution(jnp.array([0.5, 0.2])), [0.4, 0.5, 0.1])


def test_a_crowd_is_an_mdp_with_joint_actions():
    crowd = multi_agent.overshooting_crowd(3, 0.5)
    probabilities = jnp.array([0.2, 0.5, 0.7])
    reward = [crowd.reward[sum(actions)] for actions in product(range(2), repeat=3)]
    mdp = make(np.ones((1, 8, 1)), [reward], [1.0], 0.5)
    log_policies = jnp.log(jnp.stack([1 - probabilities, probabilities], axis=1))[:, None]
    solution = evaluate(mdp, jnp.exp(joint_policy(log_policies)))
    assert_allclose(crowd_objective(crowd, probabilities), solution.objective, rtol=1e-12)
    advantages = jax.jit(multi_agent.crowd_advantages)(crowd, probabilities)
    for i in range(3):
        want = marginal_advantage(solution.advantage, log_policies, i)[0]
        assert_allclose(advantages[i], want, atol=1e-12)
    together, in_turn, _ = both_ways(mdp, log_policies, 1.5)
    crowd_together = crowd_simultaneous(crowd, probabilities, 1.5)
    assert_allclose(crowd_objective(crowd, crowd_together), together, rtol=1e-12)
    _, objectives = crowd_sequential(crowd, probabilities, 1.5)
    assert_allclose(objectives[-1], in_turn, rtol=1e-12)
