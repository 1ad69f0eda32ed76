"""The actor-critic's identities: with PPO, with REINFORCE, with itself in other clothes."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpy.testing import assert_allclose
from steps import compiled

import probes
from compare import assert_close
from jaxrl_pg import actor_critic, ppo, reinforce
from jaxrl_pg.components import on_policy
from jaxrl_pg.training import program

SIZES = {"num_envs": 4, "num_steps": 6, "hidden_sizes": (8,), "total_timesteps": 24 * 8}
PENDULUM = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 4.0}, **SIZES}
KEY = jax.random.key(5)
ITERATE = jax.jit(program.iterations, static_argnums=2)
START = jax.jit(actor_critic.init)
GATHER = compiled(on_policy.gather)
GRADIENT = compiled(actor_critic.gradient)


def trained(config, num_iterations=3):
    """Parameters after a few iterations from the same start."""
    state = START(actor_critic.Config(**PENDULUM), KEY)
    if isinstance(config, ppo.Config):
        learner = ppo.Learner(*state.learner, kl_coef=jnp.ones(()))
        state = state._replace(learner=learner)
    return ITERATE(config, state, num_iterations)[0]


def test_it_is_ppo_with_one_epoch_of_one_minibatch():
    """At ratio 1 the clipped surrogate has the policy gradient: three iterations stay together.

    But for what Box actions have beside it when there is but one step.
    """
    shared = {**PENDULUM, "gae_lambda": 0.9, "ent_coef": 0.02, "learning_rate": 0.01}
    a2c = trained(actor_critic.Config(**shared, std_rate=1.0, bound_coef=0.0))
    once = {"num_epochs": 1, "num_minibatches": 1, "normalize_advantage": False}
    assert_close(
        a2c.learner.params, trained(ppo.Config(**shared, **once)).learner.params, rtol=1e-4
    )
    twice = trained(ppo.Config(**shared, **{**once, "num_epochs": 2})).learner.params
    assert np.abs(jax.tree.leaves(twice)[0] - jax.tree.leaves(a2c.learner.params)[0]).max() > 1e-3


def test_with_a_critic_of_zero_and_whole_episodes_it_is_reinforce():
    """Monte Carlo targets, no value loss: the same gradient from the same rollout."""
    shared = {
        "env": probes.Probe(),
        "env_params": probes.params(length=3, base=1, follow=1, cost=1, show_cue=1, show_time=1),
        "num_envs": 4,
        "num_steps": 6,  # two whole episodes
        "hidden_sizes": (8,),
        "gamma": 0.9,
        "ent_coef": 0.05,
    }
    shared["env_params"]["max_steps_in_episode"] = 3.0
    critic = actor_critic.Config(**shared, target="monte_carlo", vf_coef=0.0)
    state = START(critic, KEY)
    params = jax.tree.map(lambda x: x, state.learner.params)
    params["params"]["value_head"] = jax.tree.map(jnp.zeros_like, params["params"]["value_head"])
    learner = state.learner._replace(params=params)
    experience = GATHER(critic, state._replace(learner=learner))
    result, _ = GRADIENT(critic, learner, experience)
    config = reinforce.Config(**shared, baseline="none")
    weights = compiled(reinforce.weigh)(config, learner, experience)
    expected, _ = compiled(reinforce.gradient)(config, learner, experience, weights)
    assert_close(result, expected, rtol=1e-5, atol=1e-7)
    assert max(np.abs(x).max() for x in jax.tree.leaves(result)) > 1e-3


@cache
def rollout_on_pendulum():
    """A learner, and a rollout that time limits cut into pieces."""
    config = actor_critic.Config(**PENDULUM)
    state = START(config, KEY)
    return state.learner, GATHER(config, state)


@cache
def gradients():
    """The gradient that each kind of target makes of that rollout."""
    configs = {
        "td0": {"target": "td0"},
        "monte carlo": {"target": "monte_carlo"},
        "one step": {"target": "n_step", "bootstrap_steps": 1},
        "three steps": {"target": "n_step", "bootstrap_steps": 3},
        "all steps": {"target": "n_step", "bootstrap_steps": 6},
        "lambda 0": {"target": "td_lambda", "gae_lambda": 0.0},
        "lambda .9": {"target": "td_lambda", "gae_lambda": 0.9},
        "lambda 1": {"target": "td_lambda", "gae_lambda": 1.0},
    }
    configs = {name: actor_critic.Config(**PENDULUM, **x) for name, x in configs.items()}
    results = jax.jit(all_gradients)(configs, *rollout_on_pendulum())
    return {name: np.asarray(ravel_pytree(x)[0]) for name, x in results.items()}


def all_gradients(configs, learner, experience):
    return {
        name: actor_critic.gradient(config, on_policy.build(config), learner, experience)[0]
        for name, config in configs.items()
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("one step", "td0"),
        ("lambda 0", "td0"),
        ("all steps", "monte carlo"),
        ("lambda 1", "monte carlo"),
    ],
)
def test_targets_meet_at_their_ends(one, other):
    assert_allclose(gradients()[one], gradients()[other], rtol=1e-4, atol=1e-5)


def test_the_targets_are_different_between_their_ends():
    kinds = ("td0", "monte carlo", "three steps", "lambda .9")
    learned = [gradients()[kind] for kind in kinds]
    for i, one in enumerate(learned):
        for other in learned[:i]:
            assert np.linalg.norm(one - other) > 0.02 * np.linalg.norm(one)


def test_online_is_as_many_iterations_of_one_step():
    """A gradient step after every environment step; only where they are counted differs."""
    shared = {**PENDULUM, "target": "td0", "anneal_lr": False, "normalize_obs": True}
    online = actor_critic.Config(**shared, online=True)
    one_step = replace(actor_critic.Config(**shared), num_steps=1)
    state, metrics = ITERATE(online, START(online, KEY), 2)
    expected, singly = ITERATE(one_step, START(one_step, KEY), 12)
    assert_close(state.learner, expected.learner, rtol=1e-5, atol=1e-6)
    assert_close(state.actor, expected.actor, rtol=1e-5, atol=1e-6)
    assert int(state.iteration) == 2
    np.testing.assert_array_equal(
        metrics["train/episodes"], singly["train/episodes"].reshape(2, 6).sum(axis=1)
    )
    assert_allclose(
        metrics["loss/value"], singly["loss/value"].reshape(2, 6).mean(axis=1), rtol=1e-4
    )


def test_advantages_are_standardised_when_asked():
    """Then a reward in other units changes nothing where the critic knows nothing."""
    config = actor_critic.Config(
        **PENDULUM, vf_coef=0.0, normalize_advantage=True, target="monte_carlo"
    )
    learner, experience = rollout_on_pendulum()
    params = jax.tree.map(lambda x: x, learner.params)
    params["params"]["value_head"] = jax.tree.map(jnp.zeros_like, params["params"]["value_head"])
    steps = experience.steps._replace(final_value=jnp.zeros_like(experience.steps.reward))
    results = [
        GRADIENT(
            config,
            learner._replace(params=params),
            experience._replace(steps=steps._replace(reward=scale * steps.reward)),
        )[0]
        for scale in (1.0, 1000.0)
    ]
    assert_close(*results, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "td1"}, "target='td1': did you mean 'td0'"),
        ({"online": True}, "online=True learns from TD errors and target='td_lambda'"),
        ({"bootstrap_steps": 0}, "bootstrap_steps=0: give a whole number >= 1"),
    ],
)
def test_bad_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        actor_critic.Config(**values)
