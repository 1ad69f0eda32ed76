"""PQN: its targets worked, as a loop and as rlax has them; its loss; how it explores and acts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import probes
from jaxrl_pg import pqn
from jaxrl_pg.components import exploration, normalize, on_policy
from jaxrl_pg.types import ActorState, EnvSpec, Transition
from programs import SMALL_PPO, shaken

LEARNER = pqn.Learner((), (), normalize.Normalizer((), ()))
# Terminations and time limits fall into every rollout, at different steps of it.
CUT = pqn.Config(
    env=probes.Probe(),
    env_params=probes.params(max_steps_in_episode=3, length=1e6, base=1, show_cue=1, show_time=1),
    gamma=0.9,
    **SMALL_PPO,
)


class Read(NamedTuple):
    """A model whose observations are the q-values themselves, `[N, A]`."""

    network: None = None

    def value(self, learner, obs):
        return jnp.max(obs, axis=1)


def experience_of(q, reward, terminated, truncated, final_value):
    """A rollout with `Q(s_t, .)` as observations, `[T + 1, B, A]`; nothing else is read."""
    zeros = jnp.zeros(reward.shape, jnp.int32)
    steps = Transition(q[:-1], zeros, zeros, reward, terminated, truncated, final_value)
    actor = ActorState((), q[-1], *[zeros[0]] * 3)
    return on_policy.Experience(steps, actor, LEARNER.normalizer, {}, zeros, zeros)


def targets(config, experience):
    rows = pqn.targets(config, Read(), LEARNER, experience)
    shape = experience.steps.reward.shape
    return np.asarray(rows.target).reshape(shape), np.asarray(rows.value).reshape(shape)


def target_loop(config, value, last_value, steps):
    """The docstring's recursion, one number at a time."""
    found = np.zeros(value.shape)
    for b in range(value.shape[1]):
        for t in reversed(range(value.shape[0])):
            ends_here = steps.terminated[t, b] or steps.truncated[t, b]
            if steps.terminated[t, b]:
                future = 0.0
            elif ends_here:
                future = steps.final_value[t, b]
            elif t + 1 == value.shape[0]:
                future = last_value[b]
            else:
                future = (1 - config.q_lambda) * value[t + 1, b] + config.q_lambda * found[t + 1, b]
            found[t, b] = steps.reward[t, b] + config.gamma * future
    return found


def test_the_targets_worked():
    """Both rollouts have `max Q` of 8, 6, 4, 2 and then 10, and gamma = lambda = 1/2.

    The second step of the first is cut off, where the final observation is worth 12:

        G_3 = 4 + 10/2 = 9                    G_2 = 3 + (2/2 + 9/2)/2 = 5.75
        G_1 = 2 + 12/2 = 8                    G_0 = 1 + (6/2 + 8/2)/2 = 4.5

    The third step of the second is terminal, and at a time limit too:

        G_3 = 9                               G_2 = 3
        G_1 = 2 + (4/2 + 3/2)/2 = 3.75        G_0 = 1 + (6/2 + 3.75/2)/2 = 3.4375
    """
    best = jnp.array([8.0, 6.0, 4.0, 2.0, 10.0])
    q = jnp.stack([best - 1.0, best, best - 20.0], axis=1)[:, None].repeat(2, axis=1)
    reward = jnp.array([[1.0, 2.0, 3.0, 4.0]]).T.repeat(2, axis=1)
    terminated = jnp.array([[0, 0], [0, 0], [0, 1], [0, 0]], bool)
    truncated = jnp.array([[0, 0], [1, 0], [0, 1], [0, 0]], bool)
    final_value = jnp.zeros((4, 2)).at[1, 0].set(12.0)
    config = pqn.Config(gamma=0.5, q_lambda=0.5)
    found, value = targets(config, experience_of(q, reward, terminated, truncated, final_value))
    assert_allclose(found.T, [[4.5, 8.0, 5.75, 9.0], [3.4375, 3.75, 3.0, 9.0]])
    assert_allclose(value.T, [[8.0, 6.0, 4.0, 2.0]] * 2)


@pytest.mark.parametrize("q_lambda", [0.0, 0.65, 1.0])
def test_the_targets_are_those_of_rlax(rlax, q_lambda):
    rng = np.random.default_rng(0)
    num_steps, num_envs, num_actions = 11, 3, 4
    q = jnp.asarray(rng.normal(size=(num_steps + 1, num_envs, num_actions)), jnp.float32)
    reward = jnp.asarray(rng.normal(size=(num_steps, num_envs)), jnp.float32)
    terminated = jnp.asarray(rng.random((num_steps, num_envs)) < 0.2)
    nothing = jnp.zeros_like(reward)
    config = pqn.Config(gamma=0.9, q_lambda=q_lambda)
    found, _ = targets(config, experience_of(q, reward, terminated, nothing > 0, nothing))
    for b in range(num_envs):
        action = jnp.asarray(rng.integers(num_actions, size=num_steps))
        discount = 0.9 * (1.0 - terminated[:, b])
        error = rlax.q_lambda(
            q[:-1, b], action, reward[:, b], discount, q[1:, b], jnp.full(num_steps, q_lambda)
        )
        expected = error + q[jnp.arange(num_steps), b, action]
        assert_allclose(found[:, b], expected, rtol=1e-5, atol=1e-5)


def test_the_targets_of_a_rollout_are_those_of_the_loop():
    """Of the agent's own network and its own rollout, which time limits cut."""
    config = CUT.replace(q_lambda=0.7)

    @jax.jit
    def run(config, key):
        state = pqn.init(config, key)
        learner = state.learner._replace(params=shaken(state.learner.params, 0))
        model = pqn.build(config, 0.5)
        experience = on_policy.gather(config, model, state._replace(learner=learner))
        last_value = model.value(learner, experience.actor.obs)
        return pqn.targets(config, model, learner, experience), experience.steps, last_value

    rows, steps, last_value = jax.tree.map(np.asarray, run(config, jax.random.key(0)))
    shape = steps.reward.shape
    assert steps.truncated.sum() > 8
    value = rows.value.reshape(shape)
    expected = target_loop(config, value, last_value, steps)
    assert_allclose(rows.target.reshape(shape), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(steps.final_value[steps.truncated]).min() > 0.0
    one_step = target_loop(
        config.replace(q_lambda=0.0), rows.value.reshape(shape), last_value, steps
    )
    assert np.abs(expected - one_step).max() > 0.1


class Table(NamedTuple):
    """A network that reads q-values off a table `[S, A]` by one-hot observations."""

    spec: EnvSpec = EnvSpec((3,), True, 2, ())

    def apply(self, params, obs):
        return (obs @ params)[None]


def test_the_loss_and_its_gradient_worked():
    # Errors 1 - 3 = -2 and 4 - 3 = 1: loss (4 + 1) / 2 / 2, gradient error / 2 for the taken ones.
    table = jnp.array([[1.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    zeros = jnp.zeros(2)
    rows = on_policy.Batch(
        jnp.eye(3)[:2], jnp.array([0, 1]), zeros, zeros, zeros, jnp.array([3.0, 3.0])
    )
    model = pqn.QModel((), Table(), 0.5)
    (loss, metrics), gradient = jax.value_and_grad(
        lambda params: pqn._loss(model, rows, params), has_aux=True
    )(table)
    assert_allclose(loss, 1.25)
    assert_allclose(metrics["q/mean"], 2.5)
    assert_allclose(gradient, [[-1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    # Probabilities of 3/4 and 1/4.
    assert_allclose(metrics["policy/entropy"], stats.entropy([0.75, 0.25]), rtol=1e-5)


def test_the_share_of_random_actions_falls_over_a_part_of_the_run():
    config = pqn.Config(
        num_envs=8, num_steps=8, num_minibatches=2, total_timesteps=640, epsilon_end=0.1
    )
    assert config.num_iterations == 10
    found = [float(exploration.epsilon(config, jnp.int32(i), 10)) for i in (0, 2, 5, 9)]
    assert_allclose(found, [1.0, 1.0 - 0.9 * 0.4, 0.1, 0.1], rtol=1e-6)
    whole = config.replace(exploration_fraction=1.0)
    assert_allclose(exploration.epsilon(whole, jnp.int32(5), 10), 1.0 - 0.9 * 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match=r"exploration_fraction=0.*> 0"):
        config.replace(exploration_fraction=0.0)


def test_it_acts_by_its_best_action_and_when_it_samples_by_others_too():
    config = CUT.replace(epsilon_end=0.4)
    learner = jax.jit(pqn.init)(config, jax.random.key(0)).learner
    learner = learner._replace(params=shaken(learner.params, 1))
    obs = jax.random.normal(jax.random.key(3), (4, 3))
    q = np.asarray(pqn.build(config, 0.0).q(learner, obs))
    assert_allclose(pqn.value(config, learner, obs), q.max(axis=1), rtol=1e-6)
    key = jax.random.key(4)
    assert_array_equal(pqn.act(config, learner, obs, key, True), q.argmax(axis=1))
    many = jnp.repeat(obs, 2000, axis=0)
    drawn = np.asarray(pqn.act(config, learner, many, key, False)).reshape(4, 2000)
    for actions, best in zip(drawn, q.argmax(axis=1), strict=True):
        # 0.6 and a half of 0.4; four tests at 1e-6 each
        assert stats.binomtest(int((actions == best).sum()), 2000, 0.8).pvalue > 1e-6


def test_real_actions_are_refused():
    config = pqn.Config(env="Pendulum-v1")
    message = r"pqn takes the best of a finite action set and 'Pendulum-v1' has none: .* use sac"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: pqn.init(config, key), jax.random.key(0))
