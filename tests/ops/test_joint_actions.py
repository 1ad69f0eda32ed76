"""Joint actions: digits, joint policies and marginals, against plain loops and the exact side."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.ops import joint_actions
from jaxrl_pg.theory.updates import multi_agent

FACTORS = (2, 3, 2)
EVERY = list(product(*map(range, FACTORS)))


def log_policies(factors, num, seed=0):
    logits = 2.0 * jax.random.normal(jax.random.key(seed), (len(factors), num, max(factors)))
    return joint_actions.only_own(logits, jnp.array(factors)), np.asarray(logits, float)


def test_the_first_agents_action_is_the_most_significant_digit():
    # 2 x 3 x 2 actions: 7 = 1 * 6 + 0 * 2 + 1, 4 = 0 * 6 + 2 * 2 + 0.
    assert_array_equal(joint_actions.digits(jnp.array([7, 4]), FACTORS), [[1, 0, 1], [0, 2, 0]])
    assert_array_equal(joint_actions.digits(jnp.arange(12), FACTORS), EVERY)
    assert_array_equal(joint_actions.index(jnp.array(EVERY), FACTORS), np.arange(12))
    assert joint_actions.digits(jnp.array(5), (6,)).shape == (1,)


def test_policies_are_over_an_agents_own_actions():
    result, logits = log_policies(FACTORS, 4)
    for agent, num in enumerate(FACTORS):
        own = np.exp(logits[agent, :, :num])
        want = np.zeros((4, 3))
        want[:, :num] = own / own.sum(1, keepdims=True)
        assert_allclose(np.exp(result[agent]), want, rtol=1e-5, atol=1e-30)
        alone = joint_actions.only_own(jnp.asarray(logits[agent], jnp.float32), jnp.array(num))
        assert_array_equal(alone, result[agent])
    entropy = -jnp.sum(jnp.exp(result) * result, axis=2)
    assert np.all(np.isfinite(entropy))
    slope = jax.grad(
        lambda x: jnp.sum(jnp.exp(joint_actions.only_own(x, jnp.array(FACTORS))) ** 2)
    )(jnp.asarray(logits, jnp.float32))
    assert np.all(np.isfinite(slope))
    assert_array_equal(slope[0, :, 2], 0.0)  # no such action


def test_joint_policies_and_marginals_equal_plain_loops():
    result, _ = log_policies(FACTORS, 4)
    policies = np.exp(np.asarray(result, float))
    values = np.asarray(jax.random.normal(jax.random.key(1), (4, 12)), float)
    chances, want = np.zeros((4, 12)), np.zeros((3, 4, 3))
    for row, (index, actions) in product(range(4), enumerate(EVERY)):
        each = [policies[i, row, a] for i, a in enumerate(actions)]
        chances[row, index] = np.prod(each)
        for i, action in enumerate(actions):
            others = np.prod(each[:i] + each[i + 1 :])
            want[i, row, action] += others * values[row, index]
    assert_allclose(np.exp(joint_actions.joint_log_policy(result, FACTORS)), chances, rtol=1e-5)
    got = joint_actions.marginals(jnp.asarray(values, jnp.float32), result, FACTORS)
    assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert_array_equal(got[0, :, 2], 0.0)


def test_agents_with_as_many_actions_are_those_of_the_exact_side():
    result, _ = log_policies((2, 2, 2), 5, seed=3)
    values = jax.random.normal(jax.random.key(4), (5, 8))
    want = multi_agent.joint_policy(result)
    assert_allclose(joint_actions.joint_log_policy(result, (2, 2, 2)), want, rtol=1e-5)
    got = joint_actions.marginals(values, result, (2, 2, 2))
    for agent in range(3):
        want = multi_agent.marginal_advantage(values, result, agent)
        assert_allclose(got[agent], want, rtol=1e-4, atol=1e-6)
