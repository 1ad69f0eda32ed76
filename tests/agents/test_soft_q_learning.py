"""Soft Q-learning, one update at a time, from a replay of one row; the optimum is in oracle/."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

import probes
from jaxrl_pg import soft_q_learning
from jaxrl_pg.ops import stein
from jaxrl_pg.types import EnvSpec
from programs import shaken

INIT = jax.jit(soft_q_learning.init)
ITERATE = jax.jit(soft_q_learning.iterate)
PROBE = probes.Probe()
ALPHA = 0.4


def config_of(**params):
    return soft_q_learning.Config(
        env=PROBE,
        env_params=probes.params(base=1, show_cue=1, show_time=1, **params),
        num_envs=1,
        num_steps=1,
        num_updates=1,
        batch_size=4,
        buffer_size=1,
        learning_starts=10,
        hidden_sizes=(8,),
        gamma=0.9,
        alpha=ALPHA,
    )


def start(config):
    state = INIT(config, jax.random.key(0))
    params, target = (shaken(state.learner.params, seed) for seed in (1, 2))
    learner = state.learner._replace(params=params, target=target)
    return state._replace(learner=learner, iteration=jnp.int32(1000))


def q_of(config, params, obs):
    network = soft_q_learning.build(config).q
    return np.asarray(network.apply(params, obs)[0], np.float64)


@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
def test_the_loss_worked_from_the_networks(length):
    """`(Q - r - gamma alpha log sum exp(Q' / alpha))^2 / 2`, and nothing beyond an end."""
    config = config_of(length=length)
    before = start(config)
    after, metrics = ITERATE(config, before)
    row = after.memory.data
    q_next = q_of(config, before.learner.target, row.next_obs)[0]
    future = ALPHA * np.log(np.sum(np.exp(q_next / ALPHA)))
    assert bool(row.terminated[0]) == (length == 1)
    target = 1.0 + (0.0 if length == 1 else 0.9 * future)
    q = q_of(config, before.learner.params, row.obs)[0]
    taken = q[int(row.action[0])]
    assert_allclose(metrics["loss/q"], 0.5 * (taken - target) ** 2, rtol=1e-4)
    assert_allclose(metrics["q/mean"], taken, rtol=1e-5)
    entropy = stats.entropy(special.softmax(q / ALPHA))
    assert_allclose(metrics["policy/entropy"], entropy, rtol=1e-4)
    assert_allclose(metrics["alpha"], ALPHA)
    # The step goes the way of the target, and the target network follows it by tau.
    moved = q_of(config, after.learner.params, row.obs)[0][int(row.action[0])] - taken
    assert moved * (target - taken) > 0
    for old, new, average in zip(
        *map(jax.tree.leaves, (before.learner.target, after.learner.params, after.learner.target)),
        strict=True,
    ):
        assert_allclose(average, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-6)


def test_values_and_actions_are_those_of_the_boltzmann_policy():
    config = config_of(length=5)
    learner = start(config).learner
    obs = jax.random.normal(jax.random.key(3), (5, 3))
    q = q_of(config, learner.params, obs)
    value = soft_q_learning.value(config, learner, obs)
    assert_allclose(value, ALPHA * special.logsumexp(q / ALPHA, axis=1), rtol=1e-5)
    key = jax.random.key(4)
    greedy = soft_q_learning.act(config, learner, obs, key, True)
    assert_array_equal(greedy, np.argmax(q, axis=1))
    many = jnp.repeat(obs, 2000, axis=0)
    drawn = np.asarray(soft_q_learning.act(config, learner, many, key, False)).reshape(5, 2000)
    for actions, expected in zip(drawn, special.softmax(q / ALPHA, axis=1), strict=True):
        assert stats.binomtest(int(actions.sum()), 2000, expected[1]).pvalue > 1e-6


# --- Box actions ----------------------------------------------------------------------------------

BOX = probes.Probe(discrete=False)


def box_config(**changes):
    return config_of(length=5).replace(env=BOX, num_particles=2, **changes)


@pytest.mark.parametrize("length", [1, 5], ids=["terminated", "going on"])
def test_the_loss_over_a_box_worked_from_the_networks(length):
    """`(Q - r - gamma V)^2 / 2`, V from two uniform actions by the draws' first half."""
    config = box_config(env_params=config_of(length=length).env_params)
    before = start(config)
    model, row = soft_q_learning.build(config), ITERATE(config, before)[0].memory.data
    noise = jnp.array([[[0.3]], [[-1.2]]])
    loss, metrics = soft_q_learning._loss(
        before.learner.params, config, model, before.learner.target, row, noise
    )
    action = 2.0 * stats.norm.cdf(noise[:, 0, 0]) - 1.0
    q_next = [
        float(model.q.apply(before.learner.target, row.next_obs, jnp.full((1, 1), a))[0, 0, 0])
        for a in action
    ]
    future = ALPHA * np.log(2.0 * np.mean(np.exp(np.array(q_next) / ALPHA)))
    assert bool(row.terminated[0]) == (length == 1)
    target = 1.0 + (0.0 if length == 1 else 0.9 * future)
    q = float(model.q.apply(before.learner.params, row.obs, row.action)[0, 0, 0])
    assert_allclose(loss, 0.5 * (q - target) ** 2, rtol=1e-4)
    assert_allclose(metrics["q/mean"], q, rtol=1e-5)


def test_the_sampler_moves_its_actions_the_way_of_stein():
    """A small step changes each action before tanh towards `phi`, of scores by differences."""
    config = box_config(learning_rate=1e-4)
    learner, model = start(config).learner, soft_q_learning.build(config)
    learner = learner._replace(sampler=shaken(learner.sampler, 5))
    obs, noise = jax.random.normal(jax.random.key(0), (1, 3)), jnp.array([[[0.4]], [[-0.7]]])
    after, _ = soft_q_learning._teach(config, model, learner, obs, noise)

    def actions(learner):
        return np.array([model.actions(learner.sampler, obs, z)[0] for z in noise], np.float64)

    def log_density(u):
        q = model.q.apply(learner.params, obs, jnp.full((1, 1), np.tanh(u)))[0, 0, 0]
        return float(q) / ALPHA + np.log(1.0 - np.tanh(u) ** 2)

    u = actions(learner)
    score = np.array([(log_density(x + 0.01) - log_density(x - 0.01)) / 0.02 for x in u[:, 0]])
    phi = np.asarray(stein.direction(u, score[:, None]))
    moved = actions(after) - u
    assert np.sum(moved * phi) > 0
    # Q's parameters are left as they are.
    assert_array_equal(*(jax.tree.leaves(x.params)[0] for x in (learner, after)))


def test_actions_of_a_box_are_the_samplers_and_the_best_by_q():
    config = box_config()
    learner, model = start(config).learner, soft_q_learning.build(config)
    obs = jax.random.normal(jax.random.key(3), (5, 3))
    best = soft_q_learning.act(config, learner, obs, jax.random.key(4), True)
    noise = soft_q_learning._fixed_noise(config, model, obs)
    action = [np.tanh(model.actions(learner.sampler, obs, z)) for z in noise]
    q = np.array([model.q.apply(learner.params, obs, a)[0, :, 0] for a in action])
    for n in range(5):
        assert_allclose(best[n], action[int(np.argmax(q[:, n]))][n], rtol=1e-5)
    drawn = soft_q_learning.act(config, learner, obs, jax.random.key(4), False)
    assert drawn.shape == best.shape == (5, 1)
    assert np.all(np.abs(drawn) < 1)
    assert np.any(drawn != soft_q_learning.act(config, learner, obs, jax.random.key(5), False))


class TwoWays(nn.Module):
    """A q-function with peaks at -0.6 and 0.6, which no normal fits, and a sampler to be taught."""

    spec: EnvSpec

    def setup(self):
        self.hidden, self.head = nn.Dense(32), nn.Dense(1)
        self.scale = self.param("scale", nn.initializers.ones, ())

    def q(self, obs, action):
        return -10.0 * self.scale * (action[:, 0] ** 2 - 0.36) ** 2

    def sampler(self, obs, noise):
        return self.head(nn.tanh(self.hidden(noise)))


def test_the_sampler_learns_the_policy_of_a_q_with_two_peaks():
    """Its quantiles are those of exp(Q / 0.4), and both peaks are drawn equally often.

    Quantiles of 4,000 draws have standard errors of about 0.003 here, and the share 0.008.
    """
    config = box_config(network=TwoWays).replace(num_particles=32, learning_rate=3e-3)
    model, learner = soft_q_learning.build(config), INIT(config, jax.random.key(0)).learner
    obs = jnp.zeros((4, 3))

    def teach(learner, key):
        noise = jax.random.normal(key, (32, 4, 1))
        return soft_q_learning._teach(config, model, learner, obs, noise)[0], None

    keys = jax.random.split(jax.random.key(1), 800)
    learner, _ = jax.jit(lambda learner: jax.lax.scan(teach, learner, keys))(learner)
    many = jnp.zeros((4000, 3))
    drawn = soft_q_learning.act(config, learner, many, jax.random.key(2), False)[:, 0]
    grid = np.linspace(-1.0, 1.0, 2001)
    density = np.exp(-10.0 * (grid**2 - 0.36) ** 2 / ALPHA)
    cumulative = np.cumsum(density) / np.sum(density)
    levels = [0.1, 0.25, 0.75, 0.9]
    exact = np.interp(levels, cumulative, grid)
    assert_allclose(np.quantile(drawn, levels), exact, atol=0.06)
    assert_allclose(np.mean(drawn > 0), 0.5, atol=0.1)
