"""TD(lambda): twins, worked numbers, forward and backward views, and what is true in the mean."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import random_mdps, random_policies
from numpy.testing import assert_allclose
from test_td import POLICY, REPLAYED, replay, short_episodes

from jaxrl_pg.theory import solve
from jaxrl_pg.theory.learning import estimators, td, traces
from jaxrl_pg.theory.learning.monte_carlo import average, every_visit, first_visit
from jaxrl_pg.theory.learning.traces import ACCUMULATING, DUTCH, REPLACING, Episode, Trace

KINDS = {"accumulating": ACCUMULATING, "replacing": REPLACING, "dutch": DUTCH}
NUM, STATES, STEPS = 10_000, 4, 10
RECORDS, LENGTH, SEEDS = 24, 500, 32
RATE, LIMIT, DECAYS = 0.3, 4, (0.0, 0.7)


def any_trace(which):
    """Return the trace of that number, so that one compiled program serves all of them."""
    kinds = tuple(KINDS.values())
    corrected = jnp.array([float(kind.corrected) for kind in kinds])[which]
    return Trace(lambda e, rate: jnp.stack([k.visit(e, rate) for k in kinds])[which], corrected)


def twin(value, episode, kind, decay, rate, keep=False):
    """Return V after an episode, one state at a time; with `keep` errors are those of the old V."""
    value, trace, expected = np.array(value), np.zeros(len(value)), 0.0
    old = value.copy()
    states, rewards, discounts = (np.asarray(x) for x in episode)
    for t in range(len(rewards)):
        s, k = states[t], states[t + 1]
        used = old if keep else value
        delta = rewards[t] + discounts[t] * used[k] - used[s]
        if kind == "accumulating":
            trace[s] += rate[s]
        elif kind == "replacing":
            trace[s] = rate[s]
        else:
            trace[s] = (1 - rate[s]) * trace[s] + rate[s]
        drift = value[s] - expected if kind == "dutch" and not keep else 0.0
        expected = value[k]
        for x in range(len(value)):
            value[x] += (delta + drift) * trace[x] - (rate[s] * drift if x == s else 0.0)
            trace[x] *= discounts[t] * decay
    return value


def lambda_return_twin(history, episode, decay, begin, end):
    """Return the lambda-return from `begin` of what is known at `end`, as a sum over n.

    The value of `s_{t+1}` is that of `history[t]`.
    """
    states, rewards, discounts = (np.asarray(x) for x in episode)
    total, weight, collected, product = 0.0, 1.0, 0.0, 1.0
    for t in range(begin, end):
        collected += product * rewards[t]
        product *= discounts[t]
        n_step = collected + product * history[t][states[t + 1]]
        share = weight if t + 1 == end else (1 - decay) * weight
        total, weight = total + share * n_step, weight * decay
    return total


def random_episodes(num=NUM, gamma=None):
    """Draw any sequences of states, rewards and discounts; half of them end in the last step.

    What follows holds for every sequence, whether an MDP would have given it or not.
    """
    rng = np.random.default_rng(0)
    state = rng.integers(STATES, size=(num, STEPS + 1)).astype(np.int32)
    discount = np.broadcast_to(rng.uniform(size=(num, 1)) if gamma is None else gamma, (num, STEPS))
    discount = discount.copy()
    discount[::2, -1] = 0.0
    episodes = Episode(state, rng.normal(size=(num, STEPS)), discount)
    value, decay = rng.normal(size=(num, STATES)), rng.uniform(size=num)
    return jax.tree.map(jnp.asarray, (value, episodes, decay, rng.uniform(0, 0.5, (num, STATES))))


@lru_cache
def passed():
    """Run both passes with every trace over the random episodes, in one program."""

    def one(which, value, episode, decay, rate):
        trace = any_trace(which)
        return {
            "online": traces.online(value, episode, trace, decay, rate),
            "offline": traces.offline(value, episode, trace, decay, rate),
            "forward": traces.forward_view(value, episode, decay, rate),
            "returns": traces.lambda_returns(value, episode, decay),
        }

    each = jax.vmap(jax.vmap(one, (None, 0, 0, 0, 0)), (0, None, None, None, None))
    found = jax.jit(each)(jnp.arange(3), *random_episodes())
    return jax.tree.map(np.asarray, found)


@lru_cache
def learned():
    """Learn online with every trace: settings to replay, lambda 0 and .7, then ones to converge."""
    mdp = short_episodes()

    def run(which, decay, settings, key):
        trace = any_trace(which)
        return traces.predict(mdp, POLICY, trace, decay, settings, key, RECORDS, LENGTH)

    rates, powers = jnp.array([RATE, RATE, 1.0]), jnp.array([0.0, 0.0, 0.8])
    limits, decays = jnp.array([LIMIT, LIMIT, 9]), jnp.array([*DECAYS, 0.7])
    settings = td.Settings(*(jnp.broadcast_to(jnp.asarray(x), (3,)) for x in td.Settings()))
    settings = settings._replace(learning_rate=rates, power=powers, max_steps=limits)
    each = jax.vmap(run, (None, None, None, 0))
    each = jax.vmap(jax.vmap(each, (None, 0, 0, None)), (0, None, None, None))
    keys = jax.random.split(jax.random.key(0), SEEDS)
    course = jax.jit(each)(jnp.arange(3), decays, settings, keys)
    return jax.tree.map(np.asarray, course)


# --- worked numbers and twins ---------------------------------------------------------------------


def test_one_episode_by_hand():
    # States 0, 1, 0, then the end, state 2; rewards 1, 2, 4; gamma 1/2; V = (1, 3, 0); alpha 1/2,
    # lambda 1/2. Errors with V kept: 1 + 1.5 - 1 = 1.5, 2 + .5 - 3 = -.5, 4 + 0 - 1 = 3.
    # Traces / alpha: (1, 0), (1/4, 1), then of state 0 1/16 + 1 (accumulating) or 1, of 1 1/4.
    value = jnp.array([1.0, 3.0, 0.0])
    episode = Episode(jnp.array([0, 1, 0, 2]), jnp.array([1.0, 2.0, 4.0]), jnp.array([0.5, 0.5, 0]))
    got = traces.offline(value, episode, ACCUMULATING, 0.5, 0.5)
    want = [1 + 0.5 * (1.5 - 0.5 / 4 + 3 * 17 / 16), 3 + 0.5 * (-0.5 + 3 / 4), 0]
    assert_allclose(got, want, rtol=1e-14)  # 3.28125, 3.125
    got = traces.offline(value, episode, REPLACING, 0.5, 0.5)
    assert_allclose(got, [1 + 0.5 * (1.5 - 0.5 / 4 + 3), 3.125, 0], rtol=1e-14)
    # The lambda-returns: 4; 2 + (1 + 4)/4 = 3.25; 1 + (3 + 3.25)/4 = 2.5625.
    got = traces.lambda_returns(value, episode, 0.5)
    assert_allclose(got, [2.5625, 3.25, 4.0], rtol=1e-14)
    # Online: V(0) = 1 + .75; then the error of 1 is 2 + .875 - 3 = -.125, and V = (1.734375,
    # 2.9375); the last error is 4 - 1.734375 = 2.265625, times 17/32 and 1/8.
    got = traces.online(value, episode, ACCUMULATING, 0.5, 0.5)
    want = [1.734375 + 2.265625 * 17 / 32, 2.9375 + 2.265625 / 8, 0]
    assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("name", KINDS)
def test_given_episodes_equal_the_plain_loop(name):
    values, episodes, decays, rates = random_episodes()
    found = jax.tree.map(lambda x: x[list(KINDS).index(name)], passed())
    for i in range(30):
        episode = jax.tree.map(lambda x, i=i: x[i], episodes)
        for keep, how in ((False, "online"), (True, "offline")):
            want = twin(values[i], episode, name, float(decays[i]), np.asarray(rates[i]), keep)
            assert_allclose(found[how][i], want, atol=1e-12)


def test_lambda_returns_are_the_sum_over_n():
    values, episodes, decays, _ = random_episodes()
    found = passed()["returns"][0]
    for i in range(20):
        episode = jax.tree.map(lambda x, i=i: np.asarray(x[i]), episodes)
        value, decay = np.asarray(values[i]), float(decays[i])
        want = [lambda_return_twin([value] * STEPS, episode, decay, t, STEPS) for t in range(STEPS)]
        assert_allclose(found[i], want, atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("lane", [0, 1])
def test_every_step_equals_the_plain_loop(name, lane):
    course = jax.tree.map(lambda x: x[list(KINDS).index(name), lane, 0], learned())
    value, seen = np.zeros(4), []

    def learn(s, a, r, next_state, _, discount):
        nonlocal value
        seen.append((s, next_state, r, discount))
        states, after, rewards, discounts = zip(*seen, strict=True)
        error = r + discount * value[next_state] - value[s]
        value = twin(begin, ([*states, after[-1]], rewards, discounts), name, DECAYS[lane], rates)
        if discount == 0 or len(seen) == LIMIT:
            seen.clear()
            begin[:] = value
        return error

    begin, rates = np.zeros(4), np.full(4, RATE)
    key = jax.random.split(jax.random.key(0), SEEDS)[0]
    shape = RECORDS, LENGTH
    errors, _ = replay(short_episodes(), lambda s: POLICY[s], learn, LIMIT, key, shape)
    assert_allclose(course.error[:REPLAYED].ravel(), errors, atol=1e-12)
    assert_allclose(course.tables.estimate[REPLAYED - 1], value, atol=1e-12)


# --- identities, on 10,000 episodes ---------------------------------------------------------------


@pytest.mark.theorem
def test_offline_the_forward_view_is_the_backward_view():
    found = passed()
    assert_allclose(found["offline"][0], found["forward"][0], atol=1e-11)
    for other in (1, 2):  # and it is that of accumulating traces alone
        away = np.max(np.abs(found["offline"][other] - found["forward"][0]), axis=1)
        assert np.quantile(away, 0.5) > 1e-3


@pytest.mark.theorem
def test_true_online_is_the_online_forward_view():
    # After every step, the values are what one gets who does the whole episode so far again, with
    # the lambda-returns that are known by then (van Seijen et al. 2016, theorem 1).
    values, episodes, decays, rates = jax.tree.map(np.asarray, random_episodes())
    found = passed()["online"]
    for i in range(100):
        episode = jax.tree.map(lambda x, i=i: x[i], episodes)
        history = [values[i]]
        for end in range(1, STEPS + 1):
            value = values[i].copy()
            for t in range(end):
                s = episode.state[t]
                target = lambda_return_twin(history, episode, decays[i], t, end)
                value[s] += rates[i, s] * (target - value[s])
            history.append(value)
        assert_allclose(found[2, i], history[-1], atol=1e-11)
    assert np.max(np.abs(found[2] - found[0])) > 0.1


@pytest.mark.theorem
def test_at_lambda_one_traces_are_monte_carlo():
    # Accumulating: every visit, for each discount; replacing: first visits, without one. With the
    # step size 1 / visits of the episode, they are the means, whatever V was before.
    def one(value, episode):
        alone = jax.tree.map(lambda x: x[None], episode)
        every, first = average(alone, every_visit, STATES), average(alone, first_visit, STATES)
        rate = 1.0 / jnp.maximum(every.visits[0], 1)
        return (
            traces.offline(value, episode, ACCUMULATING, 1.0, rate),
            traces.offline(value, episode, REPLACING, 1.0, 1.0),
            jnp.where(every.visits[0] > 0, every.value[0], value),
            jnp.where(first.visits[0] > 0, first.value[0], value),
        )

    run = jax.jit(jax.vmap(one))
    value, episodes, _, _ = random_episodes(gamma=1.0)
    ended = jax.tree.map(lambda x: x[::2], episodes)  # the others would bootstrap
    accumulated, replaced, every, first = run(value[::2], ended)
    assert_allclose(accumulated, every, atol=1e-11)
    assert_allclose(replaced, first, atol=1e-11)
    assert np.quantile(np.max(np.abs(every - first), axis=1), 0.1) > 0.1
    value, episodes, _, _ = random_episodes()
    accumulated, replaced, every, first = run(value[::2], jax.tree.map(lambda x: x[::2], episodes))
    assert_allclose(accumulated, every, atol=1e-11)
    assert np.max(np.abs(replaced - first)) > 0.1


def test_at_lambda_zero_it_is_td0():
    # The same numbers are drawn, and the trace is 0 but for the state visited.
    settings = td.Settings(RATE, max_steps=LIMIT)
    key = jax.random.split(jax.random.key(0), SEEDS)[0]
    plain = jax.jit(td.predict, static_argnums=(4, 5))
    plain = plain(short_episodes(), POLICY, settings, key, RECORDS, LENGTH)
    course = jax.tree.map(lambda x: x[:, 0, 0], learned())
    for which in range(3):
        assert_allclose(course.tables.estimate[which], plain.tables.estimate, atol=1e-13)
        assert_allclose(course.error[which], plain.error, atol=1e-13)
        assert_allclose(course.return_mean[which], plain.return_mean)


# --- in the mean ----------------------------------------------------------------------------------


@pytest.mark.theorem
def test_the_right_values_are_left_where_they_are_in_the_mean():
    # An error has the mean 0 given all that came before it, the trace included, so the mean change
    # of V_pi is 0 offline with every trace and lambda: all 64 episodes of 2 steps enumerated.
    def one(mdp, policy, decay):
        value = solve.evaluate(mdp, policy).value
        paths = estimators.enumerate_trajectories(mdp, policy, 3)
        gammas = jnp.full_like(paths.reward[:, :2], mdp.gamma)
        episodes = Episode(paths.state, paths.reward[:, :2], gammas)

        def change(which):
            run = jax.vmap(
                lambda x: traces.offline(value, x, any_trace(which), decay, 0.5) - value
            )(episodes)
            return paths.weight @ run, paths.weight @ jnp.abs(run)

        return jax.vmap(change)(jnp.arange(3))

    decays = np.random.default_rng(3).uniform(size=NUM)
    problems = random_mdps(1, NUM, 2, 2, sparse=0.3), random_policies(2, NUM, 2, 2), decays
    mean, size = jax.jit(jax.vmap(one))(*problems)
    assert_allclose(mean, 0.0, atol=1e-12)
    assert np.quantile(size, 0.5) > 0.1


@pytest.mark.theorem
def test_the_mean_return_contracts_to_the_values():
    def one(mdp, policy, decay, first, second):
        value = solve.evaluate(mdp, policy).value

        def apply(value, decay):
            return traces.expected_return(mdp, policy, value, decay)

        shrunk = jnp.max(jnp.abs(apply(first, decay) - apply(second, decay)))
        factor = mdp.gamma * (1 - decay) / (1 - mdp.gamma * decay)
        transition, reward = (
            jnp.sum(policy[..., None] * mdp.transition, 1),
            jnp.sum(policy * mdp.reward, 1),
        )
        bellman = reward + mdp.gamma * transition @ first
        return {
            "fixed": apply(value, decay) - value,
            "slack": factor * jnp.max(jnp.abs(first - second)) - shrunk,
            "zero": apply(first, 0.0) - bellman,
            "one": apply(first, 1.0) - value,
        }

    rng = np.random.default_rng(4)
    values = rng.normal(size=(2, NUM, 3))
    problems = random_mdps(5, NUM, 3, 2, sparse=0.5), random_policies(6, NUM, 3, 2)
    found = jax.jit(jax.vmap(one))(*problems, rng.uniform(size=NUM), *values)
    for name in ("fixed", "zero", "one"):
        assert_allclose(found[name], 0.0, atol=1e-10)
    assert np.min(found["slack"]) > -1e-12


def test_values_converge_to_those_of_the_policy():
    # As for TD(0) in test_td: steps n^-.8, 12,000 of them, 32 seeds, 3 states and 3 traces; within
    # 4.5 standard errors, of which 31 degrees of freedom exceed one with 9e-5: false alarm 8e-4.
    result = learned().tables.estimate[:, 2, :, -1]
    truth = np.asarray(solve.evaluate(short_episodes(), jnp.asarray(POLICY)).value)
    error = result.std(axis=1, ddof=1) / SEEDS**0.5
    assert np.all((np.abs(result.mean(axis=1) - truth) < 4.5 * error)[:, :3])
    assert np.max(np.abs(result - truth)) < 0.2
    assert_allclose(result[..., 3], 0.0)


def test_what_is_no_episode_is_refused():
    episode = Episode(np.zeros(4, int), np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match=r"state \(4,\), reward \(4,\) .*give \[T \+ 1\]"):
        traces.online(np.zeros(2), episode, DUTCH, 0.5, 0.1)
    with pytest.raises(ValueError, match=r"trace_decay is 1\.5: give one in \[0, 1\]"):
        traces.lambda_returns(np.zeros(2), episode._replace(reward=np.zeros(3)), 1.5)


def test_single_precision_stays_single():
    value = jnp.zeros(3, jnp.float32)
    episode = Episode(jnp.zeros(5, jnp.int32), *jnp.zeros((2, 4), jnp.float32))
    shapes = [
        jax.eval_shape(lambda v, e, k=kind, f=f: f(v, e, k, 0.5, 0.1), value, episode)
        for kind in KINDS.values()
        for f in (traces.online, traces.offline)
    ]
    shapes.append(jax.eval_shape(lambda v, e: traces.forward_view(v, e, 0.5, 0.1), value, episode))
    assert {leaf.dtype for leaf in shapes} == {jnp.dtype(jnp.float32)}
