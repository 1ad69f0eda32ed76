"""Summarise each setting of a report, and each label over all environments.

A setting's score on an environment is the mean return of each seed's last evaluation. A seed that
diverged scores the lowest return that any seed of that environment showed at any time; a seed that
was not trained to the end has no score and is counted. Intervals are 95% percentile intervals of a
stratified bootstrap, always from the same random numbers, so that a setting has the same interval
whatever it is compared with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg.report import statistics
from jaxrl_pg.report.sources import Source
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.sweeps import results
from jaxrl_pg.sweeps.results import Setting, Table

__all__ = [
    "Across",
    "Results",
    "Summary",
    "curve",
    "improvement",
    "interval",
    "shown",
    "summarise",
]

_NUM_RESAMPLES = 2000
_LONGEST_LABEL = 48


class Summary(NamedTuple):
    """The results of one setting.

    Attributes:
        setting: the setting, with its curves.
        label: what tells it from the other settings of its environment; a number in the order of
            the table where that would be long.
        scores: `[seeds]` final returns; fewer than the setting has seeds if some are unfinished.
        iqm: interquartile mean of the scores, with its interval.
        floor: score of a seed that diverged.
        num_unfinished: number of seeds without a score.
    """

    setting: Setting
    label: str
    scores: np.ndarray
    iqm: Interval
    floor: float
    num_unfinished: int


class Across(NamedTuple):
    """The results of one label over all environments, on normalised scores.

    Attributes:
        label: a label that every environment has once.
        scores: `[seeds]` for each environment: 0 is the lowest there, 1 the best setting's IQM.
        iqm, median, mean, optimality_gap: statistics of these scores.
    """

    label: str
    scores: list[np.ndarray]
    iqm: Interval
    median: Interval
    mean: Interval
    optimality_gap: Interval


class Results(NamedTuple):
    """Everything that a report shows.

    Attributes:
        sources: the folders.
        by_env: each environment's settings, the highest IQM first.
        varying: hyper-parameters in which settings of one agent and environment differ.
        across: results over all environments, the highest IQM first; empty for one environment,
            or if no label is in all of them.
        num_resamples: resamples of the bootstrap behind every interval.
    """

    sources: list[Source]
    by_env: dict[str, list[Summary]]
    varying: list[str]
    across: list[Across]
    num_resamples: int = _NUM_RESAMPLES

    @property
    def summaries(self) -> list[Summary]:
        """Every setting, environment by environment."""
        return [summary for some in self.by_env.values() for summary in some]

    @property
    def has_intervals(self) -> bool:
        """Whether any setting has two seeds: of one seed each, only its return can be said."""
        return any(len(summary.scores) > 1 for summary in self.summaries)


def summarise(merged: Table, sources: list[Source]) -> Results:
    """Summarise a table and its sources, from `sources.load`."""
    settings = results.settings(merged)
    labels, varying = _labels(settings)
    by_env: dict[str, list[Summary]] = {}
    for env in dict.fromkeys(setting.env for setting in settings):
        there = [i for i, setting in enumerate(settings) if setting.env == env]
        known = np.concatenate([settings[i].returns.ravel() for i in there])
        floor = float(np.min(known[np.isfinite(known)], initial=np.inf))
        summaries = [_summary(settings[i], labels[i], floor) for i in there]
        by_env[env] = sorted(summaries, key=lambda s: -np.nan_to_num(s.iqm.value, nan=-np.inf))
    return Results(sources, by_env, varying, _across(by_env))


def curve(summary: Summary) -> Interval:
    """Return the learning curve: IQM and interval at every evaluation, `[T]` each."""
    filled = _filled(summary.setting, summary.floor).T
    present = np.isfinite(filled)
    parts = np.full((3, len(filled)), np.nan)
    for mask in np.unique(present, axis=0):
        if mask.any():
            at = (present == mask).all(1)
            parts[:, at] = interval([filled[np.ix_(at, mask)]], statistics.iqm)
    return Interval(*parts)


def interval(scores: Sequence[np.ndarray], statistic: statistics.Statistic) -> Interval:
    """Return a statistic with its interval, from random numbers that are always the same."""
    return statistics.bootstrap(scores, statistic, np.random.default_rng(0), _NUM_RESAMPLES)


def improvement(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Interval:
    """Return the probability that the first improves on the second, with its interval."""
    rng = np.random.default_rng(0)
    return statistics.improvement_interval(first, second, rng, _NUM_RESAMPLES)


def shown(values: Sequence[Any]) -> list[str]:
    """Return a field's values as text, with the fewest digits from 4 on that tell most apart."""
    texts = (
        [f"{x:.{digits}g}" if isinstance(x, float) else str(x) for x in values]
        for digits in range(4, 18)  # with 17 two floats are never the same text
    )
    return max(texts, key=lambda some: len(set(some)))


def _summary(setting: Setting, label: str, floor: float) -> Summary:
    finals = _filled(setting, floor)[:, -1]
    scores = finals[np.isfinite(finals)]
    nothing = Interval(*np.full(3, np.nan))
    iqm = interval([scores], statistics.iqm) if len(scores) else nothing
    return Summary(setting, label, scores, iqm, floor, len(finals) - len(scores))


def _filled(setting: Setting, floor: float) -> np.ndarray:
    """Return the returns `[S, T]`, with the floor for a seed from where it diverged."""
    lost = setting.diverged[:, np.newaxis] & ~np.isfinite(setting.returns)
    return np.where(lost, floor, setting.returns)


def _across(by_env: dict[str, list[Summary]]) -> list[Across]:
    if len(by_env) < 2:
        return []
    scored = {
        env: {s.label: _normalised(s, summaries) for s in summaries if len(s.scores)}
        for env, summaries in by_env.items()
    }
    common = [
        label for label in next(iter(scored.values())) if all(label in x for x in scored.values())
    ]
    across = []
    for label in common:
        scores = [by_label[label] for by_label in scored.values()]
        across.append(
            Across(
                label,
                scores,
                iqm=interval(scores, statistics.iqm),
                median=interval(scores, statistics.median),
                mean=interval(scores, statistics.mean),
                optimality_gap=interval(scores, statistics.optimality_gap),
            )
        )
    return sorted(across, key=lambda one: -one.iqm.value)


def _normalised(summary: Summary, every: list[Summary]) -> np.ndarray:
    """Scale scores so that 0 is the lowest of every setting's, 1 the best setting's IQM.

    Where that IQM is the lowest score, too, as in an environment that few seeds solve, 1 is the
    highest score of all; where all scores are equal, each is 1.
    """
    low = min(s.scores.min() for s in every if len(s.scores))
    high = float(every[0].iqm.value)
    if high <= low:
        high = max(s.scores.max() for s in every if len(s.scores))
    return (summary.scores - low) / (high - low) if high > low else np.ones(len(summary.scores))


def _labels(settings: list[Setting]) -> tuple[list[str], list[str]]:
    """Return a label for each setting, and the names of the hyper-parameters that vary."""
    names: dict[str, list[str]] = {}
    for agent in dict.fromkeys(setting.agent for setting in settings):
        its_own = [setting for setting in settings if setting.agent == agent]
        names[agent] = [name for name in its_own[0].hyper if _varies(name, its_own)]
    every_name = list(dict.fromkeys(name for some in names.values() for name in some))
    as_text = {name: shown([setting.hyper[name] for setting in settings]) for name in every_name}
    short = [
        ", ".join(
            ([setting.agent] if len(names) > 1 or not names[setting.agent] else [])
            + [f"{name}={as_text[name][i]}" for name in names[setting.agent]]
        )
        for i, setting in enumerate(settings)
    ]
    studied = [", ".join(filter(None, (s.study, x))) for s, x in zip(settings, short, strict=True)]
    sourced = [
        f"{x} ({Path(s.source).name or 'runs'})" for s, x in zip(settings, studied, strict=True)
    ]
    placed = [f"{x} ({s.source or 'runs'})" for s, x in zip(settings, studied, strict=True)]
    fitting = [
        labels
        for labels in (short, [s.study for s in settings], studied, sourced, placed)
        if len({(s.env, x) for s, x in zip(settings, labels, strict=True)}) == len(settings)
    ]
    # The first that tells all apart, if it can be one that is short enough to be drawn.
    brief = [labels for labels in fitting if all(0 < len(x) <= _LONGEST_LABEL for x in labels)]
    if brief:
        return brief[0], every_name
    seen: Counter[tuple[str, str]] = Counter()
    keys = []  # equal in two environments, but never twice in one
    for setting, label in zip(settings, (fitting or [placed])[0], strict=True):
        keys.append((label, seen[setting.env, label]))
        seen[setting.env, label] += 1
    numbers = {key: f"#{i}" for i, key in enumerate(dict.fromkeys(keys), start=1)}
    return [numbers[key] for key in keys], every_name


def _varies(name: str, settings: list[Setting]) -> bool:
    values: dict[str, set[Any]] = {}
    for setting in settings:
        values.setdefault(setting.env, set()).add(setting.hyper[name])
    return any(len(some) > 1 for some in values.values())
