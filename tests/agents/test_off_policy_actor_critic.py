"""The off-policy actor-critic: identities, what the replay holds, and what ratios repair."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from steps import compiled

import probes
import structured
from compare import assert_close
from jaxrl_pg import actor_critic
from jaxrl_pg import off_policy_actor_critic as agent
from jaxrl_pg.components import networks, on_policy, segments
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.ops.distributions import Normal
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.updates import off_policy_gradient
from jaxrl_pg.training import program
from programs import shaken

SIZES = {"num_envs": 4, "num_steps": 6, "hidden_sizes": (8,), "total_timesteps": 24 * 8}
PENDULUM = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 4.0}, **SIZES}
KEY = jax.random.key(5)
INIT, ITERATE = jax.jit(agent.init), jax.jit(program.iterations, static_argnums=2)
GATHER = compiled(lambda config, model, state: segments.gather(config, model, state.learner, state))
REPLAYED = agent.Config(**PENDULUM, buffer_size=60, normalize_obs=True)


# --- identities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gae_lambda", [1.0, 0.8])
def test_on_its_own_newest_steps_it_is_the_actor_critic(gae_lambda):
    """Ratios are 1 whatever is done about them: three iterations stay together."""
    shared = {**PENDULUM, "learning_rate": 0.01, "ent_coef": 0.02, "gae_lambda": gae_lambda}
    shared |= {"normalize_obs": True, "normalize_reward": True}
    twin = actor_critic.Config(**shared, target="td_lambda")
    want, _ = ITERATE(twin, jax.jit(actor_critic.init)(twin, KEY), 3)
    config = agent.Config(**shared, replay_ratio=0, buffer_size=48)
    found, metrics = ITERATE(config, INIT(config, KEY), 3)
    assert_close(found.learner.params, want.learner.params, rtol=1e-3, atol=1e-5)
    assert_close(found.learner.normalizer, want.learner.normalizer, rtol=1e-5)
    assert_close(found.actor, want.actor, rtol=1e-3, atol=1e-4)
    assert_allclose(metrics["policy/ratio_max"], 1.0, rtol=1e-5)
    assert_allclose(metrics["policy/effective_share"], 1.0, rtol=1e-5)


def test_the_gradient_worked_from_the_networks():
    """One segment of one environment, terminated in the middle and cut off at its end."""
    config = agent.Config(
        env=probes.Probe(),
        env_params=probes.params(length=2, max_steps_in_episode=3, base=1, show_cue=1, show_time=1),
        num_envs=1,
        num_steps=3,
        buffer_size=3,
        hidden_sizes=(4,),
        gamma=0.9,
        gae_lambda=0.8,
        rho_clip=1.5,
        c_clip=1.2,
        ent_coef=0.1,
    )
    model = on_policy.build(config)
    params = shaken(INIT(config, KEY).learner.params, 0)
    rng = np.random.default_rng(0)
    part = segments.Segments(
        obs=jnp.float32(rng.normal(size=(3, 1, 3))),
        action=jnp.array([[0], [1], [1]]),
        log_prob=jnp.float32([[-1.2], [-0.2], [-2.0]]),
        reward=jnp.float32([[1.0], [-1.0], [2.0]]),
        terminated=jnp.array([[False], [True], [False]]),
        truncated=jnp.array([[False], [False], [True]]),
        next_obs=jnp.float32(rng.normal(size=(3, 1, 3))),
    )
    normalizer = INIT(config, KEY).learner.normalizer
    dist, value = model.network.apply(params, part.obs[:, 0])
    after = np.asarray(model.network.apply(params, part.next_obs[:, 0])[1], float)
    log_policy = np.asarray(jax.nn.log_softmax(dist), float)
    taken, value = log_policy[range(3), [0, 1, 1]], np.asarray(value, float)
    ratio = np.exp(taken - [-1.2, -0.2, -2.0])
    delta = np.array([1.0, -1.0, 2.0]) + 0.9 * after * [1, 0, 1] - value
    rho = np.minimum(1.5, ratio)
    error = rho * delta
    error[0] += 0.9 * 0.8 * min(1.2, ratio[0]) * error[1]
    advantage = delta + np.array([0.9 * 0.8 * error[1], 0.0, 0.0])

    def loss_of(values, c, net):
        return agent._loss(values, c, model, net, normalizer, part)

    loss, metrics = jax.jit(loss_of, static_argnums=2)((params, ()), config, None)
    assert_allclose(metrics["loss/policy"], -np.mean(rho * advantage * taken), rtol=1e-5)
    assert_allclose(metrics["loss/value"], np.mean(error**2) / 2, rtol=1e-5)
    entropy = -np.sum(np.exp(log_policy) * log_policy, axis=1).mean()
    assert_allclose(metrics["policy/entropy"], entropy, rtol=1e-5)
    total = metrics["loss/policy"] + 0.5 * metrics["loss/value"] - 0.1 * entropy
    assert_allclose(loss, total, rtol=1e-5)
    assert_allclose(metrics["policy/ratio_max"], ratio.max(), rtol=1e-5)
    assert_allclose(metrics["policy/clip_fraction"], np.mean(ratio > 1.5), rtol=1e-5)
    assert 0.0 < metrics["policy/clip_fraction"] < 1.0

    def of(**changes):
        changed = config.replace(**changes)
        return jax.jit(loss_of, static_argnums=2)((params, ()), changed, None)[1]

    # Without a correction ratios are 1; as they are, they are those of clips that never hold.
    plain = delta + np.array([0.9 * 0.8 * delta[1], 0.0, 0.0])
    assert_allclose(of(correction="none")["loss/value"], np.mean(plain**2) / 2, rtol=1e-5)
    assert_allclose(of(correction="none")["loss/policy"], -np.mean(plain * taken), rtol=1e-5)
    as_they_are, wide = of(correction="importance"), of(rho_clip=1e6, c_clip=1e6)
    for name in ("loss/value", "loss/policy"):
        assert_allclose(as_they_are[name], wide[name], rtol=1e-6)

    # While h is 0, gradient TD's steps of the policy and the values are those of TD.
    twin = config.replace(critic="gradient_td")
    second = agent.second_network(twin)
    zeros = jax.tree.map(jnp.zeros_like, INIT(twin, KEY).learner.expected_error)
    gradient = jax.jit(jax.grad(loss_of, has_aux=True), static_argnums=2)
    parts = (config, None, ()), (twin, second, zeros)
    grads = [gradient((params, h), c, net)[0] for c, net, h in parts]
    assert_close(grads[0][0], grads[1][0], rtol=1e-4, atol=1e-5)
    assert max(np.abs(x).max() for x in jax.tree.leaves(grads[1][1])) > 1e-3


# --- the replay ---------------------------------------------------------------------------------


def test_the_replay_holds_the_segments_of_the_newest_iterations():
    """Two iterations of four segments; the third is written over the first."""
    config = REPLAYED
    state = INIT(config, KEY)
    assert state.memory.data.reward.shape == (8, 6)
    seen = []
    for _ in range(3):
        before = state
        state, _ = ITERATE(config, state, 1)
        seen.append(jax.device_get(state.memory))
        experience = GATHER(config, before)
        places = segments.places(experience, 2)
        assert_array_equal(places[0], (4 * (len(seen) - 1) + np.arange(4)) % 8)
        assert places.shape == (3, 4)
        assert places.max() < min(4 * len(seen), 8)
    assert [int(x.size[0]) for x in seen] == [4, 8, 8]
    first, second, third = (x.data for x in seen)
    for name in ("obs", "action", "log_prob", "reward", "next_obs"):
        one, two, three = (getattr(x, name) for x in (first, second, third))
        assert_array_equal(two[:4], one[:4])
        assert_array_equal(three[4:], two[4:])
        assert not np.array_equal(three[:4], one[:4])
    # A segment is one environment's: time goes on within it, but for the cut after four steps.
    rows = third
    goes_on = ~(rows.truncated | rows.terminated)[:, :-1]
    assert_array_equal(rows.next_obs[:, :-1][goes_on], rows.obs[:, 1:][goes_on])
    assert rows.truncated.sum() == 8 + 4  # 12 steps of 4 environments, every fourth
    assert np.all(np.any(rows.next_obs[:, :-1][~goes_on] != rows.obs[:, 1:][~goes_on], axis=-1))


def test_probabilities_in_the_replay_are_those_of_the_policy_that_acted():
    config = REPLAYED
    state, _ = ITERATE(config, INIT(config, KEY), 1)
    data = jax.tree.map(lambda x: x[4:], GATHER(config, state).memory.data)
    model = on_policy.build(config)
    dist = model.policy(state.learner, data.obs.reshape(-1, 3))
    want = model.family.log_prob(dist, data.action.reshape(-1, 1))
    assert_allclose(data.log_prob.reshape(-1), want, rtol=1e-4, atol=1e-5)


def test_a_replay_smaller_than_an_iteration_is_refused():
    with pytest.raises(ValueError, match="buffer_size=23 does not hold the 24 steps of an iter"):
        agent.Config(**PENDULUM, buffer_size=23)


def test_two_devices_share_the_replay_and_learn_the_same():
    """The learner is the same on both, and each has its own segments."""
    config = agent.Config(**PENDULUM, buffer_size=60, replay_ratio=1, num_devices=2)
    before = jax.eval_shape(agent.init, config, KEY)
    state, metrics = jax.jit(program.train)(config.replace(total_timesteps=3 * 24), KEY)
    for leaf in jax.tree.leaves(state.learner):
        assert_array_equal(*(np.asarray(shard.data) for shard in leaf.addressable_shards))
    # Two segments an iteration on each, three times, in a share of four.
    assert_array_equal(state.memory.position, [6 % 4] * 2)
    assert_array_equal(state.memory.size, [4, 4])
    assert len(np.unique(np.asarray(state.memory.data.obs).reshape(-1, 3), axis=0)) == 8 * 6
    assert np.all(np.isfinite(metrics["loss/total"]))
    shapes = [x.shape for x in jax.tree.leaves(before)]
    assert [x.shape for x in jax.tree.leaves(state)] == shapes


# --- the behaviour policy -----------------------------------------------------------------------


def draws_of(env, epsilon, dist, num=4000):
    config = agent.Config(env=env, hidden_sizes=(4,))
    model = on_policy.build(config)
    noise = segments.noise(model, jax.random.key(1), (1, num))
    noise = jax.tree.map(lambda x: x[0], noise)
    dist = jax.tree.map(lambda x: jnp.repeat(x[None], num, axis=0), dist)
    return jax.device_get(segments.behaviour(model, dist, jnp.zeros((num, 1)), noise, epsilon))


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_discrete_actions_are_of_the_mixture(epsilon):
    """False alarm: three binomial tests at 1e-6."""
    policy = np.array([0.05, 0.95])
    action, log_prob = draws_of("CartPole-v1", epsilon, jnp.log(jnp.asarray(policy)))
    mixture = (1.0 - epsilon) * policy + epsilon / 2
    assert_allclose(np.exp(log_prob), mixture[action], rtol=1e-5)
    assert stats.binomtest(int(action.sum()), action.size, mixture[1]).pvalue > 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_box_actions_are_of_the_mixture(epsilon):
    """False alarm: a Kolmogorov-Smirnov test at 1e-6 each."""
    mean, std = 0.7, 0.5
    dist = Normal(jnp.array([mean]), jnp.log(jnp.array([std])))
    action, log_prob = draws_of("Pendulum-v1", epsilon, dist)
    of_normal, of_uniform = stats.norm(mean, std), stats.uniform(-1.0, 2.0)
    density = (1.0 - epsilon) * of_normal.pdf(action) + epsilon * of_uniform.pdf(action)
    assert_allclose(np.exp(log_prob), density[:, 0], rtol=1e-4)
    found = stats.kstest(
        action[:, 0],
        lambda x: (1.0 - epsilon) * of_normal.cdf(x) + epsilon * of_uniform.cdf(x),
    )
    assert found.pvalue > 1e-6


def test_uniform_actions_are_legal_ones():
    """Of the first three of six, whatever pi is; and all of them come up."""
    model = on_policy.build(agent.Config(env=structured.MASKED, hidden_sizes=(4,)))
    num, mask = 4000, jnp.arange(structured.NUM) < 3
    obs = {"action_mask": jnp.broadcast_to(mask, (num, structured.NUM))}
    logits = networks.legal_logits(obs, jnp.zeros((num, structured.NUM)).at[:, 1].set(50.0))
    noise = jax.tree.map(lambda x: x[0], segments.noise(model, KEY, (1, num)))
    action, log_prob = segments.behaviour(model, logits, obs, noise, 0.6)
    assert_allclose(np.exp(log_prob), np.array([0.2, 0.6, 0.2])[action], rtol=1e-5)
    assert set(np.unique(action)) == {0, 1, 2}


# --- what ratios repair -------------------------------------------------------------------------

SEEDS = 3


@cache
def two_bets():
    return off_policy_gradient.two_bets(0.9).mdp


@cache
def environment():
    return from_mdp.from_mdp(two_bets())


@cache
def objectives(correction):
    """J of what each seed learned from uniform actions, solved exactly; and what it does best.

    That is the probability of the best action in either state. The network is a table but for
    biases, which the states share; `test_off_policy_gradient.py` has the same without them.
    """
    config = agent.Config(
        env=environment(),
        gamma=0.9,
        num_envs=16,
        num_steps=8,
        total_timesteps=16 * 8 * 200,
        buffer_size=16 * 8 * 8,
        replay_ratio=3,
        learning_rate=0.03,
        ent_coef=0.0,
        hidden_sizes=(),
        behaviour_epsilon=1.0,
        correction=correction,
    )

    def learn(key):
        learner = program.train(config, key)[0].learner
        return jax.nn.softmax(on_policy.build(config).policy(learner, jnp.eye(3)))

    policy = np.asarray(jax.jit(jax.vmap(learn))(jax.random.split(KEY, SEEDS)))
    return np.array([solve.objective(two_bets(), p) for p in policy]), policy[:, [0, 1], [1, 0]]


def test_without_ratios_the_agent_ends_in_the_wrong_policy():
    """It wins the second bet, and does not go there: 0.6 where 0.9 can be had."""
    reached, best = objectives("none")
    assert_allclose(reached, 0.6, atol=0.02)
    assert np.all(best[:, 0] < 0.05)
    assert np.all(best[:, 1] > 0.95)


@pytest.mark.parametrize(
    "correction", ["vtrace", pytest.param("importance", marks=pytest.mark.slow)]
)
def test_with_ratios_it_reaches_the_optimum(correction):
    reached, best = objectives(correction)
    assert np.all(reached > 0.97 * 0.9), reached
    assert np.all(best > 0.95)
