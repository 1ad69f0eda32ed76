"""Curves of `train`'s metrics, and a report that a notebook shows."""

import html

import numpy as np
import pytest

from jaxrl_pg import report
from jaxrl_pg.figures import looks
from jaxrl_pg.report import summary
from jaxrl_pg.sweeps import results

NAN = np.nan
PNG = b"\x89PNG\r\n"


def metrics(returns, kind="train"):
    """Return metrics of as many iterations as the last axis has, 10 steps each."""
    returns = np.asarray(returns)
    steps = np.broadcast_to(10 * np.arange(1, returns.shape[-1] + 1), returns.shape)
    return {"timesteps": steps, f"{kind}/return_mean": returns}


def axes_of(curves):
    (axes,) = curves._figure().axes
    return axes


def test_one_training_is_a_line_without_an_interval():
    curves = report.Curves(metrics([NAN, 2.0, NAN, 4.0]), title="Pole")
    (line,) = axes_of(curves).lines
    np.testing.assert_array_equal(line.get_xdata(), [20, 40])  # where an episode had ended
    np.testing.assert_array_equal(line.get_ydata(), [2, 4])
    assert all(
        np.isnan(path.vertices).any() for c in axes_of(curves).collections for path in c.get_paths()
    )
    assert repr(curves) == "<Curves 'Pole': return 4 (1 seeds)>"
    assert curves._repr_png_().startswith(PNG)
    assert curves.pdf().startswith(b"%PDF")


def test_members_are_pooled_with_an_interval(monkeypatch):
    monkeypatch.setattr(summary, "_NUM_RESAMPLES", 50)
    curves = report.Curves(
        {"ppo": metrics([[1, 2.0], [3, 4], [5, 6], [7, 80]]), "mine": metrics([[0.0, 1]])}
    )
    first, second = axes_of(curves).lines
    np.testing.assert_array_equal(first.get_ydata(), [4, 5])  # the middle two of four: 3 5 and 4 6
    assert first.get_color() == looks.METHODS["ppo"].colour
    assert second.get_color() != first.get_color()
    (band, *_) = (c for c in axes_of(curves).collections if len(c.get_paths()))
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert 1 <= low < 4
    assert 5 < high <= 80
    assert len(axes_of(curves).figure.legends) == 1


def test_evaluations_come_before_training_episodes():
    both = metrics([1.0, 2.0, 3.0]) | {"eval/return_mean": np.ones(1), "eval/timesteps": np.ones(1)}
    (line,) = axes_of(report.Curves(both)).lines
    np.testing.assert_array_equal(line.get_ydata(), [1])
    assert len(axes_of(report.Curves(metrics(np.ones(1000)))).lines[0].get_xdata()) == 200
    for num in (202, 1000):
        curves = report.Curves(metrics(np.arange(1.0, num + 1)))
        (line,) = axes_of(curves).lines
        assert (line.get_xdata()[-1], len(line.get_xdata()) <= 200) == (10 * num, True)
        assert f"return {num} " in repr(curves)
    nothing = report.Curves(metrics([NAN, NAN]))
    assert nothing._repr_png_().startswith(PNG)


def test_what_holds_no_return_is_refused():
    with pytest.raises(ValueError, match="no return in the metrics"):
        report.Curves({"loss": np.zeros(3)})
    with pytest.raises(ValueError, match="no metrics given"):
        report.Curves({})


def test_a_report_is_shown_and_nothing_is_written(tmp_path):
    names = {"id": "a", "study": "", "agent": "ppo", "env": "<Pole>", "seed": 0, "status": "ok"}
    measured = {"return_mean": 3.0, "return_std": 0.0, "length_mean": 1.0, "num_episodes": 8}
    results.write(tmp_path / "results.csv", [{**names, **measured, "timesteps": 10}])
    shown = report.show(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    frame = shown._repr_html_()
    inside = html.unescape(frame.partition('srcdoc="')[2].partition('" style')[0])
    assert inside == shown.page
    assert "&lt;Pole&gt;" in inside
    assert repr(shown) == f"<report about {tmp_path.name}>"
