"""Rewards k times as large are learned like a temperature k times as small.

From networks whose values are k times as large, and with a temperature k times as high, every value
and every target is k times what it was: losses of values are k^2 times as large, and the policy
that is best is the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

import probes
from jaxrl_pg import agents
from jaxrl_pg.theory.soft import soft_values
from programs import shaken
from worked import mdp_g

K = 4.0
BOX, DISCRETE = probes.Probe(discrete=False), probes.Probe()
CASES = {
    "sac-twin": ("sac", {"env": BOX, "learn_alpha": False}),
    "sac-value": ("sac", {"env": DISCRETE, "learn_alpha": False, "variant": "value"}),
    "soft-q": ("soft_q_learning", {"env": DISCRETE}),
    "analytical": ("analytical_replay", {"env": DISCRETE}),
}
# Which power of k a metric grows by. C is in units of reward, and what is fitted to it has none.
POWERS = {
    "loss/q": 2,
    "loss/value": 2,
    "q/mean": 1,
    "alpha": 1,
    "analytical/c": 1,
    "analytical/eps": 1,
    "policy/entropy": 0,
    "analytical/ratio_max": 0,
}


def still(rate):
    """An optimiser that moves nothing, so that losses are those of the networks as they are."""
    return optax.set_to_zero()


def config_of(agent, values, scale):
    """A probe that ends after some steps; one row in the replay."""
    temperature = {} if agent == "analytical_replay" else {"alpha": 0.3 * scale}
    return agents.AGENTS[agent].Config(
        env_params=probes.params(base=1, cue_weight=0.5, show_cue=1, length=5),
        **{"num_envs": 1, "num_steps": 1, "num_updates": 1, "batch_size": 4, "buffer_size": 1},
        **{"hidden_sizes": (8,), "gamma": 0.9, "learning_starts": 1, "optimizer": still},
        **{"reward_scale": scale, **temperature, **values},
    )


def larger(tree, factor):
    """Values `factor` times as large: the last layer of every network of them."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x * factor if "value_head" in jax.tree_util.keystr(path) else x, tree
    )


def metrics_at(scale, agent, config):
    """Metrics of an iteration from networks that all say different things, values times scale."""
    state = jax.jit(agent.init)(config, jax.random.key(0))
    parts = {"params": state.learner.params, "target": state.learner.target}
    parts = {name: larger(shaken(x, seed), scale) for seed, (name, x) in enumerate(parts.items())}
    state = state._replace(learner=state.learner._replace(**parts), iteration=jnp.int32(10**6))
    return agent.iterate(config, state)


@pytest.mark.parametrize("name", CASES)
def test_a_reward_scale_divides_the_temperature(name):
    case, values = CASES[name]
    agent = agents.AGENTS[case]
    run = jax.jit(metrics_at, static_argnums=(1,))
    (before, plain), (after, scaled) = (
        run(scale, agent, config_of(case, values, scale)) for scale in (1.0, K)
    )
    assert float(before.memory.data.reward[0]) != 0
    assert_allclose(after.memory.data.reward, K * before.memory.data.reward)
    powers = POWERS | {"loss/policy": 0 if case == "analytical_replay" else 1}
    compared = powers.keys() & plain.keys()
    assert "loss/q" in compared
    assert float(plain["loss/q"]) > 1e-3
    for metric in compared:
        expected = K ** powers[metric] * plain[metric]
        assert_allclose(scaled[metric], expected, rtol=1e-3, err_msg=metric)


def test_so_it_does_for_the_soft_optimal_policy():
    """Exactly: k times the reward at temperature k alpha has k times the values, and the policy."""
    with jax.enable_x64(True):
        mdp = mdp_g(0.9)
        larger_mdp = mdp._replace(reward=K * mdp.reward)
        solve = jax.jit(soft_values.value_iteration)
        plain, scaled = solve(mdp, 0.2), solve(larger_mdp, K * 0.2)
        np.testing.assert_allclose(scaled.value, K * plain.value, rtol=1e-9)
        np.testing.assert_allclose(scaled.policy, plain.policy, rtol=1e-9)
        colder = solve(larger_mdp, 0.2)
        assert np.max(np.abs(np.asarray(colder.policy) - np.asarray(plain.policy))) > 1e-2
