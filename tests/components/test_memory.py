"""Recurrent cores: sequences against a plain loop, and nothing misaligned between the two."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal

import jaxrl_pg
from corridor import CORRIDOR
from jaxrl_pg import actor_critic, analytical, envs, ppo
from jaxrl_pg.components import memory, models, on_policy
from jaxrl_pg.components.memory import Sequences
from jaxrl_pg.ops import returns
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.types import EnvSpec
from programs import SMALL, shaken

# Pendulums that are cut off after five steps, so twice within a rollout and once across two.
CUT = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 5.0}}
CONFIGS = {
    "lstm": ppo.Config(**SMALL, **CUT, core="lstm", core_size=3, num_minibatches=2),
    "gru-structured": ppo.Config(
        **SMALL,
        env=CORRIDOR,
        env_params={"max_steps_in_episode": 5.0},
        core="gru",
        core_size=3,
        normalize_obs=True,
        num_minibatches=2,
    ),
}
KEY = jax.random.key(0)


class Diagonal(nn.Module):
    """A linear state-space layer whose every state decays at a rate of its own."""

    features: int

    @nn.compact
    def __call__(self, carry: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        rate = self.param("rate", nn.initializers.normal(1.0), (self.features,))
        carry = jax.nn.sigmoid(rate)[None] * carry + nn.Dense(self.features)(x)
        return carry, jnp.tanh(carry)

    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        del rng
        return jnp.zeros((*input_shape[:-1], self.features))


class Own(nn.Module):
    """Layers of one's own around a core."""

    spec: EnvSpec

    def setup(self) -> None:
        self.body = nn.Dense(5)
        self.head, self.critic = nn.Dense(self.spec.num_actions), nn.Dense(1)

    def encode(self, obs: jax.Array) -> jax.Array:
        return nn.relu(self.body(obs))

    def policy(self, x: jax.Array) -> jax.Array:
        return self.head(x)

    def value(self, x: jax.Array) -> jax.Array:
        return self.critic(x)[:, 0]


class Gathered(NamedTuple):
    """A second rollout, which begins in mid-episode, and the learner that took it."""

    model: Any
    learner: Any
    experience: Any
    batch: Any


@pytest.fixture(scope="module", params=CONFIGS)
def gathered(request):
    config = CONFIGS[request.param]

    @jax.jit
    def gather(key):
        state = ppo.init(config, key)
        learner = state.learner._replace(params=shaken(state.learner.params, 1))
        model = models.build(config)
        state = state._replace(learner=learner)
        first = on_policy.gather(config, model, state)
        learner = learner._replace(normalizer=first.normalizer)
        state = state._replace(actor=first.actor, key=first.next_key, learner=learner)
        experience = on_policy.gather(config, model, state)
        return learner, experience, on_policy.make_batch(config, model, learner, experience)

    return Gathered(models.build(config), *gather(KEY))


def test_the_ratio_of_the_first_minibatch_is_one_in_every_row(gathered):
    dist, values = gathered.model.read(gathered.learner.params, gathered.batch)
    log_ratio = gathered.model.family.log_prob(dist, gathered.batch.action)
    log_ratio -= gathered.batch.log_prob
    assert log_ratio.shape == (8, 8)
    assert np.any(gathered.batch.sequences.fresh)
    assert np.any(np.asarray(jax.tree.leaves(gathered.batch.sequences.hidden)[0]) != 0)
    assert_allclose(log_ratio, 0.0, atol=1e-5)
    assert_allclose(values, gathered.batch.value, rtol=1e-5, atol=1e-5)


def test_values_of_a_rollout_are_those_of_a_loop_that_forgets_at_every_end(gathered):
    model, learner, experience = gathered.model, gathered.learner, gathered.experience
    steps, hidden = experience.steps, experience.hidden
    step = jax.jit(lambda obs, hidden: model.step(learner, obs, hidden))
    ends = np.asarray(steps.terminated | steps.truncated)
    value, finals = [], []
    for t in range(ends.shape[0]):
        hidden, _, v = step(jax.tree.map(lambda x, t=t: x[t], steps.obs), hidden)
        value.append(v)
        finals.append(hidden)
        hidden = jax.tree.map(lambda h, t=t: np.where(ends[t][:, None], 0.0, h), hidden)
    last = step(experience.actor.obs, hidden)[2]
    ours, following = on_policy.values(model, learner, experience)
    assert_allclose(ours, np.stack(value), rtol=1e-5, atol=1e-5)
    expected = returns.successor_values(jnp.stack(value), last, steps.final_value, ends)
    assert_allclose(following, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(experience.actor.hidden), jax.tree.leaves(hidden), strict=True
    ):
        assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_cut_off_is_valued_with_what_was_remembered_then():
    """Not with what is remembered where the next episode begins, which is nothing.

    Every reward is -1 and gamma 1, so that the advantage of a step is `V(s') - V(s) - 1`; at a cut
    V(s') reads the final observation with the memory after s.
    """
    config = CONFIGS["lstm"]
    model, state = models.build(config), ppo.init(config, KEY)
    learner = state.learner._replace(params=shaken(state.learner.params, 2))
    gather = jax.jit(lambda state: on_policy.gather(config, model, state))
    experience = gather(state._replace(learner=learner))
    cut = np.asarray(experience.steps.truncated)
    assert cut.sum() == 8
    env, hidden, actor = model.env, experience.hidden, state.actor
    _, *keys = jax.random.split(state.key, 4)
    step_keys = jax.random.split(keys[1], 16).reshape(8, 2)
    env_state = actor.env_state
    for t in range(5):
        obs = experience.steps.obs[t]
        hidden, _, _ = model.step(learner, obs, hidden)
        env_state, timestep = envs.step(env, *step_keys[t], env_state, experience.steps.action[t])
    expected = model.value(learner, timestep.final_obs, hidden)
    forgetful = model.value(learner, timestep.final_obs, jax.tree.map(jnp.zeros_like, hidden))
    assert_allclose(experience.steps.final_value[4], expected, rtol=1e-5, atol=1e-5)
    assert np.min(np.abs(expected - forgetful)) > 1e-3


@pytest.mark.parametrize("core", ["gru", "lstm", Diagonal])
def test_sequences_are_a_loop_over_steps(core):
    config = ppo.Config(env="CartPole-v1", core=core, core_size=6, hidden_sizes=(4,))
    network = memory.build(config, envs.of(config).spec)
    params = shaken(memory.init_params(network, KEY), 0)
    rng = np.random.default_rng(0)
    obs, fresh = rng.normal(size=(3, 7, 4)).astype(np.float32), rng.random((3, 7)) < 0.3
    hidden = shaken(memory.start(network, 3), 1)
    logits, values = network.apply(params, obs, Sequences(fresh, hidden))
    for t in range(7):
        hidden = jax.tree.map(lambda h, t=t: np.where(fresh[:, t, None], 0.0, h), hidden)
        hidden, row, value = network.apply(params, obs[:, t], hidden, method="step")
        assert_allclose(logits[:, t], row, rtol=1e-5, atol=1e-6)
        assert_allclose(values[:, t], value, rtol=1e-5, atol=1e-6)


def test_a_gru_is_its_three_equations():
    # Cho et al. 2014 in flax's form: r and z from x and h, n = tanh(W x + b + r (U h + c)),
    # h' = (1 - z) n + z h.
    cell = memory.cell_of(ppo.Config(core="gru", core_size=2))
    h, x = np.array([[0.5, -1.0]], np.float32), np.array([[1.0, 2.0, -1.0]], np.float32)
    params = shaken(cell.init(KEY, h, x), 3)
    p = jax.tree.map(np.asarray, params["params"])

    def affine(name, v):
        return v @ p[name]["kernel"] + p[name].get("bias", 0.0)

    r, z = (1 / (1 + np.exp(-affine(f"i{g}", x) - affine(f"h{g}", h))) for g in "rz")
    n = np.tanh(affine("in", x) + r * affine("hn", h))
    assert_allclose(cell.apply(params, h, x)[0], (1 - z) * n + z * h, rtol=1e-5)


def test_kernels_are_orthogonal_and_a_users_parts_have_their_own_beginnings():
    spec = EnvSpec((3,), True, 2, ())
    ours = memory.build(ppo.Config(core="gru", core_size=4, hidden_sizes=(4,)), spec)
    params = memory.init_params(ours, KEY)["params"]
    kernel = np.asarray(params["core"]["hn"]["kernel"])
    assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)  # gain 1
    kernel = np.asarray(params["body"]["encoder"]["Dense_0"]["kernel"])
    assert_allclose(kernel @ kernel.T, 2.0 * np.eye(3), atol=1e-5)  # gain sqrt(2)
    head = np.asarray(params["body"]["policy_head"]["kernel"])
    assert_allclose(head.T @ head, 1e-4 * np.eye(2), atol=1e-8)  # gain 0.01
    config = ppo.Config(core=Diagonal, core_size=50, network=Own)
    theirs = memory.init_params(memory.build(config, spec), KEY)["params"]
    rate = np.asarray(theirs["core"]["rate"])
    # 50 standard normals: beyond these 5e-4 of all keys on either side, and this key is fixed.
    assert abs(rate.mean()) < 0.47
    assert 0.65 < rate.std() < 1.35
    assert set(theirs["body"]) == {"body", "head", "critic"}
    assert np.all(np.any(np.asarray(theirs["body"]["body"]["kernel"]) != 0, axis=0))


# --- agents ---------------------------------------------------------------------------------------


def test_a_policy_hands_on_what_it_remembers():
    config = CONFIGS["lstm"]
    state = ppo.init(config, KEY)
    learner = state.learner._replace(params=shaken(state.learner.params, 4))
    policy = Policy(config, state._replace(learner=learner), 0)
    obs, hidden = state.actor.obs, policy.start(8)
    action, hidden = policy(obs, hidden=hidden)
    assert action.shape == (8, 1)
    again, _ = policy(obs, hidden=hidden)
    # Remembered; some actions are at a bound both times.
    assert np.sum(np.abs(np.asarray(action - again)) > 1e-3) >= 3
    one, one_hidden = policy(obs[0], hidden=policy.start(1))
    assert_allclose(one, action[0], rtol=1e-5, atol=1e-6)
    assert jax.tree.leaves(one_hidden)[0].shape == (1, 3)
    values = policy.value(obs, hidden)
    assert_allclose(jaxrl_pg.value(config, policy.state, obs, hidden), values, rtol=1e-6)
    assert values.shape == (8,)
    message = r"hidden has shapes .*: give hidden=policy.start\(8\) when episodes begin"
    for wrong in (None, policy.start(7)):
        with pytest.raises(ValueError, match=message):
            policy(obs, hidden=wrong)
    plain = ppo.Config(**SMALL, num_minibatches=2)
    with pytest.raises(ValueError, match="the policy has no core: leave it out"):
        Policy(plain, ppo.init(plain, KEY), 0)(np.zeros(4), hidden=hidden)
    assert Policy(plain, ppo.init(plain, KEY), 0).start(3) == ()


def test_a_saved_policy_with_a_core_of_ones_own_is_loaded_with_it(tmp_path):
    config = ppo.Config(**SMALL, **CUT, core=Diagonal, core_size=3, num_minibatches=2)
    policy = Policy(config, ppo.init(config, KEY), 0)
    policy.save(tmp_path / "policy")
    with pytest.raises(
        ValueError, match="given an object of test_memory:Diagonal: in Python, pass core="
    ):
        jaxrl_pg.load(tmp_path / "policy")
    loaded = jaxrl_pg.load(tmp_path / "policy", core=Diagonal)
    obs = np.ones((2, 3), np.float32)
    for ours, theirs in zip(
        jax.tree.leaves(policy(obs, hidden=policy.start(2))),
        jax.tree.leaves(loaded(obs, hidden=loaded.start(2))),
        strict=True,
    ):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        (ppo, {"core": "gruu"}, "core='gruu': did you mean 'gru'"),
        (ppo, {"core": 3}, "core=3 gives no recurrent cell: give gru, lstm, or a function"),
        (ppo, {"core": nn.Dense}, "gives no recurrent cell"),
        (
            ppo,
            {"core": "gru", "num_envs": 8, "num_minibatches": 3},
            r"num_envs=8 \(with a core a row is an environment's sequence\) does not split into "
            "num_minibatches=3.*num_minibatches=[24] or [24]",
        ),
        (actor_critic, {"core": "gru", "online": True, "target": "td0"}, "give online=False"),
        (analytical, {"core": "lstm", "target": "all_actions"}, "give target='sampled'"),
    ],
)
def test_refusals_name_the_value_and_the_remedy(module, values, message):
    with pytest.raises(ValueError, match=message):
        module.Config(**values)


def test_agents_without_a_memory_have_no_such_field():
    with pytest.raises(ValueError, match="unknown field 'core'"):
        jaxrl_pg.sac.Config(core="gru")


def test_minibatches_are_whole_sequences():
    assert ppo.Config(core="gru", num_minibatches=4).rows_per_iteration == 64
    assert ppo.Config(num_minibatches=4).rows_per_iteration == 64 * 32
    assert math.prod((64, 32)) == ppo.Config(core=None).rows_per_iteration
