"""Acting with illegal actions: warm-ups, policies, evaluations and whole runs."""

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
from jaxrl_pg import dqn, envs, multi_agent, ppo, pqn, sac, soft_q_learning
from jaxrl_pg.components import networks, off_policy, own_network
from jaxrl_pg.config import agent_of
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.types import EnvSpec
from programs import SMALL_REPLAY, TINY, shaken
from structured import FORMS, MASKED, NUM, PAIRS, STRICT, TWIN, Walk


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
    config = ppo.Config(env=STRICT, network=Own)
    obs = {
        **envs.observations.blank(envs.make(STRICT).spec.obs_shape, 3),
        "action_mask": jnp.eye(NUM, dtype=bool)[:3],
    }
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
    "pqn": pqn.Config(env=STRICT, normalize_obs=True, epsilon_end=0.5, **TINY),
    "dqn": dqn.Config(env=STRICT, epsilon_end=0.5, **SMALL_REPLAY),
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


@pytest.mark.parametrize("name", ["ppo-network", "sac", "pqn", "dqn"])
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
