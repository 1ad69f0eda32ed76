"""Algorithm 1 of soft actor-critic's first paper, line by line, and learning rates of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import probes
from compare import assert_close, largest_difference
from jaxrl_pg import sac
from jaxrl_pg.cli import arguments
from jaxrl_pg.config import to_dict
from programs import shaken

INIT, ITERATE = jax.jit(sac.init), jax.jit(sac.iterate)
PROBE, GAMMA, TAU = probes.Probe(), 0.9, 0.1
RATES = {"value_learning_rate": 0.3, "learning_rate": 0.2, "policy_learning_rate": 0.1}
WORDS = {
    "--env": "CartPole-v1",
    "--variant": "value",
    "--num-critics": "1",
    "--learn-alpha": "False",
    "--value-learning-rate": "1e-3",
    "--policy-learning-rate": "1e-3",
}


def config_of(**fields):
    """One row in the replay, so that a minibatch is that row; cue and time are shown."""
    return sac.algorithm_1(
        PROBE,
        env_params=probes.params(base=1, cue_weight=0.5, show_cue=1, show_time=1, length=5),
        **{"num_envs": 1, "num_steps": 1, "num_updates": 1, "batch_size": 4, "buffer_size": 1},
        **{"hidden_sizes": (8,), "gamma": GAMMA, "tau": TAU, "learning_starts": 100, **fields},
    )


def start(config):
    """A state whose networks all say different things, long after learning started."""
    state = INIT(config, jax.random.key(0))
    params, target = shaken(state.learner.params, 1), shaken(state.learner.target, 2)
    learner = state.learner._replace(params=params, target=target)
    return state._replace(learner=learner, iteration=jnp.int32(10**6))


def test_the_preset_is_the_papers_and_gives_way_to_fields():
    config = sac.algorithm_1("CartPole-v1")
    assert (config.variant, config.num_critics, config.learn_alpha) == ("value", 1, False)
    assert (config.alpha, config.reward_scale) == (1.0, 1.0)
    other = sac.algorithm_1("CartPole-v1", num_critics=2, policy_learning_rate=0.01)
    assert other == config.replace(num_critics=2, policy_learning_rate=0.01)


def test_words_on_a_command_line_say_the_same():
    words = [word for pair in WORDS.items() for word in pair]
    _, (config,) = arguments.read("jaxrl-pg run sac", words, [sac.Config])
    assert to_dict(config) == to_dict(sac.algorithm_1("CartPole-v1"))


@jax.jit
def four_lines(config, old, averaged, row):
    """The algorithm's lines 9 to 12 with plain gradient steps; sums over both actions are exact."""
    model = sac.build(config)
    theta, w, psi = old.policy, old.critics, old.value

    def log_pi(theta):
        return jax.nn.log_softmax(model.policy.apply(theta, row.obs)[0])

    def q(w):
        return model.critics.apply(w, row.obs)[0, 0]

    def v(psi, obs):
        return model.value.apply(psi, obs)[0, 0, 0]

    def value_loss(psi):  # equation 5
        target = jnp.sum(jnp.exp(log_pi(theta)) * (q(w) - log_pi(theta)))
        return 0.5 * (v(psi, row.obs) - target) ** 2

    def q_loss(w):  # equations 7 and 8
        future = (1 - row.terminated[0]) * v(averaged, row.next_obs)
        return 0.5 * (q(w)[row.action[0]] - row.reward[0] - GAMMA * future) ** 2

    def policy_loss(theta):  # equation 10
        log_target = jax.nn.log_softmax(q(w))
        return jnp.sum(jnp.exp(log_pi(theta)) * (log_pi(theta) - log_target))

    def stepped(params, loss, rate):
        return jax.tree.map(lambda x, g: x - rate * g, params, jax.grad(loss)(params))

    psi = stepped(psi, value_loss, RATES["value_learning_rate"])
    w = stepped(w, q_loss, RATES["learning_rate"])
    theta = stepped(theta, policy_loss, RATES["policy_learning_rate"])
    averaged = jax.tree.map(lambda new, old: TAU * new + (1 - TAU) * old, psi, averaged)
    return sac.Params(theta, w, psi), averaged


def test_an_iteration_takes_the_algorithms_four_lines_in_its_order():
    config = config_of(optimizer=optax.sgd, **RATES)
    before = start(config)
    after, _ = ITERATE(config, before)
    old, new = before.learner, after.learner
    params, averaged = four_lines(config, old.params, old.target, after.memory.data)
    assert_close(new.params, params, rtol=1e-4, atol=1e-5)
    assert_close(new.target, averaged, rtol=1e-4, atol=1e-5)
    # Every part has moved by a thousand times the tolerance.
    assert all(largest_difference(*x) > 1e-2 for x in zip(params, old.params, strict=True))


def test_every_rate_moves_its_own_part():
    """Adam's steps are in proportion to the rate, and V's and Q's do not see each other's."""

    def steps(**rates):
        config = config_of(**{**RATES, **rates})
        before = start(config)
        new = ITERATE(config, before)[0].learner.params
        return {
            name: ravel_pytree(getattr(new, name))[0] - ravel_pytree(old)[0]
            for name, old in before.learner.params._asdict().items()
        }

    plain = steps()
    for field, part, factor in (
        ("value_learning_rate", "value", 0.5),
        ("policy_learning_rate", "policy", 0.5),
        ("learning_rate", "critics", 0.5),
    ):
        changed = steps(**{field: factor * RATES[field]})
        for name, step in changed.items():
            if part == "critics" and name == "policy":
                continue  # it follows what Q has become
            expected = factor * plain[name] if name == part else plain[name]
            np.testing.assert_allclose(step, expected, rtol=1e-3, atol=1e-6, err_msg=name)


def test_three_equal_rates_are_one_rate():
    """V with an optimiser of its own takes the steps that it takes in a common one."""
    apart = config_of(**dict.fromkeys(RATES, 0.02))
    together = apart.replace(value_learning_rate=None, policy_learning_rate=None)
    states = [ITERATE(config, start(config))[0].learner for config in (apart, together)]
    assert states[1].value_opt == ()
    assert int(states[0].value_opt.count) == 1
    assert_close(states[0].params, states[1].params, rtol=1e-6, atol=1e-7)


def test_a_rate_for_no_value_network_is_refused():
    with pytest.raises(ValueError, match=r"variant='twin' has no value network: give variant="):
        sac.Config(value_learning_rate=0.1)
