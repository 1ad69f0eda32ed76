"""Collecting experience: against a plain loop, across rollouts, and the sums over episodes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg import envs
from jaxrl_pg.components import rollout
from jaxrl_pg.ops import collectives
from jaxrl_pg.types import TimeStep

B, T, ROLLOUTS, LIMIT = 8, 5, 12, 18
close = partial(assert_allclose, rtol=1e-5, atol=1e-5)


class Row(NamedTuple):
    """All that `record` can know of a step, and a value where the episode was only cut off."""

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    timestep: TimeStep
    final_value: jax.Array


def policy(obs, noise, hidden=()):
    """Falls over soon, in a way that depends on the observation and the noise."""
    lean = obs @ jnp.array([0.1, 0.3, 1.0, 0.5])
    return (lean + 2.0 * noise > 0).astype(jnp.int32), lean - noise, hidden


def value(obs):
    return 3.0 + obs @ jnp.array([1.0, -2.0, 5.0, 0.5])


def record(obs, action, log_prob, timestep):
    cut = timestep.truncated & ~timestep.terminated
    final_value = rollout.value_where(cut, value, timestep.final_obs)
    return Row(obs, action, log_prob, timestep, final_value)


def cartpole():
    """With a limit at which some episodes fall, some are cut off, and some both at once."""
    return envs.make("CartPole-v1", {"max_steps_in_episode": LIMIT})


def noises(key):
    return jax.random.normal(key, (T, B))


@pytest.fixture(scope="module")
def collected():
    """`ROLLOUTS` consecutive rollouts of one compiled program: `(keys, start, [results])`."""
    env = cartpole()
    collect = jax.jit(partial(rollout.collect, env, policy, record))
    start = actor = rollout.start(env, jax.random.key(0), B)
    keys, results = jax.random.split(jax.random.key(1), (ROLLOUTS, 2)), []
    for noise_key, key in keys:
        results.append(collect(actor, noises(noise_key), key))
        actor = results[-1][0]
    return keys, start, results


@pytest.fixture(scope="module")
def looped(collected):
    """The same experience from a plain loop: per-step records and finished episodes."""
    env, (keys, start, _) = cartpole(), collected
    step = jax.jit(partial(envs.step, env))
    env_state, obs = start.env_state, start.obs
    rows, finished = [], []
    returns, lengths = [0.0] * B, [0] * B
    for i, (noise_key, key) in enumerate(keys):
        for noise, (step_key, reset_key) in zip(
            noises(noise_key), jax.random.split(key, (T, 2)), strict=True
        ):
            action, log_prob, _ = policy(obs, noise)
            env_state, timestep = step(step_key, reset_key, env_state, action)
            rows.append((obs, action, log_prob, timestep))
            for b in range(B):
                returns[b] += float(timestep.reward[b])
                lengths[b] += 1
                if timestep.terminated[b] or timestep.truncated[b]:
                    finished.append((i, returns[b], lengths[b]))
                    returns[b], lengths[b] = 0.0, 0
            obs = timestep.obs
    return rows, finished, (env_state, obs, returns, lengths)


def stacked(collected):
    """All rollouts as one, `[ROLLOUTS * T, B, ...]`."""
    return jax.tree.map(lambda *x: np.concatenate(x), *[result[1] for result in collected[2]])


def test_a_fresh_start():
    actor = rollout.start(cartpole(), jax.random.key(0), B)
    assert actor.obs.shape == (B, 4)
    assert actor.episode_length.dtype == jnp.int32
    for counter in (actor.episode_return, actor.episode_length, actor.discounted_return):
        assert_array_equal(counter, np.zeros(B))


def test_same_as_a_plain_loop(collected, looped):
    steps, rows = stacked(collected), looped[0]
    close(steps.obs, np.stack([row[0] for row in rows]))
    assert_array_equal(steps.action, np.stack([row[1] for row in rows]))
    close(steps.log_prob, np.stack([row[2] for row in rows]))
    for name in ("reward", "terminated", "truncated"):
        expected = np.stack([getattr(row[3], name) for row in rows])
        assert_array_equal(getattr(steps.timestep, name), expected)


def test_all_kinds_of_ends_occur(collected):
    _, _, terminated, truncated, _ = stacked(collected).timestep
    assert np.any(terminated & ~truncated)
    assert np.any(~terminated & truncated)
    assert np.any(terminated & truncated)


def test_final_value_is_the_value_of_the_final_observation_where_only_cut_off(collected, looped):
    steps = stacked(collected)
    cut = steps.timestep.truncated & ~steps.timestep.terminated
    final_obs = np.stack([row[3].final_obs for row in looped[0]])
    close(steps.final_value[cut], value(final_obs[cut]))
    assert_array_equal(steps.final_value[~cut], 0.0)


def test_the_actor_stands_where_the_loop_stands(collected, looped):
    """Return and length of the episodes in progress, through many rollouts."""
    actor, (env_state, obs, returns, lengths) = collected[2][-1][0], looped[2]
    jax.tree.map(close, actor.env_state, env_state)
    close(actor.obs, obs)
    assert_array_equal(actor.episode_return, returns)
    assert_array_equal(actor.episode_length, lengths)


def test_episode_sums_are_those_of_the_episodes_that_ended_in_the_rollout(collected, looped):
    """Whole episodes, begun rollouts earlier: none is shorter than one rollout here."""
    finished = looped[1]
    assert min(length for _, _, length in finished) > T
    for i, (_, _, sums) in enumerate(collected[2]):
        ended = [row for row in finished if row[0] == i]
        assert sums["episodes"] == len(ended)
        assert sums["return_sum"] == sum(row[1] for row in ended)
        assert sums["length_sum"] == sum(row[2] for row in ended)


def test_before_the_first_end_the_mean_is_nan_and_never_0(collected):
    sums = [result[2] for result in collected[2]]
    none, some = sums[0], next(s for s in sums if s["episodes"] > 0)
    metrics = rollout.episode_means(none)
    assert metrics["train/episodes"] == 0
    assert np.isnan(metrics["train/return_mean"])
    assert np.isnan(metrics["train/length_mean"])
    metrics = rollout.episode_means(some)
    close(metrics["train/return_mean"], some["return_sum"] / some["episodes"])
    close(metrics["train/length_mean"], some["length_sum"] / some["episodes"])


@pytest.mark.parametrize(
    ("episodes", "return_sum", "num_devices", "mean", "total"),
    [
        (4.0, 10.0, 1, 2.5, 4.0),
        (4.0, 0.0, 1, 0.0, 4.0),
        (4.0, -10.0, 2, -2.5, 8.0),
        (0.125, 3.0, 8, 24.0, 1.0),  # one episode on one of eight devices
        (0.0, 0.0, 2, np.nan, 0.0),
    ],
)
def test_episode_means_of_sums_averaged_over_devices(
    episodes, return_sum, num_devices, mean, total
):
    sums = {"episodes": episodes, "return_sum": return_sum, "length_sum": 2 * return_sum}
    sums = {"loss": jnp.ones(()), **{name: jnp.array(x) for name, x in sums.items()}}
    means = jax.vmap(lambda _: rollout.episode_means(sums), axis_name=collectives.AXIS)
    metrics = jax.tree.map(lambda x: x[0], means(jnp.arange(num_devices)))
    names = {"loss", "train/return_mean", "train/length_mean", "train/episodes"}
    assert set(metrics) == names
    close(metrics["train/return_mean"], mean)
    close(metrics["train/length_mean"], 2 * mean)
    close(metrics["train/episodes"], total)
    assert "episodes" in sums


def test_vmapped_rollouts_are_the_single_ones(collected):
    """Three members with keys of their own; the loops inside are then run for all of them."""
    env, num_members = cartpole(), 3
    collect = partial(rollout.collect, env, policy, record)
    keys = jax.random.split(jax.random.key(7), (num_members, 3))
    actors = jax.vmap(lambda key: rollout.start(env, key, B))(keys[:, 0])
    actors = actors._replace(
        env_state=actors.env_state.replace(time=jnp.full((num_members, B), LIMIT - 3).at[0].set(0))
    )
    noise = jax.vmap(noises)(keys[:, 1])
    together = jax.jit(jax.vmap(collect))(actors, noise, keys[:, 2])
    assert together[1].timestep.truncated[1:].any()
    assert not together[1].timestep.truncated[0].any()
    single = jax.jit(collect)
    for i in range(num_members):
        one = jax.tree.map(lambda x, i=i: x[i], (actors, noise, keys[:, 2]))
        expected = single(*one)
        jax.tree.map(lambda x, y, i=i: close(x[i], y), together, expected)


def test_the_value_of_what_was_cut_off_is_the_same_without_a_loop(monkeypatch):
    obs = jax.random.normal(jax.random.key(0), (B, 4))
    for cut in (jnp.zeros(B, bool), jnp.arange(B) % 2 == 0):
        looped = jax.jit(rollout.value_where, static_argnums=1)(cut, value, obs)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        program = jax.jit(lambda cut, obs: rollout.value_where(cut, value, obs))
        assert "while[" not in str(jax.make_jaxpr(program)(cut, obs))
        assert np.array_equal(program(cut, obs), looped)
        monkeypatch.undo()
        assert np.array_equal(looped, np.where(cut, value(obs), 0))


def test_rollouts_without_loops_are_the_same(collected, monkeypatch):
    keys, actor, results = collected
    monkeypatch.setattr(envs.episodes, "loops_wait", lambda: True)
    collect = jax.jit(partial(rollout.collect, cartpole(), policy, record))
    for (noise_key, key), looped in zip(keys, results, strict=True):
        straight = collect(actor, noises(noise_key), key)
        for a, b in zip(jax.tree.leaves(straight), jax.tree.leaves(looped), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        actor = straight[0]
    rows = [rows for _, rows, _ in results]
    assert any(jnp.any(row.timestep.terminated) for row in rows)
    assert any(jnp.any(row.final_value != 0) for row in rows)
