"""The loop of interaction and TD(0) in it: a twin that replays every step, and the limits."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies
from numpy.testing import assert_allclose

from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.learning import td
from worked import mdp_g

RECORDS, STEPS, SEEDS = 24, 500, 32
REPLAYED = 3  # records of the first seed


def short_episodes():
    """Return four states, the last terminal; from state 2 it is reached half of the time."""
    transition = np.zeros((4, 2, 4))
    transition[0] = [[0.5, 0.5, 0, 0], [0, 0.2, 0.8, 0]]
    transition[1] = [[0.1, 0.4, 0.5, 0], [0.3, 0, 0.6, 0.1]]
    transition[2] = [[0, 0.5, 0, 0.5], [0.5, 0, 0, 0.5]]
    transition[3, :, 3] = 1.0
    reward = [[0.3, -0.2], [0.1, 0.4], [1.0, -1.0], [0.0, 0.0]]
    return mdps.make(transition, reward, [0.7, 0.3, 0.0, 0.0], 0.8)


POLICY = np.array([[0.3, 0.7], [0.6, 0.4], [0.5, 0.5], [0.9, 0.1]])


@lru_cache
def learned():
    """Run TD(0) of one policy with many seeds, in two settings side by side."""

    mdp = short_episodes()

    def run(settings, key):
        return td.predict(mdp, jnp.asarray(POLICY), settings, key, RECORDS, STEPS)

    settings = td.Settings(
        learning_rate=jnp.array([0.3, 1.0]),
        power=jnp.array([0.0, 0.8]),
        max_steps=jnp.array([4, 9]),
    )
    settings = td.Settings(*(jnp.broadcast_to(jnp.asarray(x), (2,)) for x in settings))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    each = jax.vmap(jax.vmap(run, (None, 0)), (0, None))
    return jax.tree.map(np.asarray, jax.jit(each)(settings, keys))


def draw(uniform, probability):
    cumulative = np.cumsum(probability)
    return int(np.argmax(cumulative > uniform * cumulative[-1]))


def replay(mdp, policy, learn, max_steps, key, shape, records=REPLAYED):
    """Replay the first records in plain Python, on the same random numbers."""
    mdp = jax.tree.map(np.asarray, mdp)
    first_key, step_key = jax.random.split(key)
    keys = jax.random.split(step_key, shape)[:records].reshape(-1)
    first = jax.random.uniform(first_key, (2,), float)
    uniforms = np.asarray(jax.vmap(lambda k: jax.random.uniform(k, (4,), float))(keys))
    state = draw(first[0], mdp.start)
    action = draw(first[1], policy(state))
    length, total, finished, errors = 0, 0.0, [], []
    for uniform in uniforms:
        reward = mdp.reward[state, action]
        next_state = draw(uniform[0], mdp.transition[state, action])
        next_action = draw(uniform[1], policy(next_state))
        ended = all(
            mdp.transition[next_state, b, next_state] == 1 and mdp.reward[next_state, b] == 0
            for b in range(mdp.reward.shape[1])
        )
        discount = 0.0 if ended else mdp.gamma
        errors.append(learn(state, action, reward, next_state, next_action, discount))
        length, total = length + 1, total + reward
        if ended or length >= max_steps:
            finished.append((len(errors) - 1, total))
            next_state, length, total = draw(uniform[2], mdp.start), 0, 0.0
            next_action = draw(uniform[3], policy(next_state))
        state, action = next_state, next_action
    return np.array(errors), finished


def test_every_step_equals_the_plain_loop():
    result = learned()
    value, visits = np.zeros(4), np.zeros(4)

    def learn(s, a, r, next_state, _, discount):
        error = r + discount * value[next_state] - value[s]
        visits[s] += 1
        value[s] += 0.3 * error
        return error

    key = jax.random.split(jax.random.key(0), SEEDS)[0]
    errors, finished = replay(
        short_episodes(), lambda s: POLICY[s], learn, 4, key, (RECORDS, STEPS)
    )
    assert_allclose(result.error[0, 0, :REPLAYED].ravel(), errors, atol=1e-12)
    assert_allclose(result.tables.estimate[0, 0, REPLAYED - 1], value, atol=1e-12)
    assert_allclose(result.tables.visits[0, 0, REPLAYED - 1], visits)
    for k in range(REPLAYED):
        totals = [total for t, total in finished if t // STEPS == k]
        assert result.episodes[0, 0, k] == len(totals)
        assert_allclose(result.return_mean[0, 0, k], np.mean(totals), atol=1e-12)


def test_values_converge_to_those_of_the_policy():
    # Steps n^-.8 and 12,000 of them; time limits do not bias, since a cut-off step bootstraps.
    # The mean over 32 seeds is within 4 standard errors of the truth: 3 states, 31 degrees
    # of freedom, false alarm 1e-3; a single seed was within .054.
    result = learned().tables.estimate[1, :, -1]
    truth = np.asarray(solve.evaluate(short_episodes(), jnp.asarray(POLICY)).value)
    error = result.std(axis=0) / SEEDS**0.5
    assert np.all(np.abs(result.mean(axis=0) - truth)[:3] < 4 * error[:3])
    assert np.max(np.abs(result - truth[None])) < 0.1
    assert_allclose(result[:, 3], 0.0)  # the end is worth nothing, and is never left


@pytest.mark.theorem
def test_errors_are_advantages_once_the_values_are_right():
    # With V = V_pi and no learning the error of a step has the mean A(s, a): 10,000 MDPs, exactly.
    def errors(mdp, policy):
        result = solve.evaluate(mdp, policy)
        tables = td.Tables(result.value, jnp.zeros(3, jnp.int32), ())

        def one(s, a, k):
            target = mdp.reward[s, a] + mdp.gamma * result.value[k]
            return td.move(tables, (s,), target, td.Settings())[1]

        each = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, None)), (0, None, None))
        delta = each(jnp.arange(3), jnp.arange(2), jnp.arange(3))
        return jnp.sum(mdp.transition * delta, axis=2), result.advantage

    batch = random_mdps(1, 10_000, 3, 2, 0.9, sparse=True)
    mean, advantage = jax.jit(jax.vmap(errors))(batch, random_policies(2, 10_000, 3, 2))
    assert_allclose(mean, advantage, atol=1e-11)
    assert jnp.max(jnp.abs(advantage)) > 1.0


def test_step_sizes_follow_the_visits():
    tables = td.Tables(jnp.zeros((2, 2)), jnp.array([[0, 3], [0, 0]], jnp.int32), ())
    settings = td.Settings(learning_rate=0.5, power=0.5)
    after, error = td.move(tables, (0, 1), jnp.asarray(6.0), settings)
    assert error == 6.0
    assert_allclose(after.estimate, [[0, 0.5 * 6 / 2], [0, 0]])  # the fourth visit: 1/sqrt(4)
    assert_allclose(after.visits, [[0, 4], [0, 0]])


def test_nothing_ends_without_an_end_or_a_limit():
    run = jax.jit(partial(td.predict, mdp_g(0.9), jnp.full((3, 2), 0.5), records=2, steps=10))
    course = run(td.Settings(max_steps=7), key=jax.random.key(0))
    assert_allclose(course.episodes, [1, 1])  # after 7 and after 14 steps
    course = run(td.Settings(max_steps=100), key=jax.random.key(0))
    assert_allclose(course.episodes, 0)
    assert jnp.all(jnp.isnan(course.return_mean))


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2.0**-52])
def test_what_has_no_probability_is_never_drawn(uniform):
    for probability in ([0.0, 0.25, 0.0, 0.75, 0.0], [0.0, 1.0], [0.1] * 10 + [0.0]):
        index = int(td._draw(jnp.asarray(uniform), jnp.array(probability)))
        assert probability[index] > 0
        assert index == draw(uniform, np.array(probability))
