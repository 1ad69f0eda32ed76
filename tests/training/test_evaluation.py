"""Evaluation: whole episodes, deterministic or sampled, that leave no trace in training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control import cartpole
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

import jaxrl_pg
import probes
from compare import assert_bit_equal, leaves_of
from jaxrl_pg import envs, ppo
from jaxrl_pg.components import rollout
from jaxrl_pg.training import evaluation, program

PROBE, BOX, ENDLESS = probes.Probe(), probes.Probe(discrete=False), probes.Endless()
INIT = jax.jit(ppo.init)


class Tilted(cartpole.CartPole):
    """CartPole from one fixed start, so that a policy fixes the whole episode."""

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        del key
        state = cartpole.EnvState(time=0, x=0.02, x_dot=-0.01, theta=0.03, theta_dot=0.01)
        return self.get_obs(state), state


class Countdown(probes.Probe):
    """Lasts for a number of steps that is drawn at the start and paid at every step."""

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        state = probes.State(time=0, cue=jax.random.randint(key, (), 1, 9).astype(jnp.float32))
        return self.get_obs(state, params), state

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, dict[str, Any]]:
        del key, action
        state = state.replace(time=state.time + 1)
        return self.get_obs(state, params), state, state.cue, state.time >= state.cue, {}


TILTED, COUNTDOWN = Tilted(), Countdown()


def config(env, **changes):
    defaults = {"num_envs": 4, "num_steps": 4, "num_minibatches": 1, "hidden_sizes": (8,)}
    return ppo.Config(env=env, **{**defaults, **changes})


def probe_config(env, **params):
    return config(env, env_params=probes.params(**params))


def episode(config, state):
    """Return, length and whether cut off, of one episode stepped with gymnax alone."""
    env = envs.make(config.env, config.env_params)
    act = jax.jit(partial(ppo.act, config, deterministic=True))
    key, total, length = jax.random.key(0), 0.0, 0
    obs, env_state = env.core.reset_env(key, env.params)
    while True:
        action = act(state.learner, obs[None], key)[0]
        obs, env_state, reward, terminated, truncated, _ = env.core.step(
            key, env_state, action, env.params
        )
        total, length = total + float(reward), length + 1
        if terminated or truncated:
            return total, length, bool(truncated)


def test_whole_episodes_as_a_loop_over_gymnax_plays_them():
    """Fixed policies of different skill, first episodes only, some of them cut off."""
    tilted = config(TILTED, env_params={"max_steps_in_episode": 60.0})
    cut = []
    for seed in range(4, 13):
        state = INIT(tilted, jax.random.key(seed))
        # Large enough to act on what is seen: a fresh policy is nearly indifferent.
        params = jax.tree.map(lambda x: 5.0 * x, state.learner.params)
        state = state._replace(learner=state.learner._replace(params=params))
        total, length, truncated = episode(tilted, state)
        episodes = evaluation.evaluate_episodes(tilted, state, jax.random.key(seed), 5, True)
        assert_array_equal(episodes.returns, np.full(5, total))
        assert_array_equal(episodes.lengths, np.full(5, length))
        assert episodes.finished.all()
        cut.append(truncated)
    assert any(cut)
    assert not all(cut)


def test_only_the_first_episode_of_each_environment_counts():
    """A return is the square of its length, and lengths differ.

    False alarms: 8^-63 that all 64 lengths are equal.
    """
    countdown = probe_config(COUNTDOWN)
    state = INIT(countdown, jax.random.key(0))
    episodes = evaluation.evaluate_episodes(countdown, state, jax.random.key(1), 64, True)
    assert_array_equal(episodes.returns, np.square(episodes.lengths))
    assert len(np.unique(episodes.lengths)) > 1
    assert episodes.finished.all()


def test_no_episode_is_drawn_but_the_first_of_each_environment():
    """A new episode may cost as much as many steps, and would not be counted."""
    traced = []

    class Watched(Countdown):
        def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
            traced.append(params)
            return super().reset_env(key, params)

    env = envs.make(Watched())
    traced.clear()  # it was tried when it was made
    rollout.most_steps(env)
    for_the_limit = len(traced)
    jax.eval_shape(
        lambda key: rollout.whole_episodes(env, lambda obs, *_: (jnp.zeros(3), ()), key, 3),
        jax.random.key(0),
    )
    assert len(traced) == 2 * for_the_limit + 1


def test_where_an_episode_is_over_the_same_one_begins_again():
    env = envs.make(COUNTDOWN)
    first = envs.reset(env, jax.random.key(0), 16)
    state, step = first[0], jax.jit(partial(envs.step, env))
    step_key, reset_key = jax.random.split(jax.random.key(1))
    for time in range(1, 17):
        state, timestep = step(step_key, reset_key, state, jnp.zeros(16, int), first)
        assert_array_equal(state.cue, first[0].cue)
        assert_array_equal(state.time, time % state.cue)
        done = (timestep.terminated | timestep.truncated)[:, None]
        assert_array_equal(timestep.obs, jnp.where(done, first[1], timestep.final_obs))


def test_episodes_start_from_draws_of_their_own():
    """A cue seen but not paid for at the start, then paid once: both values occur.

    False alarms: 2^-63 for 64 episodes.
    """
    cue = probe_config(PROBE, cue_weight=1.0, length=1.0)
    state = INIT(cue, jax.random.key(0))
    returns = jaxrl_pg.evaluate(cue, state, jax.random.key(1), 64)
    assert returns.shape == (64,)
    assert set(returns.tolist()) == {-1.0, 1.0}


@pytest.fixture(scope="module")
def indifferent():
    """A Box policy with mean 0 and standard deviation 1, paid `-u^2` for `u = 2 clip(a)`."""
    square = probe_config(BOX, cost=1.0, length=1.0)
    state = INIT(square, jax.random.key(0))
    params = jax.tree.map(jnp.zeros_like, state.learner.params)
    return square, state._replace(learner=state.learner._replace(params=params))


def test_deterministic_is_the_most_probable_action(indifferent):
    assert_array_equal(jaxrl_pg.evaluate(*indifferent, jax.random.key(0), 256), np.zeros(256))


def test_sampled_is_the_policy(indifferent):
    """Beyond the bounds (`-u^2 = -4`) with P(|N(0,1)| > 1), inside distributed as `-4 a^2`.

    False alarms: 1e-6 for the count, 1e-6 for Kolmogorov-Smirnov; the key is fixed.
    """
    n = 256
    returns = np.asarray(jaxrl_pg.evaluate(*indifferent, jax.random.key(0), n, False))
    beyond = int(np.sum(returns == -4.0))
    assert stats.binomtest(beyond, n, 2 * stats.norm.sf(1)).pvalue > 1e-6
    inside = np.sqrt(-returns[returns > -4.0]) / 2
    half_normal = stats.truncnorm(-1, 1)
    assert stats.kstest(inside, lambda a: 2 * half_normal.cdf(a) - 1).pvalue > 1e-6


def test_the_same_key_gives_the_same_episodes(indifferent):
    evaluate = partial(jaxrl_pg.evaluate, *indifferent)
    first = evaluate(jax.random.key(3), 256, False)
    assert_array_equal(first, evaluate(jax.random.key(3), 256, False))
    assert not np.array_equal(first, evaluate(jax.random.key(4), 256, False))


def test_each_way_an_episode_ends(monkeypatch):
    """By itself after 3 steps; by its limit after 5; never, and given up at twice the limit."""
    monkeypatch.setattr(envs.vector, "NO_LIMIT", 20)
    three = probe_config(PROBE, base=1.0, length=3.0)
    five = probe_config(PROBE, base=1.0, max_steps_in_episode=5.0)
    never = probe_config(ENDLESS, base=1.0, max_steps_in_episode=13.0)
    for case, steps, finished in [(three, 3, True), (five, 5, True), (never, 26, False)]:
        state = INIT(case, jax.random.key(0))
        episodes = evaluation.evaluate_episodes(case, state, jax.random.key(1), 4, True)
        assert_array_equal(episodes.returns, np.full(4, float(steps)))
        assert_array_equal(episodes.lengths, np.full(4, steps))
        assert_array_equal(episodes.finished, np.full(4, finished))
        metrics = evaluation.evaluation_metrics(case, state, 4)
        known = {
            name: float(x) if finished else np.nan
            for name, x in [
                ("eval/return_mean", steps),
                ("eval/return_std", 0.0),
                ("eval/length_mean", steps),
            ]
        }
        expected = {**known, "eval/finished": float(finished)}
        assert metrics.keys() == expected.keys()
        for name, x in expected.items():
            assert_array_equal(metrics[name], x)


def test_metrics_are_population_moments():
    """Returns are -1 and 1, so mean and deviation tie: `std^2 = 1 - mean^2`."""
    cue = probe_config(PROBE, cue_weight=1.0, length=1.0)
    metrics = evaluation.evaluation_metrics(cue, INIT(cue, jax.random.key(0)), 64)
    mean = float(metrics["eval/return_mean"])
    assert 0 < abs(mean) < 1
    assert_allclose(metrics["eval/return_std"], np.sqrt(1 - mean**2), rtol=1e-5)


def test_values_are_the_critics():
    cue = probe_config(PROBE, cue_weight=1.0, length=1.0)
    state = INIT(cue, jax.random.key(0))
    obs = np.ones((7, 3), np.float32)
    values = jaxrl_pg.value(cue, state, obs)
    assert values.shape == (7,)
    assert_array_equal(values, ppo.value(cue, state.learner, jnp.asarray(obs)))


@pytest.mark.slow
def test_evaluating_leaves_training_bit_for_bit_as_it_was():
    """The state evaluated, and a whole training with evaluations in it against one without."""
    cue = probe_config(PROBE, cue_weight=1.0, show_cue=1.0, length=3.0).replace(total_timesteps=96)
    train = jax.jit(program.train, static_argnums=(2, 3))
    key = jax.random.key(5)
    state, metrics = train(cue, key, 0, 0)
    copy = {name: np.array(x) for name, x in leaves_of(state).items()}
    evaluation.evaluation_metrics(cue, state, 4)
    jaxrl_pg.evaluate(cue, state, key, 4, False)
    assert_bit_equal(leaves_of(state), copy)
    evaluated, more = train(cue, key, 3, 4)
    assert_bit_equal(leaves_of(evaluated), copy)
    assert more["eval/return_mean"].shape == (3,)
    for name, x in metrics.items():
        assert_array_equal(x, more[name])


def test_traced_numbers_of_evaluations_are_refused_with_the_way_to_give_them():
    config = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, total_timesteps=64)
    with pytest.raises(ValueError, match=r"cannot be traced: give jax.jit\(train, static_argnames"):
        jax.jit(jaxrl_pg.train)(config, jax.random.key(0), num_evals=2)
    train = jax.jit(jaxrl_pg.train, static_argnames=("num_evals", "num_eval_episodes"))
    _, metrics = train(config, jax.random.key(0), num_evals=2, num_eval_episodes=3)
    assert metrics["eval/return_mean"].shape == (2,)


def test_an_own_loop_may_stop_early_and_change_floats_in_mid_run():
    config = ppo.Config(num_envs=4, num_steps=8, num_minibatches=2, anneal_lr=False)
    iterate = jax.jit(jaxrl_pg.iterate, static_argnums=2)
    start = jaxrl_pg.init(config, jax.random.key(0))
    state, first = iterate(config, start, 2)
    lower, metrics = iterate(config.replace(learning_rate=1e-6), state, 2)
    same, _ = iterate(config, state, 2)
    assert iterate._cache_size() == 1
    assert metrics["timesteps"].tolist() == [96, 128]
    assert first["timesteps"].tolist() == [32, 64]
    before, longer, shorter = (leaves_of(x.learner.params) for x in (state, same, lower))
    moved = max(np.max(np.abs(longer[name] - x)) for name, x in before.items())
    still = max(np.max(np.abs(shorter[name] - x)) for name, x in before.items())
    assert still < moved / 100
