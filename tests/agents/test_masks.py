"""Illegal actions: probability 0, and no other effect, wherever an agent acts or learns."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

import jaxrl_pg
import structured
from compare import assert_bit_equal, assert_close
from jaxrl_pg import agents, envs, multi_agent, ppo, sac, soft_q_learning
from jaxrl_pg.components import networks, normalize, off_policy, own_network
from jaxrl_pg.config import agent_of
from jaxrl_pg.ops import soft
from jaxrl_pg.ops.distributions import CATEGORICAL
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.types import EnvSpec, Transition
from programs import SMALL_REPLAY, TINY, shaken
from structured import FORMS, MASKED, NUM, PAIRS, TWIN, Walk

# Three of five legal, one, none, all.
MASKS = jnp.asarray([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
SPEC = EnvSpec((("action_mask", (5,)), ("x", (2,))), True, 5, (), True)
LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32) * 5.0
OBS = {"action_mask": MASKS, "x": jnp.ones((4, 2))}


class Strict(Walk):
    """An illegal action is paid so that no return hides it."""

    def step_env(self, key, state, action, params):
        is_legal = structured.legal(state.time).reshape(-1)[action]
        obs, state, _, *rest = super().step_env(key, state, action, params)
        return obs, state, jnp.where(is_legal, 1.0, 1000.0), *rest


STRICT = Strict(mask=True)


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
    for name in ("soft_q_learning", "sac", "analytical_replay", "ppo"):
        config = agents.AGENTS[name].Config(env=STRICT, hidden_sizes=(4,))
        agent = agent_of(config)
        learner = jax.eval_shape(agent.init, config, jax.random.key(0)).learner
        learner = shaken(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), learner), 0)
        value = agent.value(config, learner, obs)
        assert np.all(np.abs(value) < 100.0), name


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


class Own(nn.Module):
    """A network that reads the mask like any other array, and forbids nothing by itself."""

    spec: EnvSpec

    def setup(self):
        self.head, self.critic = nn.Dense(self.spec.num_actions), nn.Dense(1)

    def policy(self, obs):
        return self.head(obs["walker.place"] + obs["action_mask"][:, :2])

    def q(self, obs):
        return self.policy(obs)

    def value(self, obs):
        return self.critic(obs["walker.place"])[:, 0]


def test_a_network_of_ones_own_is_masked():
    config, obs = ppo.Config(env=STRICT, network=Own), some_obs(np.eye(NUM)[:3])
    spec = envs.of(config).spec
    whole = own_network.policy_and_value(config, spec)
    params = whole.init(jax.random.key(0))
    for logits in (whole.apply(params, obs)[0], whole.apply(params, obs, method="policy")):
        assert_array_equal(jax.nn.softmax(logits), np.eye(NUM)[:3])
    part = own_network.policy(config, spec)
    logits = part.apply(part.init(jax.random.key(0)), obs)
    assert_array_equal(jax.nn.softmax(logits), np.eye(NUM)[:3])
    critic = own_network.critics(config, spec, "q", 2)
    q = critic.apply(critic.init(jax.random.key(0)), obs)
    assert q.shape == (2, 3, NUM)
    assert np.all(np.abs(q) < 100.0)


# --- acting -------------------------------------------------------------------------------------


def test_a_warm_up_is_uniform_over_what_is_legal():
    config = sac.Config(
        env=STRICT, num_envs=64, num_steps=32, buffer_size=2048, learning_starts=2048
    )
    env = envs.of(config)

    @jax.jit
    def rows(key):
        _, actor, memory, key = off_policy.start(config, env, key)
        state = jaxrl_pg.types.TrainState((), actor, memory, key, jnp.zeros((), jnp.int32))

        def policy(obs):  # which would always take the first action
            return networks.legal_logits(
                obs, jnp.zeros(NUM).at[0].set(99.0)[None] + jnp.zeros((64, 1))
            )

        return off_policy.gather(config, env, state, policy).memory.data

    found = jax.tree.map(lambda x: np.asarray(x), rows(jax.random.key(0)))
    mask, action = found.obs["action_mask"], found.action
    assert np.all(np.take_along_axis(mask, action[:, None], axis=1))
    assert np.all(found.reward == 1.0)
    for first in range(3):  # 4 of 6 actions are legal, of about 680 rows: five standard errors
        here = mask[:, first] == 0
        share = np.bincount(action[here], minlength=NUM) / here.sum()
        assert_allclose(share[mask[here][0]], 0.25, atol=5.0 * (0.1875 / here.sum()) ** 0.5)


ACTING = {
    "ppo": ppo.Config(env=STRICT, normalize_obs=True, **TINY),
    "ppo-network": ppo.Config(env=STRICT, network=Own, **TINY),
    "ppo-stacked": ppo.Config(env=STRICT, frame_stack=2, **TINY),
    "sac": sac.Config(env=STRICT, **SMALL_REPLAY),
    "soft_q_learning": soft_q_learning.Config(env=STRICT, **SMALL_REPLAY),
}


@cache
def shaken_policy(name):
    """Parameters that make illegal actions as probable as others, if nothing forbade them."""
    config = ACTING[name]
    state = jax.jit(agent_of(config).init)(config, jax.random.key(0))
    learner = state.learner
    params = jax.tree.map(lambda x: 10.0 * x, shaken(learner.params, 0))
    return Policy(config, state._replace(learner=learner._replace(params=params)), 0)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("name", ["ppo", "ppo-stacked", "soft_q_learning"])
def test_an_evaluation_takes_no_illegal_action(name, deterministic):
    returns = shaken_policy(name).evaluate(jax.random.key(1), 64, deterministic)
    assert np.max(returns) <= structured.LIMIT


@pytest.mark.parametrize("name", ["ppo-network", "sac"])
def test_a_policy_takes_no_illegal_action(name):
    policy, masks = shaken_policy(name), np.random.default_rng(0).random((200, NUM)) < 0.4
    masks[:, 0] |= ~masks.any(axis=1)
    obs = {
        "walker": {"far": np.ones(200), "place": np.ones((200, 2))},
        "phase": np.zeros(200, int),
        "action_mask": masks,
    }
    for key in (None, jax.random.key(0)):
        assert masks[np.arange(200), policy(obs, key)].all()
    one = jax.tree.map(lambda x: x[0], obs)
    assert masks[0][int(policy(one))]


# --- whole runs ---------------------------------------------------------------------------------


def trained(config):
    state, metrics = jax.jit(jaxrl_pg.train)(config, jax.random.key(0))
    return state, metrics


def test_pairs_are_learned_as_their_numbers_bit_for_bit():
    """With masks and stacked observations: all that was seen, done and learned."""
    values = {**TINY, "frame_stack": 2, "total_timesteps": 64}
    numbered, pairs = (trained(ppo.Config(env=env, **values)) for env in (MASKED, PAIRS))
    for part in ("learner", "key", "iteration"):
        assert_bit_equal(getattr(numbered[0], part), getattr(pairs[0], part))
    for part in ("obs", "episode_return", "episode_length"):
        assert_bit_equal(getattr(numbered[0].actor, part), getattr(pairs[0].actor, part))
    assert_bit_equal(numbered[1], pairs[1])


def test_structured_observations_are_learned_from_as_one_array():
    """Up to how sums are rounded."""
    values = {**TINY, "total_timesteps": 64, "normalize_obs": True}
    one, parts = (trained(ppo.Config(env=env, **values)) for env in (TWIN, FORMS["dict"]))
    assert_close(one[0].learner.params, parts[0].learner.params, rtol=1e-3, atol=1e-6)
    assert_close(one[1], parts[1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("core", [MASKED, FORMS["dict"], Walk(actions=PAIRS.actions)])
def test_players_who_take_turns_refuse_them_in_one_sentence(core):
    message = r"^multi_agent numbers the joint .* use another agent, such as ppo$"
    with pytest.raises(ValueError, match=message):
        multi_agent.build(multi_agent.Config(env=core))
