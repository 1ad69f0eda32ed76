"""Means and spreads of Box actions in agents that take few gradient steps on a rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces as gymnax_spaces
from numpy.testing import assert_allclose, assert_array_equal

import probes
from jaxrl_pg import actor_critic, off_policy_actor_critic, reinforce
from jaxrl_pg.components import on_policy, segments
from jaxrl_pg.envs import spaces
from jaxrl_pg.training import program

AGENTS = {
    "actor_critic": actor_critic,
    "reinforce": reinforce,
    "off_policy_actor_critic": off_policy_actor_critic,
}
BOX, DISCRETE = probes.Probe(discrete=False), probes.Probe()
SMALL = {"num_envs": 2, "num_steps": 4, "hidden_sizes": (4,), "learning_rate": 0.01}
OWN = {"off_policy_actor_critic": {"buffer_size": 8, "replay_ratio": 0}}
LIMIT = {"max_steps_in_episode": 4}
every_agent = pytest.mark.parametrize("name", AGENTS)


def test_how_far_an_action_lies_beyond_what_bounds_tell_apart():
    """Bounds -4 and 2 stand for -1 and 1; a single bound for itself; without one nothing is out."""
    space = gymnax_spaces.Box(
        low=jnp.array([-4.0, 0.0, -jnp.inf]), high=jnp.array([2.0, jnp.inf, jnp.inf]), shape=(3,)
    )
    action = jnp.array([[1.5, -2.0, 70.0], [-3.0, 5.0, -90.0], [0.5, 0.5, 0.5]])
    expected = [[0.5, -2.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    beyond = jax.jit(lambda action: spaces.beyond(space, action))
    assert_array_equal(beyond(action), expected)
    assert_array_equal(spaces.is_bounded(space, (2, 3)), [[True, False, False]] * 2)
    # Moved back by so much, an action is the same to the environment.
    stretch = jax.jit(lambda action: spaces.stretch(space, action))
    assert_allclose(stretch(action), stretch(action - beyond(action)))


def config_of(name, env, **values):
    params = probes.params(cost=1, target=1, **LIMIT)
    return AGENTS[name].Config(
        env=env, env_params=params, **{**SMALL, **OWN.get(name, {}), **values}
    )


@every_agent
def test_means_beyond_the_bounds_and_wide_spreads_are_drawn_back(name):
    """Mean 1.5 and log std 0.2: loss coef (0.5^2 + 0.2^2), slopes coef 2 (1.5 - 1) and coef 2 0.2.

    The first is that of the mean's bias.
    """

    def gradients(config):
        model = on_policy.build(config)
        state = AGENTS[name].init(config, jax.random.key(0))
        head = state.learner.params["params"]["policy_head"]
        head["bias"] = head["bias"] + 1.5
        head["kernel"] = 0.0 * head["kernel"]
        state.learner.params["params"]["log_std"] += 0.2
        if name == "off_policy_actor_critic":
            data = segments.gather(config, model, state.learner, state).memory.data
            loss = jax.grad(off_policy_actor_critic._loss, has_aux=True)
            params, normalizer = (state.learner.params, ()), state.learner.normalizer
            (grads, _), metrics = loss(params, config, model, None, normalizer, data)
            return grads, metrics
        experience = on_policy.gather(config, model, state)
        if name == "reinforce":
            weights = reinforce.weigh(config, model, state.learner, experience)
            return reinforce.gradient(config, model, state.learner, experience, weights)
        return actor_critic.gradient(config, model, state.learner, experience)

    run = jax.jit(gradients)
    (plain, losses), (drawn, more) = (
        run(config_of(name, BOX, bound_coef=coef)) for coef in (0.0, 3.0)
    )
    assert_allclose(more["loss/total"] - losses["loss/total"], 3.0 * 0.29, rtol=1e-4)
    slopes = jax.tree.map(lambda x, y: x - y, drawn["params"], plain["params"])
    assert_allclose(slopes["policy_head"]["bias"], [3.0 * 2 * 0.5], rtol=1e-4)
    assert_allclose(slopes["log_std"], [3.0 * 2 * 0.2], rtol=1e-4)


@every_agent
def test_the_spread_moves_faster_than_other_parameters(name):
    iterate = jax.jit(AGENTS[name].iterate)
    state = jax.jit(AGENTS[name].init)(config_of(name, BOX), jax.random.key(0))
    one, ten = (iterate(config_of(name, BOX, std_rate=k), state)[0].learner.params for k in (1, 10))
    start = state.learner.params["params"].pop("log_std")
    slow, fast = (params["params"].pop("log_std") for params in (one, ten))
    assert_allclose(fast - start, 10.0 * (slow - start), rtol=1e-5)
    assert_allclose(np.abs(slow - start), [0.01], rtol=1e-2)  # Adam's first step
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(ten), strict=True):
        assert_array_equal(left, right)


@every_agent
def test_finite_action_sets_have_nothing_of_it(name):
    iterate = jax.jit(AGENTS[name].iterate)
    state = jax.jit(AGENTS[name].init)(config_of(name, DISCRETE), jax.random.key(0))
    plain = iterate(config_of(name, DISCRETE), state)[0]
    other = iterate(config_of(name, DISCRETE, std_rate=3.0, bound_coef=7.0), state)[0]
    for left, right in zip(*map(jax.tree.leaves, (plain.learner, other.learner)), strict=True):
        assert_array_equal(left, right)


# An action of 2.5 in [-5, 5] is 0.5 of [-1, 1], and 2.5 in [-3, 3] is 0.83: a policy as wide as
# the first ones gains by hiding behind the bound next to it.
TARGETS = {"half of the box": 0.5, "near a bound": 2.5 / 3, "the other side": -0.25}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_agent
def test_a_box_action_is_aimed_by_default(name, optimised):
    """All fields but the environment's are defaults; reward -(a - target)^2 in single steps."""

    def action(config, key):
        state, _ = program.train(config, key)
        obs = jnp.array([[1.0, 0.0, 1.0]])
        return AGENTS[name].act(config, state.learner, obs, key, True)[0, 0]

    configs = [
        AGENTS[name].Config(
            env=BOX,
            env_params=probes.params(cost=1, target=probes.BOUND * at, length=1, **LIMIT),
        )
        for at in TARGETS.values()
    ]
    config = jax.tree.map(lambda *x: jnp.stack([jnp.float32(v) for v in x]), *configs)
    over = jax.vmap(jax.vmap(action, (None, 0)), (0, None))
    keys = jax.random.split(jax.random.key(0), 4)
    found = np.asarray(jax.jit(over, compiler_options=optimised)(config, keys))
    print(name, found.round(3).tolist())
    expected = np.array(list(TARGETS.values()))
    assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), atol=0.02)
