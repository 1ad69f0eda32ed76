"""TD3 and DDPG, one update at a time: worked targets, the exact gradient, exploration, probes."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from gymnax.environments import spaces
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import probes
import structured
from jaxrl_pg import ddpg, envs, td3
from jaxrl_pg.components.off_policy import Rows
from jaxrl_pg.training import program
from jaxrl_pg.types import EnvSpec
from programs import shaken

PROBE = probes.Probe(discrete=False)
INIT, ITERATE = jax.jit(td3.init), jax.jit(td3.iterate)
SMALL = {"num_envs": 1, "num_steps": 1, "num_updates": 2, "batch_size": 4, "buffer_size": 1}
LATER = 10**6  # an iteration long after learning started


def config_of(module=td3, params=(), **values):
    """A probe that shows cue and time, and pays 1 and the cue."""
    params = {"base": 1, "cue_weight": 0.5, "show_cue": 1, "show_time": 1, **dict(params)}
    values = {"hidden_sizes": (8,), "gamma": 0.9, "learning_starts": 100, **values}
    return module.Config(env=PROBE, env_params=probes.params(**params), **{**SMALL, **values})


def start(config):
    """A state whose networks and targets say different things, learning already."""
    state = INIT(config, jax.random.key(0))
    learner = state.learner._replace(
        params=shaken(state.learner.params, 1), target=shaken(state.learner.target, 2)
    )
    return state._replace(learner=learner, iteration=jnp.int32(LATER))


def longest_move(before, after):
    """How far the policy went: Adam's first step is its rate, wherever there is a gradient."""
    old, new = (jax.tree.leaves(learner.params.policy) for learner in (before, after))
    return max(np.max(np.abs(a - b)) for a, b in zip(old, new, strict=True))


# --- the target -----------------------------------------------------------------------------------


class Lines(nn.Module):
    """`mu(s) = tanh(m)` and `Q_k(s, a) = w_k a + b_k`, whatever s is."""

    spec: EnvSpec

    def setup(self):
        zeros = nn.initializers.zeros_init()
        self.m, self.w, self.b = (self.param(name, zeros, ()) for name in "mwb")

    def policy(self, obs):
        return jnp.full((obs.shape[0], 1), self.m)

    def q(self, obs, action):
        return self.w * action[:, 0] + self.b


@pytest.mark.parametrize(
    ("mean", "noise", "terminated", "target"),
    [
        # sigma = 0.2, c = 0.5, Q'_1(a) = 1 + a and Q'_2(a) = 2 - 2 a, r = 3, gamma = 0.9.
        (0.4, 0.0, False, 4.08),  # a' = 0.4: 1.4 and 1.2, so 3 + 0.9 * 1.2
        (0.4, 1.0, False, 3.72),  # a' = 0.4 + 0.2 = 0.6: 1.6 and 0.8, so 3 + 0.9 * 0.8
        (0.4, 4.0, False, 3.18),  # e = 0.8, so 0.5; a' = 0.9: 1.9 and 0.2, so 3 + 0.9 * 0.2
        (0.4, -4.0, False, 3.81),  # e = -0.8, so -0.5; a' = -0.1: 0.9 and 2.2, so 3 + 0.9 * 0.9
        (0.8, 4.0, False, 3.0),  # a' = 1.3, so 1: 2 and 0, so 3 + 0.9 * 0
        (0.4, 1.0, True, 3.0),  # no future
    ],
)
def test_the_target_is_the_least_q_of_an_action_with_clipped_noise(mean, noise, terminated, target):
    config = config_of(network=Lines)
    copies = {"params": {"m": jnp.zeros(2), "w": jnp.zeros(2), "b": jnp.zeros(2)}}
    averaged = {"params": {**copies["params"], "w": jnp.array([1.0, -2.0]), "b": jnp.arange(1, 3)}}
    others, mu = ({"params": {"m": jnp.arctanh(m), "w": 0.0, "b": 0.0}} for m in (-0.9, mean))
    learner = td3.Learner(td3.Params(others, copies), td3.Params(mu, averaged), (), ())
    obs = jnp.zeros((1, 3))
    rows = Rows(obs, jnp.zeros((1, 1)), jnp.array([3.0]), jnp.array([terminated]), obs)
    noise = jnp.array([[noise]])
    loss, _ = td3._critic_loss(copies, config, td3.build(config), learner, rows, noise)
    # Both critics say 0, so that the loss is (target^2 + target^2) / 2.
    assert_allclose(loss, target**2, rtol=1e-5)


@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
def test_losses_of_ddpg_are_those_of_its_paper(length):
    """Of one row: `r + gamma Q'(s', mu'(s'))`, and then `-Q(s, mu(s))` of the critic's new Q."""
    config = config_of(ddpg, num_updates=1, params={"length": length})
    before, model = start(config), td3.build(config)
    after, metrics = ITERATE(config, before)
    row, learner = after.memory.data, before.learner

    def q(params, obs, action):
        return float(model.q(params.critics, obs, action)[0, 0])

    ahead = q(learner.target, row.next_obs, model.action(learner.target.policy, row.next_obs))
    target = float(row.reward[0]) + (0.9 * ahead if length > 1 else 0.0)
    error = q(learner.params, row.obs, row.action) - target
    assert_allclose(metrics["loss/q"], 0.5 * error**2, rtol=1e-4)
    action = model.action(learner.params.policy, row.obs)
    assert_allclose(longest_move(learner, after.learner), config.learning_rate, rtol=0.01)
    assert_allclose(metrics["loss/policy"], -q(after.learner.params, row.obs, action), rtol=1e-4)


def test_policy_and_targets_move_once_in_so_many_steps_of_the_critics():
    config = config_of(params={"length": 5}, tau=0.1, learning_rate=0.01, policy_learning_rate=0.03)
    before = start(config)
    after = ITERATE(config, before)[0].learner
    assert (after.critic_opt.count, after.policy_opt.count) == (2, 1)
    # One move towards the parameters of the end: none towards those between the critics' steps.
    expected = jax.tree.map(lambda t, p: 0.9 * t + 0.1 * p, before.learner.target, after.params)
    jax.tree.map(partial(assert_allclose, rtol=1e-5, atol=1e-6), after.target, expected)
    assert_allclose(longest_move(before.learner, after), 0.03, rtol=0.01)


# --- the deterministic policy gradient ------------------------------------------------------------


class Linear(nn.Module):
    """`mu(s) = k s`, and the action values of a linear-quadratic problem whose values are -p s^2.

    `s' = s + a`, `r = -(s^2 + 4 a^2)` and gamma = 0.8: `Q = r - 0.8 p (s + a)^2`.
    """

    spec: EnvSpec

    def setup(self):
        zeros = nn.initializers.zeros_init()
        self.k, self.p = (self.param(name, zeros, ()) for name in "kp")

    def policy(self, obs):
        return jnp.arctanh(self.k * obs[:, :1])

    def q(self, obs, action):
        s, a = obs[:, 0], action[:, 0]
        return -(s**2 + 4.0 * a**2) - 0.8 * self.p * (s + a) ** 2


def test_on_the_policys_own_states_with_its_own_q_it_is_the_gradient_of_the_return():
    """Linear-quadratic: `J(k) = -p(k)` from s = 1, with `p = (1 + 4 k^2) / (1 - 0.8 c^2)`.

    `c = 1 + k` is what a step leaves of s. At k = -1/2: p = 2 / 0.8 = 2.5, and
    `dp/dk = (8 k (1 - 0.8 c^2) + (1 + 4 k^2) 1.6 c) / (1 - 0.8 c^2)^2
           = (-4 * 0.8 + 2 * 0.8) / 0.64 = -2.5`, so `dJ/dk = 2.5`.
    """
    config = config_of(network=Linear, optimizer=optax.sgd, policy_learning_rate=1.0, tau=1.0)
    # A state weighs gamma^t in J and its gradient grows with s^2: its square root goes into s.
    num = 64
    s = np.float32(0.8 ** (np.arange(num) / 2) * 0.5 ** np.arange(num))
    obs = jnp.stack([s, 0 * s, 0 * s], axis=1)
    policy = {"params": {"k": jnp.float32(-0.5), "p": jnp.float32(0.0)}}
    critics = {"params": {"k": jnp.zeros(2), "p": jnp.array([2.5, 100.0])}}  # the first one counts
    params = td3.Params(policy, critics)
    learner = td3.Learner(params, params, optax.sgd(1.0).init(policy), ())
    learner, metrics = td3._policy_step(config, td3.build(config), learner, obs)
    moved = learner.params.policy["params"]["k"] + 0.5
    assert_allclose(num * moved, 2.5, rtol=1e-5)
    assert_allclose(num * metrics["policy/grad_norm"], 2.5, rtol=1e-5)
    jax.tree.map(assert_array_equal, learner.target, learner.params)  # tau = 1


def test_the_policys_gradient_is_that_of_rlax():
    rlax = pytest.importorskip("rlax")
    config = config_of()
    learner, model = start(config).learner, td3.build(config)
    policy, critics = learner.params
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    slope = jax.grad(lambda a: jnp.sum(model.q(critics, obs, a)[0]))(model.action(policy, obs))

    def loss(policy):
        return jnp.mean(jax.vmap(rlax.dpg_loss)(model.action(policy, obs), slope))

    ours = jax.grad(td3._policy_loss)(policy, model, critics, obs)
    jax.tree.map(partial(assert_allclose, rtol=1e-4, atol=1e-6), ours, jax.grad(loss)(policy))


# --- exploring ------------------------------------------------------------------------------------

MANY = {"num_envs": 64, "num_steps": 16, "buffer_size": 1024}


@cache
def collected(mean, noise, correlation):
    """Actions `[T, B]` in training of a policy that is set on one."""
    config = config_of(**MANY, exploration_noise=noise, noise_correlation=correlation)
    state = INIT(config, jax.random.key(0))
    policy = jax.tree.map(jnp.zeros_like, state.learner.params.policy)
    policy["params"]["policy_head"]["bias"] = jnp.arctanh(jnp.array([mean]))
    params = state.learner.params._replace(policy=policy)
    state = state._replace(learner=state.learner._replace(params=params), iteration=LATER)
    return np.asarray(ITERATE(config, state)[0].memory.data.action).reshape(16, 64)


def test_noise_has_the_standard_deviation_and_the_memory_that_are_asked_for():
    """Of 1,024 actions, or of 64 independent rows of them: false alarms of 1e-6 and less."""
    assert_allclose(collected(0.3, 0.0, 0.0), 0.3, rtol=1e-5)
    z = (collected(0.3, 0.1, 0.0) - 0.3) / 0.1
    assert stats.kstest(z.ravel(), stats.norm.cdf).pvalue > 1e-6
    z = (collected(0.3, 0.1, 0.9) - 0.3) / 0.1
    assert stats.kstest(z[-1], stats.norm.cdf).pvalue > 1e-6
    fresh = (z[1:] - 0.9 * z[:-1]) / np.sqrt(1 - 0.9**2)
    assert stats.kstest(fresh.ravel(), stats.norm.cdf).pvalue > 1e-6


def test_noise_does_not_leave_the_bounds():
    """From 0.9, noise of 0.1 passes 1 with probability `1 - Phi(1) = 0.159`."""
    actions = collected(0.9, 0.1, 0.0)
    assert np.max(actions) == 1.0
    assert stats.binomtest(int(np.sum(actions == 1.0)), 1024, stats.norm.sf(1)).pvalue > 1e-6


def test_a_policy_acts_with_its_noise_or_without():
    config = config_of(exploration_noise=0.2)
    learner, obs, key = start(config).learner, jnp.ones((5, 3)), jax.random.key(1)
    mean = td3.build(config).action(learner.params.policy, obs)
    assert_array_equal(td3.act(config, learner, obs, key, True), mean)
    drawn = td3.act(config, learner, obs, key, False)
    expected = np.clip(mean + 0.2 * jax.random.normal(key, (5,))[:, None], -1.0, 1.0)
    assert_allclose(drawn, expected, rtol=1e-6)


# --- observations of several parts ----------------------------------------------------------------


class Steered(structured.Walk):
    """The walk, at a pace that is a real action."""

    def step_env(self, key, state, action, params):
        return super().step_env(key, state, 2.0 + 3.0 * action[0], params)


def test_parts_are_read_as_the_array_that_they_make():
    box = spaces.Box(-1.0, 1.0, (1,))
    twin = Steered(structured.as_array, structured.TWIN.space, box)
    one, parts = (
        td3.Config(env=env, hidden_sizes=(4,), **SMALL) for env in (twin, Steered(actions=box))
    )
    before = jax.eval_shape(td3.init, parts, jax.random.key(0))
    learner = shaken(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), before.learner), 1)
    seen = structured.as_dict(jnp.array([[0.5, -1.5]]), jnp.array([2]), jnp.array([2.0]))
    array = jnp.array([[0.0, 0.0, 1.0, 2.0, 0.5, -1.5]])

    @jax.jit
    def asked(config, learner, obs):
        model = td3.build(config)
        obs = envs.batch(model.env, obs)
        action = model.action(learner.params.policy, obs)
        rows = Rows(obs, action, jnp.ones(1), jnp.zeros(1, bool), obs)
        loss, _ = td3._critic_loss(
            learner.params.critics, config, model, learner, rows, jnp.ones((1, 1))
        )
        return action, td3.value(config, learner, obs), loss

    jax.tree.map(assert_array_equal, asked(parts, learner, seen), asked(one, learner, array))
    after, _ = jax.eval_shape(td3.iterate, parts, before)
    assert jax.tree.structure(after) == jax.tree.structure(before)


# --- learning -------------------------------------------------------------------------------------

TRAIN = jax.jit(program.train)


@cache
def learned(**params):
    """Values and actions at either cue, after training on a probe; one program for all of them."""
    config = td3.Config(
        env=PROBE,
        env_params=probes.params(**params),
        num_updates=32,
        batch_size=64,
        learning_starts=256,
        total_timesteps=64 * 64,
        buffer_size=4096,
        hidden_sizes=(16, 16),
        learning_rate=0.003,
        tau=0.1,
        gamma=0.5,
        exploration_noise=0.3,
    )
    state, _ = TRAIN(config, jax.random.key(0))
    obs = jnp.array([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0]])
    action = td3.act(config, state.learner, obs, jax.random.key(0), True)
    return np.asarray(td3.value(config, state.learner, obs)), np.asarray(action)[:, 0]


def test_the_paid_action_is_taken_in_every_state():
    """The reward is `-(a - cue)^2`, and a = 1 of [-2, 2] is 0.5 of [-1, 1]."""
    values, actions = learned(cost=1, follow=1, show_cue=1, length=1)
    assert_allclose(actions, [-0.5, 0.5], atol=0.1)
    assert_allclose(values, 0.0, atol=0.1)


def test_a_time_limit_is_no_end_and_an_end_is_one():
    """Reward 1 at gamma 1/2, whatever is done: worth 2 though cut off every two steps, else 1."""
    assert_allclose(learned(base=1, show_cue=1, max_steps_in_episode=2)[0], 2.0, atol=0.02)
    ended, _ = learned(base=1, show_cue=1, length=1, max_steps_in_episode=2)
    assert_allclose(ended, 1.0, atol=0.02)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_updates": 3}, r"num_updates=3 is no multiple of policy_delay=2: give one"),
        ({"policy_delay": 0}, r"policy_delay=0: give a whole number >= 1"),
        ({"exploration_noise": -0.1}, r"exploration_noise=-0\.1: give a number >= 0"),
        ({"target_policy_noise": -1}, r"target_policy_noise=-1: give a number >= 0"),
        ({"policy_learning_rate": 0.0}, r"policy_learning_rate=0\.0: give a number > 0"),
        ({"policy_noise": 0.2}, r"unknown field 'policy_noise': did you mean"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(values, message):
    with pytest.raises(ValueError, match=message) as error:
        td3.Config(**values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("module", [td3, ddpg])
def test_a_finite_action_set_is_refused_by_name(module):
    config = module.Config(env="CartPole-v1")
    message = f"^{config.agent.name} .* 'CartPole-v1' has a finite action set: .* or use sac"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(partial(module.init, config), jax.random.key(0))
