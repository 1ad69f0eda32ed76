"""Statistics of a few seeds, against arithmetic, scipy, and numbers that rliable gave once."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from jaxrl_pg.report import statistics
from jaxrl_pg.report.statistics import bootstrap, improvement, improvement_interval, iqm, profile

# Ten seeds of three tasks, two agents.
FIRST = [
    [1.0, 0.55, 1.03, 0.69, 1.05, 1.35, 0.05, 0.88, 1.08, 0.73],
    [1.45, 1.07, 1.97, 1.54, 0.83, 0.63, 0.66, 0.67, 1.21, 1.28],
    [0.66, 0.3, 0.55, 0.98, 0.79, 0.57, -0.12, 0.94, -0.46, 0.86],
]
SECOND = [
    [0.03, 0.4, 0.78, 0.74, 0.19, 0.03, 0.48, 0.2, 0.71, 1.13],
    [0.86, 1.63, 1.54, 1.16, 1.14, 1.53, 2.1, 1.14, 1.44, 1.82],
    [0.11, 0.2, 0.31, 0.63, 1.28, 0.66, 0.98, 0.89, 0.57, 0.26],
]


def rng():
    return np.random.default_rng(0)


# --- point estimates ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([[8, 1, 7, 2, 6, 3, 5, 4]], 4.5),  # (3 + 4 + 5 + 6) / 4
        ([[0, 1, 2, 3, 100]], 2.0),  # floor(5 / 4) = 1 at each end: (1 + 2 + 3) / 3
        ([[0, 10], [4, 6]], 5.0),  # all tasks together: 0, 4, 6, 10, of which (4 + 6) / 2
        # floor(10 / 4) = 2 at each end: (0 + 5) / 6; with half scores it would be 4.5 / 5
        ([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1]], 5 / 6),
        ([[1, 2, 9]], 4.0),  # nothing to cut
        ([[7]], 7.0),
    ],
)
def test_iqm_by_hand(tasks, expected):
    assert iqm([np.array(task) for task in tasks]) == pytest.approx(expected)


@pytest.mark.parametrize("num", [1, 3, 4, 7, 10, 33])
def test_iqm_is_scipys_trimmed_mean(num):
    scores = rng().normal(size=(5, num))
    np.testing.assert_allclose(iqm([scores]), stats.trim_mean(scores, 0.25, axis=-1))


def test_mean_and_median_give_every_task_the_same_weight():
    tasks = [[1, 3], [5], [9, 9, 12]]  # means 2, 5, 10; all six scores together would give 6.5
    assert statistics.mean(tasks) == pytest.approx(17 / 3)
    assert statistics.median(tasks) == pytest.approx(5)


def test_optimality_gap_by_hand():
    # below 1 each counts: (0.5 + 1) / 2 = 0.75 and (1 + 0.25) / 2 = 0.625; 1 - 0.6875
    assert statistics.optimality_gap([[0.5, 2.0], [1.0, 0.25]]) == pytest.approx(0.3125)
    # to a target of 2: (0.5 + 2) / 2 = 1.25 and 0.625; 2 - 0.9375
    assert statistics.optimality_gap([[0.5, 2.0], [1.0, 0.25]], 2.0) == pytest.approx(1.0625)


def test_profile_counts_what_is_strictly_above():
    # above 2: 1 of (1, 2, 2, 5) and 1 of (0, 3); above 0: 4 of 4 and 1 of 2
    found = profile([[1, 2, 2, 5], [0, 3]], np.array([0.0, 2.0, 5.0]))
    np.testing.assert_allclose(found, [0.75, 0.375, 0.0])


def test_improvement_by_hand():
    # 1: below both 2s, 0 + 0; 2: ties, 0.5 + 0.5; 3: above, 1 + 1; of 6 pairs
    assert improvement([[1, 2, 3]], [[2, 2]]) == pytest.approx(0.5)
    # a second task with 0.5 + 1 of 2 pairs: (0.5 + 0.75) / 2
    assert improvement([[1, 2, 3], [2, 3]], [[2, 2], [2]]) == pytest.approx(0.625)


def test_improvement_is_mann_whitney_and_its_own_complement():
    x, y = np.round(rng().normal(size=(2, 12)), 1)
    y = y[:9]
    u = stats.mannwhitneyu(x, y).statistic
    assert improvement([x], [y]) == pytest.approx(u / (12 * 9))
    assert improvement([x], [y]) + improvement([y], [x]) == pytest.approx(1)
    assert improvement([x], [x]) == pytest.approx(0.5)


# --- intervals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.95, 0, 1), (0.4, 0.5, 0.5)])
def test_two_seeds_have_an_interval_that_can_be_counted(confidence, low, high, monkeypatch):
    # Resamples of (0, 1) have the mean 0, 1/2, 1 with probability 1/4, 1/2, 1/4: the quantiles
    # at 2.5% and 97.5% are 0 and 1, those at 30% and 70% are both 1/2.
    monkeypatch.setattr(statistics, "_LARGEST_BLOCK", 1000)  # in several blocks too
    found = bootstrap([[0, 1]], statistics.mean, rng(), 4000, confidence)
    assert found == (0.5, low, high)
    # The same when a seed of (0, 2) is compared with one of (1,).
    found = improvement_interval([[0, 2]], [[1]], rng(), 4000, confidence)
    assert found == (0.5, low, high)


def test_seeds_are_resampled_within_their_task():
    # Across tasks the mean would vary; within them it cannot.
    assert bootstrap([[0, 0], [1, 1]], statistics.mean, rng()) == (0.5, 0.5, 0.5)
    assert improvement_interval([[0, 0], [1, 1]], [[1, 1], [0, 0]], rng()) == (0.5, 0.5, 0.5)


def test_a_curve_is_resampled_whole():
    def range_over_time(tasks):
        means = np.stack([task.mean(-1) for task in tasks]).mean(0)
        return means.max(0) - means.min(0)

    curve = np.array([[0.0, 5.0, 9.0], [1.0, 6.0, 10.0]])  # [T, seeds]: all rise by 1
    found = bootstrap([curve], range_over_time, rng())
    np.testing.assert_allclose(found, 1)
    bands = bootstrap([curve], iqm, rng())
    assert bands.value.shape == bands.low.shape == (2,)
    np.testing.assert_allclose(np.diff(bands), 1)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator, covered = rng(), 0
    for _ in range(200):
        found = bootstrap([generator.normal(3.0, 2.0, 20)], iqm, generator, 300)
        covered += found.low <= 3.0 <= found.high
    # 95% of 200 is 190 with a deviation of sqrt(200 x 0.95 x 0.05) = 3; a percentile interval of
    # 20 seeds is slightly too narrow.
    assert 173 <= covered <= 199


def test_a_single_seed_has_no_interval():
    for found in (
        bootstrap([[3.0]], iqm, rng()),
        bootstrap([np.ones((4, 1))], iqm, rng()),
        improvement_interval([[3.0]], [[1.0]], rng()),
    ):
        assert np.isfinite(found.value).all()
        assert np.isnan(found.low).all()
        assert np.isnan(found.high).all()


def test_the_same_generator_gives_the_same_interval():
    one, same, other = (
        bootstrap(FIRST, iqm, np.random.default_rng(seed), 100) for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


# --- rliable ------------------------------------------------------------------------------------

# rliable 1.2.0 on these scores: get_interval_estimates with 50,000 resamples (20,000 for the
# profile and the improvement), RandomState(0). Its ends carry noise of about 0.003.
RLIABLE = {
    "iqm": (0.841875, 0.7175, 0.966875),
    "mean": (0.82633333, 0.67933333, 0.96933333),
    "median": (0.841, 0.628, 1.029),
    "optimality_gap": (0.27466667, 0.16533333, 0.39533333),
}


@pytest.mark.parametrize("name", RLIABLE)
def test_aggregates_agree_with_rliable(name):
    found = bootstrap(FIRST, getattr(statistics, name), rng(), 20_000)
    value, low, high = RLIABLE[name]
    assert found.value == pytest.approx(value)
    assert found.low == pytest.approx(low, abs=0.008)
    assert found.high == pytest.approx(high, abs=0.008)


def test_profile_and_improvement_agree_with_rliable():
    found = bootstrap(FIRST, partial(profile, thresholds=np.array([0.5, 1.0, 1.5])), rng(), 20_000)
    expected = [
        [0.86666667, 0.33333333, 0.06666667],
        [0.73333333, 0.2, 0.0],
        [0.96666667, 0.46666667, 0.16666667],
    ]
    np.testing.assert_allclose(found.value, expected[0])
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.034)  # a seed more or less
    chance = improvement_interval(FIRST, SECOND, rng(), 20_000)
    assert chance.value == pytest.approx(0.51333333)
    assert chance.low == pytest.approx(0.37666667, abs=0.008)
    assert chance.high == pytest.approx(0.655, abs=0.008)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [[], [[]], [[1.0], []], [3.0]])
def test_a_task_needs_seeds(tasks):
    with pytest.raises(ValueError, match="a task without seeds: give one array"):
        iqm(tasks)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"confidence=95: give a number between 0 and 1"):
        bootstrap([[1.0, 2.0]], iqm, rng(), confidence=95)
    with pytest.raises(ValueError, match=r"confidence=0: give a number"):
        bootstrap([[1.0]], iqm, rng(), confidence=0)
    with pytest.raises(ValueError, match="num_resamples=0: give a whole number >= 1"):
        bootstrap([[1.0, 2.0]], iqm, rng(), num_resamples=0)
    with pytest.raises(ValueError, match="1 tasks against 2: give both the same tasks"):
        improvement([[1.0]], [[1.0], [2.0]])
