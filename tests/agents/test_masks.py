"""Illegal actions: probability 0, and no other effect, in distributions and in losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from compare import assert_bit_equal
from jaxrl_pg import (
    agents,
    analytical,
    analytical_replay,
    dqn,
    envs,
    pqn,
    sac,
    soft_q_learning,
)
from jaxrl_pg.components import networks, normalize, off_policy, on_policy
from jaxrl_pg.config import agent_of
from jaxrl_pg.ops import soft
from jaxrl_pg.ops.distributions import CATEGORICAL
from jaxrl_pg.types import EnvSpec, Transition
from programs import shaken
from structured import MASKED, NUM, STRICT

# Three of five legal, one, none, all.
MASKS = jnp.asarray([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
SPEC = EnvSpec((("action_mask", (5,)), ("x", (2,))), True, 5, (), True)
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32) * 5.0
OBS = {"action_mask": MASKS, "x": jnp.ones((4, 2))}


# --- distributions ------------------------------------------------------------------------------


def test_what_is_illegal_has_probability_exactly_0_and_what_is_legal_all_of_it():
    probability = np.asarray(jax.nn.softmax(networks.legal_logits(OBS, LOGITS)))
    legal = np.asarray(networks.legal(OBS))
    assert_array_equal(legal, np.asarray(MASKS) | (np.arange(4) == 2)[:, None])
    assert np.all(probability[~legal] == 0.0)
    for row in range(4):
        of_legal = jax.nn.softmax(LOGITS[row][legal[row]])
        assert_allclose(probability[row][legal[row]], of_legal, rtol=1e-5)
    assert networks.legal({"x": OBS["x"]}) is None
    assert networks.legal(OBS["x"]) is None
    assert networks.legal_logits(OBS["x"], LOGITS) is LOGITS


def test_entropies_and_divergences_are_those_of_the_legal_actions():
    masked, other = (networks.legal_logits(OBS, x) for x in (LOGITS, LOGITS[::-1]))
    legal = np.asarray(networks.legal(OBS))
    for row in range(4):
        live = legal[row]
        here, there = LOGITS[row][live], LOGITS[::-1][row][live]
        assert_allclose(
            CATEGORICAL.entropy(masked)[row], CATEGORICAL.entropy(here), rtol=1e-4, atol=1e-6
        )
        assert_allclose(
            CATEGORICAL.kl(masked, other)[row], CATEGORICAL.kl(here, there), rtol=1e-4, atol=1e-6
        )
    even = CATEGORICAL.entropy(networks.legal_logits(OBS, jnp.zeros((4, 5))))
    assert_allclose(even, np.log([3, 1, 5, 5]), rtol=1e-6, atol=1e-6)


def test_gradients_are_finite_and_none_is_of_an_illegal_action():
    action = jnp.asarray([2, 3, 0, 4])

    def loss(logits):
        params = networks.legal_logits(OBS, logits)
        fixed = networks.legal_logits(OBS, LOGITS[::-1])
        terms = CATEGORICAL.log_prob(params, action) + CATEGORICAL.entropy(params)
        return jnp.sum(terms + CATEGORICAL.kl(params, fixed) + CATEGORICAL.kl(fixed, params))

    gradient = np.asarray(jax.grad(loss)(LOGITS))
    curvature = np.asarray(jax.jvp(jax.grad(loss), (LOGITS,), (jnp.ones((4, 5)),))[1])
    for found in (gradient, curvature):
        assert np.all(np.isfinite(found))
        assert np.all(found[~np.asarray(networks.legal(OBS))] == 0.0)
    assert np.all(gradient[1] == 0.0)  # one legal action: nothing to learn
    assert np.all(gradient[0][np.asarray(MASKS[0])] != 0.0)


def test_no_draw_is_illegal_whatever_the_logits():
    wild = networks.legal_logits(OBS, jnp.where(MASKS, -1e4, 1e4))
    uniform = jnp.linspace(0.0, 1.0, 101)[:-1]
    many = jnp.broadcast_to(wild[:, None], (4, 100, 5))
    drawn = np.asarray(CATEGORICAL.sample(many, jnp.broadcast_to(uniform, (4, 100))))
    legal = np.asarray(networks.legal(OBS))
    for row in range(4):
        assert legal[row][drawn[row]].all()
        assert legal[row][CATEGORICAL.mode(wild)[row]]


# --- what agents read of a mask -----------------------------------------------------------------


def test_the_target_entropy_is_by_the_number_of_legal_actions():
    config = sac.Config(env=STRICT, target_entropy_ratio=0.7)
    found = sac._target_entropy(config, SPEC, OBS)
    assert_allclose(found, 0.7 * np.log([3, 1, 5, 5]), rtol=1e-6, atol=1e-6)
    flat = sac._target_entropy(config, EnvSpec((2,), True, 5, ()), OBS["x"])
    assert_allclose(flat, 0.7 * np.log(5), rtol=1e-6)
    given = config.replace(target_entropy=0.3)
    assert sac._target_entropy(given, SPEC, OBS) == 0.3
    # A policy that is uniform over what is legal has the largest entropy: alpha must fall.
    entropy = jnp.log(jnp.asarray([3.0, 1.0, 5.0, 5.0]))
    assert jax.grad(soft.temperature_loss)(jnp.zeros(()), entropy, found) > 0.0


def soft_actions(variant, obs, env=STRICT):
    model = sac.build(sac.Config(env=env, variant=variant, hidden_sizes=(4,)))
    blank = envs.observations.blank(model.env.spec.obs_shape, 1)
    policy, critics = (
        shaken(x.init(jax.random.key(0), blank), 1) for x in (model.policy, model.critics)
    )
    return model.actions(policy, critics, obs, jnp.zeros(())), model


def some_obs(masks):
    rows = len(masks)
    obs = envs.observations.blank(envs.make(MASKED).spec.obs_shape, rows)
    return {**obs, "action_mask": jnp.asarray(masks, bool)}


def test_soft_losses_are_those_of_the_legal_actions_alone():
    """The normaliser of the Boltzmann policy, too, and no infinity where nothing is legal."""
    masks = np.array([[1, 0, 1, 0, 0, 1], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    actions, _ = soft_actions("twin", some_obs(masks))
    free, _ = soft_actions("twin", some_obs(np.ones_like(masks)))
    assert_array_equal(np.asarray(actions.q)[0][masks[0]], np.asarray(free.q)[0][masks[0]])
    for row, live in enumerate([masks[0], masks[1], np.ones(6, bool)]):
        one = jax.tree.map(lambda x, row=row: x[row : row + 1], actions)
        few = jax.tree.map(lambda x, live=live: x[:, live], one)
        for loss in (soft.kl_projection_loss, soft.expected_policy_loss, soft.expected_value):
            assert_allclose(loss(one, 0.3), loss(few, 0.3), rtol=1e-5, atol=1e-6)
        assert_allclose(soft.entropy(one), soft.entropy(few), rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(soft.expected_value(actions, 0.3)) < 100.0)


def test_a_state_without_legal_actions_has_a_value_of_ordinary_size():
    """It may be what a time limit cut an episode off at, and is bootstrapped from."""
    obs = some_obs(np.zeros((2, NUM)))
    for name in ("soft_q_learning", "pqn", "dqn", "sac", "analytical_replay", "ppo"):
        config = agents.AGENTS[name].Config(env=STRICT, hidden_sizes=(4,))
        agent = agent_of(config)
        learner = jax.eval_shape(agent.init, config, jax.random.key(0)).learner
        learner = shaken(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), learner), 0)
        value = agent.value(config, learner, obs)
        assert np.all(np.abs(value) < 100.0), name


def without_a_say(critics):
    """The same Q networks, but for what they say of the last four actions."""

    def change(path, x):
        is_head = any(getattr(entry, "key", "") == "value_head" for entry in path)
        return x.at[..., 2:].add(1000.0) if is_head and x.shape[-1] == NUM else x

    return jax.tree_util.tree_map_with_path(change, critics)


def first_two():
    """Rows in which the first two actions are legal, the one taken with them."""
    obs = some_obs(np.arange(NUM)[None].repeat(4, axis=0) < 2)
    zeros = jnp.zeros(4)
    return off_policy.Rows(obs, jnp.asarray([0, 1, 0, 1]), zeros, zeros > 0, obs)


def filled(config):
    learner = jax.eval_shape(config.agent.init, config, jax.random.key(0)).learner
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), learner)
    return jax.tree.map(
        lambda x, new: new if jnp.issubdtype(x.dtype, jnp.floating) else x, zeros, shaken(zeros, 0)
    )


def test_soft_q_learning_does_not_ask_the_q_of_an_illegal_action():
    config, rows = soft_q_learning.Config(env=STRICT, hidden_sizes=(4,)), first_two()
    model = soft_q_learning.build(config)
    params = filled(config).params
    loss = jax.jit(lambda p, t: soft_q_learning._loss(p, config, model, t, rows, ()))
    other = without_a_say(params)
    assert np.any(model.q.apply(params, rows.obs) != model.q.apply(other, rows.obs))
    assert_bit_equal(loss(params, params), loss(other, other))


@pytest.mark.parametrize("double_q", [False, True])
def test_dqn_does_not_ask_the_q_of_an_illegal_action(double_q):
    config, rows = dqn.Config(env=STRICT, hidden_sizes=(4,), double_q=double_q), first_two()
    _, network = dqn.build(config)
    params = filled(config).params
    loss = jax.jit(lambda p, t: dqn._loss(p, config, network, t, rows, jnp.ones(())))
    assert_bit_equal(loss(params, params), loss(without_a_say(params), without_a_say(params)))


def test_pqn_does_not_ask_the_q_of_an_illegal_action():
    """Neither how it acts nor what it learns."""
    config, obs = pqn.Config(env=STRICT, hidden_sizes=(4,)), first_two().obs
    model, learner = pqn.build(config, 0.3), filled(config)

    def asked(params):
        new = learner._replace(params=params)
        return jnp.exp(model.policy(new, obs)), model.value(new, obs)

    assert_bit_equal(*map(jax.jit(asked), (learner.params, without_a_say(learner.params))))


@pytest.mark.parametrize("variant", ["twin", "value"])
def test_sac_does_not_ask_the_q_of_an_illegal_action(variant):
    config = sac.Config(env=STRICT, hidden_sizes=(4,), variant=variant)
    model, rows, learner = sac.build(config), first_two(), filled(config)

    def losses(critics):
        params = learner.params._replace(critics=critics)
        target = critics if variant == "twin" else learner.target
        new = learner._replace(params=params, target=target)
        one = sac._critic_loss((critics, params.value), config, model, new, rows, jnp.zeros(()))
        two = sac._policy_loss(params.policy, config, model, new, rows.obs, jnp.zeros(()))
        return one, two

    losses, critics = jax.jit(losses), learner.params.critics
    assert_bit_equal(losses(critics), losses(without_a_say(critics)))


def test_the_closed_form_does_not_ask_the_q_of_an_illegal_action():
    """Neither the target nor the size of the advantages, which scales the steps."""
    config = analytical.Config(env=STRICT, hidden_sizes=(4,), target="all_actions")
    model, learner, rows = on_policy.build(config), filled(config), first_two()
    numbers = jnp.asarray([0.5, -0.5, 1.0, 0.0])
    batch = on_policy.Batch(rows.obs, rows.action, *[numbers] * 4)

    def plan(critic):
        new = learner._replace(critic=critic)
        found, eps, metrics = analytical._weigh_all_actions(
            config, model, new, batch, jnp.zeros(())
        )
        return jnp.exp(found.log_target), eps, metrics

    assert_bit_equal(*map(jax.jit(plan), (learner.critic, without_a_say(learner.critic))))


def test_the_closed_form_of_a_replay_does_not_ask_the_q_of_an_illegal_action():
    config = analytical_replay.Config(env=STRICT, hidden_sizes=(4,))
    model, rows, learner = analytical_replay.build(config), first_two(), filled(config)

    def steps(critics):
        new = learner._replace(params=learner.params._replace(critics=critics), target=critics)
        _, metrics = analytical_replay._critic_step(config, model, new, rows, ())
        after, chosen = analytical_replay._policy_step(
            config, model, new, jnp.zeros(()), rows.obs, ()
        )
        return after.params.policy, after.eps, chosen, metrics

    critics = learner.params.critics
    assert_bit_equal(*map(jax.jit(steps), (critics, without_a_say(critics))))


def test_a_normaliser_leaves_the_mask_alone():
    spec = envs.make(MASKED).spec
    normalizer = normalize.init(spec, obs=True, reward=False)
    assert sorted(normalizer.obs) == ["phase", "walker.far", "walker.place"]
    rng = np.random.default_rng(0)
    shapes = envs.observations.shapes(spec.obs_shape)
    obs = {
        name: jnp.asarray(rng.normal(3.0, 2.0, (5, 4, *shape))) for name, shape in shapes.items()
    }
    obs["action_mask"] = jnp.asarray(rng.random((5, 4, NUM)) < 0.5)
    steps = Transition(obs, *[jnp.zeros((5, 4))] * 6)
    after, _, _ = normalize.update(normalizer, steps, jnp.zeros(4), 0.9)
    seen = normalize.observe(after, obs)
    assert seen["action_mask"] is obs["action_mask"]
    for name in after.obs:
        assert_allclose(after.obs[name].mean, obs[name].mean(axis=(0, 1)), rtol=1e-4)
        assert_allclose(np.mean(seen[name], axis=(0, 1)), 0.0, atol=1e-3)
    assert normalize.observe(normalize.init(spec, False, False), obs) is obs
