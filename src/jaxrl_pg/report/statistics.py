"""Statistics of a few seeds: point estimates and their confidence intervals.

After Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice"
(arXiv 2108.13264). Scores are a list with one array `[..., seeds]` for each task (environment);
tasks may have different numbers of seeds. Every statistic reduces the last axis and pools the
tasks, so that it takes as many resamples at once as the axes in front hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "Interval",
    "Statistic",
    "bootstrap",
    "improvement",
    "improvement_interval",
    "iqm",
    "mean",
    "median",
    "optimality_gap",
    "profile",
    "resample",
]

Scores = Sequence[np.ndarray]
Statistic = Callable[[Scores], np.ndarray]

_TRIM = 0.25
_LARGEST_BLOCK = 4_000_000  # resampled scores in memory at once


class Interval(NamedTuple):
    """An estimate and its confidence interval.

    Attributes:
        value: the estimate, from the scores themselves.
        low: the interval's lower end; NaN where a single seed leaves it unknown.
        high: the upper end.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(scores: Scores) -> np.ndarray:
    """Return the interquartile mean of all scores of all tasks together.

        mean of x_(k+1) .. x_(n-k),  k = floor(n / 4),  x sorted

    Whole scores are cut at both ends, as scipy's `trim_mean` and with it rliable do; no score
    counts in part. Up to three scores it is their mean.

    Args:
        scores: `[..., seeds]` for each task.

    Returns:
        `[...]`.
    """
    pooled = np.sort(np.concatenate(_checked(scores), axis=-1), axis=-1)
    cut = int(_TRIM * pooled.shape[-1])
    return pooled[..., cut : pooled.shape[-1] - cut].mean(-1)


def mean(scores: Scores) -> np.ndarray:
    """Return the mean over tasks of each task's mean, `[...]`."""
    return _task_means(scores).mean(0)


def median(scores: Scores) -> np.ndarray:
    """Return the median over tasks of each task's mean (with one task: that mean), `[...]`."""
    return np.median(_task_means(scores), axis=0)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """Return how far scores fall short of a target on average; what exceeds it earns nothing.

        target - mean(min(x, target))

    Args:
        scores: `[..., seeds]` for each task, normalised.
        target: the score that is good enough.

    Returns:
        `[...]`, 0 or more.
    """
    return target - mean([np.minimum(task, target) for task in _checked(scores)])


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Return the performance profile: the share of seeds that score above each threshold.

        mean over tasks of  mean over seeds of  [x > tau]

    Args:
        scores: `[..., seeds]` for each task.
        thresholds: `[N]`.

    Returns:
        `[N, ...]`.
    """
    shares = []
    for task in _checked(scores):
        levels = np.asarray(thresholds, dtype=float).reshape((-1,) + (1,) * task.ndim)
        shares.append((task > levels).mean(-1))
    return np.mean(shares, axis=0)


def improvement(first: Scores, second: Scores) -> np.ndarray:
    """Return the probability that a seed of `first` scores above one of `second`.

        mean over tasks of  mean over pairs of  [x > y] + [x = y] / 2

    which is the Mann-Whitney statistic over the number of pairs (their appendix A.4); a tie counts
    half.

    Args:
        first: `[seeds]` for each task.
        second: `[seeds]` for each task; the same tasks in the same order.

    Returns:
        `[]`, in [0, 1].

    Raises:
        ValueError: when the numbers of tasks differ.
    """
    return np.mean([wins.mean() for wins in _wins(first, second)])


def improvement_interval(
    first: Scores,
    second: Scores,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return `improvement` with its percentile interval.

    The seeds of both sides are resampled within each task.

    Args:
        first: `[seeds]` for each task.
        second: `[seeds]` for each task; the same tasks in the same order.
        rng: source of the resamples.
        num_resamples: number of resamples.
        confidence: probability that the interval is to have, between 0 and 1.
    """
    tables = _wins(first, second)
    drawn = np.zeros(num_resamples)
    for wins in tables:
        # A resample is known by how often it holds each seed.
        rows, columns = (rng.multinomial(n, np.full(n, 1 / n), num_resamples) for n in wins.shape)
        drawn += ((rows @ wins) * columns).sum(-1) / wins.size
    value = np.mean([wins.mean() for wins in tables])
    if all(wins.size == 1 for wins in tables):
        return Interval(value, np.asarray(np.nan), np.asarray(np.nan))
    return Interval(value, *_percentiles(drawn / len(tables), confidence))


def resample(scores: Scores, rng: np.random.Generator, num_resamples: int) -> list[np.ndarray]:
    """Draw seeds with replacement within each task, whole rows of the axes in front together.

    Args:
        scores: `[..., seeds]` for each task.
        rng: source of the resamples.
        num_resamples: number of resamples, `R`.

    Returns:
        `[..., R, seeds]` for each task.
    """
    drawn = []
    for task in scores:
        seeds = task.shape[-1]
        drawn.append(task[..., rng.integers(seeds, size=(num_resamples, seeds))])
    return drawn


def bootstrap(
    scores: Scores,
    statistic: Statistic,
    rng: np.random.Generator,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return a statistic with its stratified-bootstrap percentile interval.

    Seeds are resampled within each task and never across (their section 4.1), and the interval
    runs between the (1 - confidence) / 2 and (1 + confidence) / 2 quantiles of the resampled
    statistic. Where every task has one seed nothing can be said, and the ends are NaN.

    Args:
        scores: `[..., seeds]` for each task; axes in front (time) are resampled together.
        statistic: a statistic of this module, or another function that takes `[..., seeds]` for
            each task and returns `[...]`.
        rng: source of the resamples.
        num_resamples: number of resamples.
        confidence: probability that the interval is to have, between 0 and 1.

    Returns:
        Three arrays of the statistic's shape.

    Raises:
        ValueError: for a task without seeds, or numbers out of range.
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples={num_resamples}: give a whole number >= 1")
    scores = _checked(scores)
    value = np.asarray(statistic(scores))
    if all(task.shape[-1] == 1 for task in scores):
        _percentiles(np.zeros(1), confidence)  # a bad confidence is refused all the same
        return Interval(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan))
    size = sum(task.size for task in scores) * max(1, value.size // max(1, scores[0][..., 0].size))
    block = max(1, _LARGEST_BLOCK // size)
    drawn = [
        statistic(resample(scores, rng, min(block, num_resamples - begun)))
        for begun in range(0, num_resamples, block)
    ]
    return Interval(value, *_percentiles(np.concatenate(drawn, axis=-1), confidence))


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: give a number between 0 and 1, such as 0.95")
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return low, high


def _task_means(scores: Scores) -> np.ndarray:
    return np.stack([task.mean(-1) for task in _checked(scores)])


def _wins(first: Scores, second: Scores) -> list[np.ndarray]:
    """Return each task's table of pairs: 1 where the row's seed wins, 1/2 where both are equal."""
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} tasks against {len(second)}: give both the same tasks, in one order"
        )
    tables = []
    for x, y in zip(_checked(first), _checked(second), strict=True):
        rows, columns = x[:, np.newaxis], y[np.newaxis, :]
        tables.append((rows > columns) + 0.5 * (rows == columns))
    return tables


def _checked(scores: Scores) -> list[np.ndarray]:
    arrays = [np.asarray(task, dtype=float) for task in scores]
    if not arrays or any(task.ndim == 0 or task.shape[-1] == 0 for task in arrays):
        raise ValueError(
            "a task without seeds: give one array of scores [..., seeds] a task, none empty"
        )
    return arrays
