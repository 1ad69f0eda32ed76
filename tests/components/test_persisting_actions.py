"""Random actions that persist, and transitions of several steps, as replay agents collect them."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import probes
from jaxrl_pg import dqn, envs, sac
from jaxrl_pg.components import exploration, off_policy
from jaxrl_pg.ops.exploration import durations
from jaxrl_pg.types import TrainState

B, T, LIMIT = 4, 12, 5


# --- one step -------------------------------------------------------------------------------------


def test_what_is_begun_goes_on_and_ends_worked():
    """Five environments: nothing, a beginning, one of a single step, one under way, its last."""
    obs = {"action_mask": jnp.ones((5, 4), bool)}
    logits = jnp.log(jnp.eye(4)[jnp.full(5, 3)])  # the policy takes the last action
    held = exploration.Held(jnp.array([1, 1, 1, 2, 2]), jnp.array([0, 0, 0, 6, 1]))
    whether = jnp.array([0.3, 0.2, 0.2, 0.2, 0.9])  # a share of 1/4 begins
    which = jnp.array([0.3, 0.3, 0.6, 0.0, 0.0])  # of four: the second, the second, the third
    long = jnp.array([9, 3, 1, 9, 9])
    action, after = exploration.persist(obs, logits, held, (whether, which, long), 0.25)
    assert_array_equal(action, [3, 1, 2, 2, 2])
    assert_array_equal(after.left, [0, 2, 0, 5, 0])
    assert_array_equal(np.asarray(after.action)[[1, 3]], [1, 2])


def test_no_random_action_is_illegal_when_it_begins_or_goes_on():
    mask = jnp.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0]], bool)
    logits = jnp.where(mask, jnp.array([0.0, 0.0, 0.0, 0.0]), -1e9)
    held = exploration.Held(jnp.array([0, 3, 2]), jnp.array([0, 5, 5]))
    draws = (jnp.zeros(3), jnp.array([0.9, 0.1, 0.1]), jnp.array([4, 4, 4]))
    action, after = exploration.persist({"action_mask": mask}, logits, held, draws, 1.0)
    # The larger of two; the policy's own, since 3 is no longer legal; and 2, which still is.
    assert_array_equal(action, [3, 1, 2])
    assert_array_equal(after.left, [3, 0, 4])


# --- rollouts -------------------------------------------------------------------------------------


def config_of(**values):
    return dqn.Config(
        env=probes.Probe(),
        env_params=probes.params(
            max_steps_in_episode=LIMIT, length=LIMIT + 2, base=1, cost=0.2, target=1, show_time=1
        ),
        num_envs=B,
        num_steps=T,
        buffer_size=2 * B * T,
        hidden_sizes=(4,),
        gamma=0.5,
        **values,
    )


def rollouts(config, num=2):
    """The replay's rows `[num * T, B, ...]` of a warm-up, and what is held after each rollout."""
    env = envs.of(config)

    @jax.jit
    def gather(state):
        return off_policy.gather(config, env, state, lambda obs: jnp.zeros((B, 2)))

    _, actor, memory, key = off_policy.start(config, env, jax.random.key(0))
    state, held = TrainState((), actor, memory, key, jnp.zeros((), jnp.int32)), []
    for _ in range(num):
        experience = gather(state)
        held.append(experience.actor.hidden)
        state = state._replace(
            actor=experience.actor, memory=experience.memory, key=experience.next_key
        )
    return jax.tree.map(
        lambda x: np.asarray(x).reshape(num * T, B, *x.shape[1:]), state.memory.data
    ), held


@pytest.fixture(scope="module")
def one_step():
    return rollouts(config_of(duration_mu=1.2))


def done_of(rows):
    """Where a time limit cut an episode off: the time is the observation's second number."""
    return rows.next_obs[..., 1] == LIMIT


def test_actions_are_repeated_across_iterations_and_not_across_episodes(one_step):
    """A plain loop over the draws that the rollouts made."""
    rows, held = one_step
    action, left, key = np.zeros(B, int), np.zeros(B, int), None
    _, _, key = jax.random.split(jax.random.key(0), 3)
    crossed = 0
    for rollout in range(2):
        key, noise_key, _, _ = jax.random.split(key, 4)
        _, which, long = np.asarray(jax.random.uniform(noise_key, (3 * T * B,))).reshape(3, T, B)
        steps = np.asarray(durations(jnp.asarray(long), 1.2))
        crossed += (left > 0).sum()
        for t in range(T):
            begins = left == 0
            action = np.where(begins, which[t] >= 0.5, action)
            left = np.where(begins, steps[t], left) - 1
            assert_array_equal(rows.action[rollout * T + t], action)
            left = np.where(done_of(rows)[rollout * T + t], 0, left)
        assert_array_equal(held[rollout].left, left)
    assert crossed > 0


def test_transitions_of_three_steps_are_made_of_those_of_one(one_step):
    """Their rewards, where they lead to, and the discount of what is there."""
    rows, found = one_step[0], rollouts(config_of(duration_mu=1.2, n_step=3))[0]
    assert_array_equal(found.action, rows.action)
    assert_array_equal(found.obs, rows.obs)
    assert len(np.unique(rows.reward)) == 2  # which action was taken is seen by the reward
    done, lengths = done_of(rows), set()
    for t in range(2 * T):
        for b in range(B):
            reward, last = 0.0, t
            for last in range(t, min(t + 3, T * (t // T + 1))):
                reward += 0.5 ** (last - t) * rows.reward[last, b]
                if done[last, b]:
                    break
            lengths.add(last - t + 1)
            assert_allclose(found.reward[t, b], reward, rtol=1e-6)
            assert_allclose(found.discount[t, b], 0.5 ** (last - t + 1))
            assert_array_equal(found.next_obs[t, b], rows.next_obs[last, b])
    assert lengths == {1, 2, 3}
    assert rows.discount == ()


def test_the_last_of_several_steps_says_whether_the_episode_is_over():
    """A row whose second step terminates has no future."""
    config = SimpleNamespace(n_step=2, gamma=0.5)
    zeros = jnp.zeros((3, 1))
    terminated = jnp.array([[0], [1], [0]], bool)
    rows = off_policy.Rows(zeros, zeros, zeros + 1.0, terminated, jnp.arange(3.0)[:, None])
    found = off_policy._of_many_steps(config, rows, terminated)
    assert_array_equal(found.terminated[:, 0], [True, True, False])
    assert_array_equal(found.next_obs[:, 0], [1.0, 1.0, 2.0])
    assert_allclose(found.discount[:, 0], [0.25, 0.5, 0.5])
    assert_allclose(found.reward[:, 0], [1.5, 1.0, 1.0])


# --- what is refused ------------------------------------------------------------------------------


def test_more_rewards_than_an_iteration_has_are_refused():
    message = r"^n_step=9 rewards are of one iteration and num_steps=8: give num_steps=9 or more"
    with pytest.raises(ValueError, match=message):
        sac.Config(n_step=9)
    assert sac.Config(n_step=8).n_step == 8


def test_real_actions_are_not_repeated():
    config = sac.Config(env="Pendulum-v1", duration_mu=2.0)
    message = r"duration_mu=2.0 repeats discrete actions and 'Pendulum-v1' .* noise_correlation"
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda key: sac.init(config, key), jax.random.key(0))
