"""Monte-Carlo prediction: worked numbers, a twin, the bias of every visit, and the limits."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_td import POLICY, short_episodes

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.learning import monte_carlo, traces
from jaxrl_pg.theory.learning.monte_carlo import every_visit, first_visit
from jaxrl_pg.theory.learning.traces import Episode

HORIZON, NUM = 60, 20_000
KINDS = {"first": first_visit, "every": every_visit}


@lru_cache
def sampled():
    """Sample episodes of a policy, and average them in both ways."""

    def run(key):
        episodes = monte_carlo.sample_episodes(short_episodes(), POLICY, HORIZON, NUM, key)
        return episodes, {k: monte_carlo.average(episodes, f, 4) for k, f in KINDS.items()}

    return jax.tree.map(np.asarray, jax.jit(run)(jax.random.key(0)))


def stays(lengths):
    """Return episodes of one state that is left after each number of visits, and earns 1 at each.

    State 1 is the end. The discount is 1.
    """
    steps = np.arange(max(lengths) + 1)
    lengths = np.asarray(lengths)[:, None]
    state = (steps >= lengths).astype(np.int32)
    here = (1.0 - state)[:, :-1]
    return Episode(state, here, np.where(steps[1:] < lengths, 1.0, 0.0))


# --- worked numbers and a twin --------------------------------------------------------------------


def test_a_stay_by_hand():
    # Three visits, then two: returns 3, 2, 1 and 2, 1. First visits: 3, then 5/2.
    episodes = stays([3, 2])
    first = monte_carlo.average(episodes, first_visit, 2)
    assert_allclose(first.value, [[3.0, 0.0], [2.5, 0.0]])
    assert_array_equal(first.visits[:, 0], [1, 2])
    every = monte_carlo.average(episodes, every_visit, 2)
    assert_allclose(every.value[:, 0], [6 / 3, 9 / 5])
    assert_array_equal(every.visits[:, 0], [3, 5])
    assert_array_equal(first_visit(jnp.array([2, 0, 2, 1, 0])), [1, 1, 0, 1, 0])


def test_you_are_the_predictor():
    # Sutton and Barto 2018, example 6.4: A, 0, B, 0; six times B, 1; once B, 0. Both give B 3/4.
    # Monte Carlo gives A the 0 that it saw, and TD(0), repeated on the same episodes, the 3/4 of
    # B, to which A has always led.
    state = [[0, 1, 2]] + 7 * [[1, 2, 2]]
    reward = [[0.0, 0.0]] + 6 * [[1.0, 0.0]] + [[0.0, 0.0]]
    discount = [[1.0, 0.0]] + 7 * [[0.0, 0.0]]
    episodes = Episode(*(np.array(x) for x in (state, reward, discount)))
    for counted in (first_visit, every_visit):
        found = monte_carlo.average(episodes, counted, 3)
        assert_allclose(found.value[-1], [0.0, 0.75, 0.0])

    def sweep(value, decay):
        def change(episode):
            return traces.offline(value, episode, traces.ACCUMULATING, decay, 0.05) - value

        return value + jnp.sum(jax.vmap(change)(episodes), axis=0)

    repeat = jax.jit(lambda decay: jax.lax.fori_loop(0, 800, lambda _, v: sweep(v, decay), zero))
    zero = jnp.zeros(3)
    assert_allclose(repeat(0.0), [0.75, 0.75, 0.0], atol=1e-12)
    assert_allclose(repeat(1.0), [0.0, 0.75, 0.0], atol=1e-12)
    assert_allclose(repeat(0.5), [0.375, 0.75, 0.0], atol=1e-12)  # (1 - lambda) 3/4


@pytest.mark.parametrize("name", KINDS)
def test_averages_equal_the_plain_loop(name):
    episodes, found = sampled()
    returns = {s: [] for s in range(4)}
    for i in range(100):
        seen, total, collected = set(), 0.0, []
        for t in reversed(range(HORIZON)):
            total = episodes.reward[i, t] + episodes.discount[i, t] * total
            collected.insert(0, total)
        for t in range(HORIZON):
            s = int(episodes.state[i, t])
            if name == "every" or s not in seen:
                returns[s].append(collected[t])
            seen.add(s)
        want = [np.mean(returns[s]) if returns[s] else 0.0 for s in range(4)]
        assert_allclose(found[name].value[i], want, atol=1e-12)
        assert_array_equal(found[name].visits[i], [len(returns[s]) for s in range(4)])


def test_what_has_ended_stays():
    episodes, _ = sampled()
    ended = episodes.state[:, 1:] == 3
    assert_allclose(episodes.discount, np.where(ended, 0.0, 0.8))
    before = episodes.state[:, :-1] == 3
    assert np.all(episodes.state[:, 1:][before] == 3)
    assert_allclose(episodes.reward[before], 0.0)
    short = monte_carlo.predict(short_episodes(), POLICY, first_visit, 1, 5, jax.random.key(1))
    assert short.value.shape == (5, 4)


# --- bias and limits ------------------------------------------------------------------------------


@pytest.mark.theorem
@pytest.mark.parametrize(("num", "stay"), [(1, 0.5), (2, 0.5), (1, 0.8), (2, 0.8)])
def test_every_visit_is_biased_as_it_is_said_and_first_visits_are_not(num, stay):
    # A state that is kept with probability p and earns 1 a step: V = 1/(1-p). After n episodes
    # every-visit Monte Carlo is short of it by 2/(n+1) times what it lacks after one, where it
    # has the mean of (k+1)/2 over the lengths k: p / (2 (1-p)) (Singh and Sutton 1996). Exactly,
    # by all lengths but those of a probability below 1e-12.
    longest = int(np.ceil(np.log(1e-12) / np.log(stay)))
    chance = (1 - stay) * stay ** np.arange(longest)
    k = np.arange(1, longest + 1.0)
    if num == 1:
        every, weight, first = (k + 1) / 2, chance, k
    else:
        i, j = k[:, None], k[None]
        every = (i * (i + 1) + j * (j + 1)) / 2 / (i + j)
        weight, first = chance[:, None] * chance, (i + j) / 2
    true = 1 / (1 - stay)
    assert_allclose(np.sum(weight * first), true, atol=1e-7)
    bias = 2 / (num + 1) * stay / (2 * (1 - stay))
    assert_allclose(true - np.sum(weight * every), bias, atol=1e-7)
    # Those are the estimates that the functions make of such episodes.
    pick = [(3, 5)[:num], (1, 7)[:num]]
    for lengths in pick:
        found = monte_carlo.average(stays(lengths), every_visit, 2).value[-1, 0]
        assert_allclose(found, every[tuple(n - 1 for n in lengths)])


@pytest.mark.theorem
def test_both_come_to_the_values_of_the_policy():
    # 20,000 episodes of at most 60 steps; what is cut off is less than .8^60 = 2e-6 of a return.
    # Episodes are independent: the mean over visits is a quotient of two means, and its standard
    # error that of (total return - V visits), by the mean number of visits. Within 4.5 of them, 3
    # states and 2 kinds: false alarm 4e-5.
    found = sampled()[1]
    truth = np.asarray(solve.evaluate(short_episodes(), jnp.asarray(POLICY)).value)
    for averages in found.values():
        visits = np.diff(averages.visits, axis=0, prepend=0)
        total = np.diff(averages.value * averages.visits, axis=0, prepend=0)
        error = np.std(total - truth * visits, axis=0) / visits.mean(axis=0) / NUM**0.5
        assert np.all(np.abs(averages.value[-1] - truth)[:3] < 4.5 * error[:3])
        assert np.max(error[:3]) < 0.02
    assert np.all(found["every"].visits[-1, :3] > 1.1 * found["first"].visits[-1, :3])


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="counted is 'first': give a function, first_visit or"):
        monte_carlo.average(stays([1]), "first", 2)
