"""Policies of an observation: worked numbers, what a small C can lose, and a proved one cannot."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies, random_sizes
from numpy.testing import assert_allclose

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.bounds.improvement_bounds import expected_kl_constant
from jaxrl_pg.theory.updates import local_observations as local
from jaxrl_pg.theory.updates import multi_agent
from jaxrl_pg.theory.updates.analytical import analytical_update

NUM, S, A = 4000, 5, 3
SEEN = np.array([0, 1, 0, 2, 1])


@jax.jit
def improved(mdp, log_policy, observation, constant):
    """J before and after an update, and the gains at each observation."""
    before = solve.evaluate(mdp, jnp.exp(local.policy_of_states(log_policy, observation)))
    update = local.local_update(
        log_policy, before.advantage, before.visitation, observation, constant
    )
    after = jnp.exp(local.policy_of_states(update.log_policy, observation))
    return before.objective, solve.objective(mdp, after), update


def test_an_advantage_is_a_mean_over_states_that_are_seen_alike():
    # States 0 and 2 with weights .1 and .3: (.1 * 4 + .3 * 8) / .4 = 7; nothing is seen as 2.
    advantage = jnp.array([[4.0, 0.0], [1.0, 2.0], [8.0, 4.0]])
    seen = local.local_advantage(advantage, jnp.array([0.1, 0.6, 0.3]), jnp.array([0, 1, 0]), 3)
    assert_allclose(seen, [[7.0, 3.0], [1.0, 2.0], [0.0, 0.0]])


@pytest.mark.parametrize("p", [0.1, 0.2])
def test_a_small_constant_loses_where_states_are_hidden(p):
    """J = .9 p (1 - 2 p): .072 at .1. There A(o, 1) is, with V = (.072, .8) and d as 1 : .09,

    A(0, 1) = .9 * .8 - .072 = .648 and A(1, 1) = -1 - .8 = -1.8, so (.648 - .162) / 1.09 = .446.
    """
    mdp, observation = local.hidden_step(0.9)
    log_policy = jnp.log(jnp.array([[1.0 - p, p], [0.5, 0.5]]))
    before, after, update = improved(mdp, log_policy, observation, 0.01)
    assert_allclose(before, 0.9 * p * (1.0 - 2.0 * p), rtol=1e-12)
    assert_allclose(after, -0.9, rtol=1e-5)
    assert np.all(update.gain >= 0)
    if p == 0.1:
        solution = solve.evaluate(mdp, jnp.exp(log_policy[observation]))
        given = (solution.advantage, solution.visitation, observation, 2)
        assert_allclose(local.local_advantage(*given)[0, 1], 0.486 / 1.09, rtol=1e-12)
    # The constant that is proved keeps J from falling; it moves p by little.
    constant = expected_kl_constant(mdp.gamma, 1.8)
    before, after, update = improved(mdp, log_policy, observation, constant)
    assert after > before
    assert p < np.exp(update.log_policy[0, 1]) < p + 0.01


def test_with_every_state_seen_it_is_the_analytical_update():
    mdps, policies = random_mdps(0, 50, S, A), random_policies(1, 50, S, A)
    for mdp, policy in zip(
        [jax.tree.map(lambda x, i=i: x[i], mdps) for i in range(3)], policies, strict=False
    ):
        log_policy = jnp.log(policy)
        _, _, update = improved(mdp, log_policy, jnp.arange(S), 0.3)
        advantage = solve.evaluate(mdp, policy).advantage
        assert_allclose(
            update.log_policy, analytical_update(log_policy, advantage, 0.3).log_policy, atol=1e-12
        )


def test_the_update_is_the_best_policy_of_the_observation():
    """No policy that is drawn has a larger `E_d E_pi' A - C E_d KL(pi' || pi)`."""
    mdp = jax.tree.map(lambda x: x[0], random_mdps(2, 1, S, A))
    policies = random_policies(3, 3000, 3, A)
    log_policy, constant = jnp.log(policies[0]), 0.2
    solution = solve.evaluate(mdp, policies[0][SEEN])

    def surrogate(policy):
        kl = jnp.sum(policy * (jnp.log(policy) - log_policy), axis=1)
        gain = jnp.sum(policy[SEEN] * solution.advantage, axis=1)
        return jnp.sum(solution.visitation * (gain - constant * kl[SEEN]))

    _, _, update = improved(mdp, log_policy, jnp.asarray(SEEN), constant)
    best = surrogate(jnp.exp(update.log_policy))
    assert best > 0
    assert np.all(jax.vmap(surrogate)(policies) < best)
    visited = jax.ops.segment_sum(solution.visitation, SEEN, 3)
    assert_allclose(best, jnp.sum(visited * update.gain), rtol=1e-10)


def test_the_proved_constant_never_loses_and_a_small_one_now_and_then():
    """4,000 random MDPs of five states, seen as three; all lose nothing, to rounding."""
    mdps, policies = random_mdps(4, NUM, S, A, sparse=0.5), random_policies(5, NUM, 3, A)
    log_policies, observation = jnp.log(policies), jnp.asarray(SEEN)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, 0))
    def both(mdp, log_policy, size):
        policy = jnp.exp(log_policy[observation])
        eps = jnp.max(jnp.abs(solve.evaluate(mdp, policy).advantage))
        proved = improved(mdp, log_policy, observation, expected_kl_constant(mdp.gamma, eps))
        return proved[1] - proved[0], improved(mdp, log_policy, observation, size * eps)[:2]

    change, (before, after) = both(mdps, log_policies, random_sizes(6, NUM, -4.0, 0.0))
    assert np.min(change) > -1e-12
    assert np.mean(change > 0) > 0.99
    assert 0 < np.sum(after < before - 1e-9) < 40


def test_one_player_at_a_time_on_its_own_observation():
    """Two players, of whom the second does not see two states apart; a proved C loses nothing."""
    mdps = random_mdps(7, 500, S, 4)
    observations = jnp.arange(S), jnp.asarray(SEEN)
    first, second = (jnp.log(random_policies(seed, 500, num, 2)) for seed, num in ((8, S), (9, 3)))

    @jax.jit
    @jax.vmap
    def turns(mdp, first, second):
        own, objectives = [first, second], []
        for player in (0, 1):
            stacked = jnp.stack([x[o] for x, o in zip(own, observations, strict=True)])
            before = solve.evaluate(mdp, jnp.exp(multi_agent.joint_policy(stacked)))
            marginal = multi_agent.marginal_advantage(before.advantage, stacked, player)
            constant = expected_kl_constant(mdp.gamma, jnp.max(jnp.abs(before.advantage)))
            update = local.local_update(
                own[player], marginal, before.visitation, observations[player], constant
            )
            own[player] = update.log_policy
            objectives.append(before.objective)
        stacked = jnp.stack([x[o] for x, o in zip(own, observations, strict=True)])
        after = solve.objective(mdp, jnp.exp(multi_agent.joint_policy(stacked)))
        return jnp.stack([*objectives, after])

    objectives = turns(mdps, first, second)
    assert np.min(np.diff(objectives, axis=1)) > -1e-12


@pytest.mark.parametrize(
    ("observation", "message"),
    [([0.0, 1.0, 0.0], "give whole numbers from 0"), ([0, -1, 0], "observation is")],
)
def test_what_is_no_observation_is_refused(observation, message):
    advantage = jnp.ones((3, 2))
    with pytest.raises(ValueError, match=message):
        local.local_advantage(advantage, jnp.ones(3) / 3.0, np.array(observation), 2)
