"""The band of curve.png: how well an evaluation's mean is known, within what episodes returned."""

import math

import numpy as np
import pytest

from jaxrl_pg.figures import canvas
from jaxrl_pg.running.curve import curve_png, standard_error


def evaluation(returns, iteration=1):
    """Return the row of an evaluation whose episodes had these returns."""
    moments = {"eval/return_mean": np.mean(returns), "eval/return_std": np.std(returns)}
    rest = {"eval/num_episodes": len(returns), "timesteps": 100 * iteration}
    return {"iteration": iteration, **moments, **rest}


def drawn(rows, monkeypatch):
    """Return the axes of a curve."""
    monkeypatch.setattr(canvas, "png", lambda figure: figure)
    (axes,) = curve_png(rows, "title", "ppo").axes
    return axes


def bands(axes):
    return [path.vertices[:, 1] for c in axes.collections for path in c.get_paths()]


@pytest.mark.parametrize("worst", [[9.0], [9.0, 200.0, 499.0], [500.0 - 1e-3]])
def test_the_band_stays_within_the_returns_of_the_episodes(worst, monkeypatch):
    returns = [500.0] * 20 + worst
    assert np.mean(returns) + np.std(returns) > 500  # what no episode of CartPole-v1 can reach
    (band,) = bands(drawn([evaluation(returns), evaluation(returns, 2)], monkeypatch))
    assert np.max(band) <= 500 + 1e-9
    assert np.min(band) >= min(worst)
    assert np.max(band) > np.mean(returns) > np.min(band)


def test_the_standard_error_is_that_of_the_mean_for_any_returns():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        returns = rng.exponential(1 + seed, size=rng.integers(2, 9)) ** 3
        error = standard_error(evaluation(returns))
        np.testing.assert_allclose(error, np.std(returns, ddof=1) / math.sqrt(len(returns)))
        assert np.mean(returns) + error <= np.max(returns) * (1 + 1e-9)
        assert np.mean(returns) - error >= np.min(returns) * (1 - 1e-9)


def test_of_several_seeds_it_is_that_of_the_mean_over_the_seeds():
    of_seeds = {f"eval/return_mean/seed_{i}": x for i, x in enumerate([1.0, 4.0, math.nan, None])}
    row = evaluation([0.0, 100.0]) | of_seeds | {"eval/return_mean/std": 1.5}
    assert standard_error(row) == 1.5  # half of what lies between the two that are known
    assert math.isnan(standard_error(row | {"eval/return_mean/seed_1": None}))


def test_what_is_not_known_has_no_band(monkeypatch):
    unknown = [evaluation([3.0]), {"eval/return_mean": 1.0}]
    unknown += [evaluation([1.0, 2.0]) | {"eval/return_std": std} for std in (None, math.nan)]
    assert all(math.isnan(standard_error(row)) for row in unknown)
    axes = drawn([evaluation([3.0], i) for i in (1, 2, 3)], monkeypatch)
    assert not bands(axes)
    assert axes.get_legend().get_texts()[0].get_text() == "eval"
    axes = drawn([evaluation([1.0, 2.0], i) for i in (1, 2)], monkeypatch)
    assert "standard error" in axes.get_legend().get_texts()[0].get_text()
