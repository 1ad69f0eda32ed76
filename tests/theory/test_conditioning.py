"""Conditioning: worked numbers, closed forms of the error wave, the classical phenomena."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom

from jaxrl_pg.theory.learning import conditioning

condition = jax.jit(conditioning.condition)

# One stimulus at time 2 of 12, the reward 6 steps later: it arrives with time 8, at index 7.
ONSET, DELAY, NUM_TIMES = 2, 6, 12
TRIALS = 40


def trials(rewarded, num=TRIALS):
    feature = conditioning.serial_compound(jnp.array([ONSET]), NUM_TIMES)
    reward = jnp.zeros(NUM_TIMES - 1).at[ONSET + DELAY - 1].set(rewarded)
    return jnp.tile(feature[None], (num, 1, 1)), jnp.tile(reward[None], (num, 1))


def trial_level(*phases):
    """Return Rescorla and Wagner's trials, from `(stimuli, reward, trials)` a phase."""
    present = np.concatenate([np.tile(row, (num, 1)) for row, _, num in phases]).astype(float)
    reward = np.concatenate([np.full((num, 1), paid) for _, paid, num in phases]).astype(float)
    feature = np.stack([present, np.zeros_like(present)], axis=1)
    return jnp.asarray(feature), jnp.asarray(reward)


def twin(feature, reward, learning_rate, gamma):
    weight, weights, values, errors = np.zeros(feature.shape[2]), [], [], []
    for x, r in zip(feature, reward, strict=True):
        values.append(x @ weight)
        row = []
        for t in range(len(r)):
            row.append(r[t] + gamma * weight @ x[t + 1] - weight @ x[t])
            weight = weight + learning_rate * row[-1] * x[t]
        weights.append(weight)
        errors.append(row)
    return np.array(weights), np.array(values), np.array(errors)


def test_three_states_in_a_row():
    # Reward 1 at the end, step 1/2, three episodes. First: V_3 = 1/2. Second: V_2 = 1/4,
    # V_3 = 3/4. Third: V_1 = 1/8, V_2 = 1/4 + (3/4 - 1/4)/2 = 1/2, V_3 = 7/8.
    feature = jnp.tile(jnp.eye(4)[None, :, :3], (3, 1, 1))
    result = condition(feature, jnp.tile(jnp.array([[0.0, 0, 1]]), (3, 1)), 0.5)
    assert_allclose(result.weight, [[0, 0, 0.5], [0, 0.25, 0.75], [0.125, 0.5, 0.875]])
    assert_allclose(result.error, [[0, 0, 1], [0, 0.5, 0.5], [0.25, 0.5, 0.25]])
    assert_allclose(result.value[2], [0, 0.25, 0.75, 0])


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_trials_equal_their_numpy_twin(gamma):
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(TRIALS, NUM_TIMES, NUM_TIMES))
    reward = rng.normal(size=(TRIALS, NUM_TIMES - 1))
    result = condition(feature, reward, 0.05, gamma)
    for got, want in zip(result, twin(feature, reward, 0.05, gamma), strict=True):
        assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("rate", "gamma"), [(0.2, 1.0), (0.5, 1.0), (1.0, 1.0), (0.3, 0.9)])
def test_the_error_goes_back_from_reward_to_cue_as_a_binomial_wave(rate, gamma):
    # k steps before the reward V is gamma^(k-1) P(at least k successes in n draws of alpha).
    result = condition(*trials(1.0), rate, gamma)
    before = np.arange(TRIALS)[:, None]
    steps = np.arange(1, DELAY + 1)[None]
    value = gamma ** (steps - 1) * binom.sf(steps - 1, before, rate)
    assert_allclose(result.value[:, ONSET : ONSET + DELAY], value[:, ::-1], atol=1e-12)
    error = np.zeros_like(result.error)
    for k in range(DELAY):  # between the stimulus and the reward
        error[:, ONSET + DELAY - 1 - k] = gamma**k * binom.pmf(k, before[:, 0], rate)
    error[:, ONSET - 1] = gamma**DELAY * binom.sf(DELAY - 1, before[:, 0], rate)  # at the stimulus
    assert_allclose(result.error, error, atol=1e-12)


def test_a_learned_reward_is_silent_its_cue_is_not_and_its_omission_hurts():
    learned = condition(*trials(1.0, 1), 1.0, 1.0, condition(*trials(1.0), 1.0).weight[-1])
    omitted = condition(*trials(0.0, 1), 1.0, 1.0, condition(*trials(1.0), 1.0).weight[-1])
    expected = np.zeros(NUM_TIMES - 1)
    expected[ONSET - 1] = 1.0
    assert_allclose(learned.error[0], expected, atol=1e-12)
    expected[ONSET + DELAY - 1] = -1.0
    assert_allclose(omitted.error[0], expected, atol=1e-12)


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_extinction_is_acquisition_upside_down(rate):
    taught = condition(*trials(1.0), 1.0).weight[-1]
    result = condition(*trials(0.0), rate, 1.0, taught)
    left = binom.cdf(DELAY - 1, np.arange(TRIALS), rate)  # of V at the stimulus
    assert_allclose(result.value[:, ONSET], left, atol=1e-12)
    assert result.error.min() == -1.0  # the first omission


def test_blocking():
    # A alone is learned to 1 - (1-a)^n; A and B then share what is left, at the rate 2a. Without
    # the first phase each gets (1 - (1-2a)^m)/2.
    rate, first, second = 0.15, 20, 20
    blocked = condition(*trial_level(([1, 0], 1, first), ([1, 1], 1, second)), rate).weight[-1]
    naive = condition(*trial_level(([0, 0], 0, first), ([1, 1], 1, second)), rate).weight[-1]
    share = (1 - (1 - 2 * rate) ** second) / 2
    left = (1 - rate) ** first
    assert_allclose(naive, [share, share], atol=1e-12)
    assert_allclose(blocked, [1 - left + left * share, left * share], atol=1e-12)
    assert blocked[1] < 0.05 < 0.45 < naive[1]


def test_conditioned_inhibition_and_overexpectation():
    # A+ and AB- in turns: w_A = 1, w_B = -1. A+ and B+ first, then AB+: both fall to 1/2.
    first, second = (
        trial_level(([1, 0], 1, 1), ([1, 1], 0, 1)),
        trial_level(([1, 0], 1, 1), ([0, 1], 1, 1)),
    )
    inhibited = condition(*(jnp.tile(x, (300, 1, 1)[: x.ndim]) for x in first), 0.3).weight[-1]
    assert_allclose(inhibited, [1.0, -1.0], atol=1e-10)
    both = condition(*(jnp.tile(x, (300, 1, 1)[: x.ndim]) for x in second), 0.3).weight[-1]
    assert_allclose(both, [1.0, 1.0], atol=1e-10)
    fallen = condition(*trial_level(([1, 1], 1, 40)), 0.3, 1.0, both).weight[-1]
    assert_allclose(fallen, [0.5, 0.5], atol=1e-10)


def test_whole_numbers_and_lists_are_features_too():
    feature, reward = [[[1], [0]], [[1], [0]]], [[1], [1]]
    for x, r in ((feature, reward), (np.array(feature), np.array(reward))):
        result = conditioning.condition(x, r, 0.5)
        assert_allclose(result.weight, [[0.5], [0.75]])
        assert_allclose(conditioning.condition(x, r, 0.5, weight=[1]).error, 0.0)
        weight, error = conditioning.td0([0], x[0], r[0], 0.5)
        assert_allclose([weight, error], [[0.5], [1.0]])
    single = np.array(feature, np.float32)
    assert conditioning.condition(single, np.array(reward, float), 0.5).weight.dtype == float
    assert_allclose(conditioning.serial_compound([1, -1], 2), [[0, 0, 0, 0], [1, 0, 0, 0]])


@pytest.mark.parametrize(
    ("feature", "reward", "line"),
    [
        (np.ones((2, 3, 1)), np.ones((2, 3)), "feature has 3 rows for 3 rewards: give 4"),
        (np.ones((2, 3, 1)), np.ones((1, 2)), r"reward has shape \(1, 2\)"),
        (np.ones((3, 1)), np.ones((2, 2)), r"feature has shape \(3, 1\)"),
        (np.full((1, 3, 1), np.nan), np.ones((1, 2)), "feature has an entry nan"),
    ],
)
def test_what_is_no_sequence_of_stimuli_is_refused(feature, reward, line):
    with pytest.raises(ValueError, match=line) as caught:
        conditioning.condition(feature, reward, 0.1)
    assert "\n" not in str(caught.value)


def test_a_predictor_of_a_predictor_is_learned_without_reward():
    # B is a cue for reward; then A comes before B, and nothing is paid: the error at B's onset
    # teaches A. In the trial-level rule A could only lose.
    alone = conditioning.serial_compound(jnp.array([-1, 6]), NUM_TIMES)
    pair = conditioning.serial_compound(jnp.array([2, 6]), NUM_TIMES)
    reward = jnp.zeros((TRIALS, NUM_TIMES - 1))
    tiled = [jnp.tile(x[None], (TRIALS, 1, 1)) for x in (alone, pair)]
    taught = condition(tiled[0], reward.at[:, 8].set(1.0), 0.5).weight[-1]
    result = condition(tiled[1], reward, 0.5, 1.0, taught)
    assert result.value[0, 2] == 0.0
    assert result.value[:, 2].max() > 0.3
    assert result.value[-1, 2] < 1e-3  # and is lost again, with B


def test_the_serial_compound_marks_moments_and_leaves_out_what_is_absent():
    result = conditioning.serial_compound(jnp.array([1, -1, 0]), 3).reshape(3, 3, 3)
    assert_allclose(result[:, 0], [[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert_allclose(result[:, 1], 0.0)
    assert_allclose(result[:, 2], np.eye(3))


@pytest.mark.theorem
def test_full_steps_learn_any_rewards_in_as_many_trials_as_there_are_steps():
    # 10,000 sequences of random rewards and discounts: V is the discounted sum of what comes.
    num, length = 10_000, 6
    rng = np.random.default_rng(2)
    reward, gamma = rng.normal(size=(num, length)), rng.uniform(size=num)
    feature = jnp.tile(jnp.eye(length + 1)[None, :, :length], (length + 1, 1, 1))

    def learn(reward, gamma):
        rewards = jnp.broadcast_to(reward[None], (length + 1, length))
        return conditioning.condition(feature, rewards, 1.0, gamma)

    result = jax.jit(jax.vmap(learn))(reward, gamma)
    to_come = np.zeros(num)
    for t in reversed(range(length)):
        to_come = reward[:, t] + gamma * to_come
        assert_allclose(result.weight[:, -1, t], to_come, atol=1e-12)
    assert_allclose(result.error[:, -1], 0.0, atol=1e-12)
    assert jnp.max(jnp.abs(result.error[:, -2, 0])) > 1e-3  # one trial fewer is not enough
