"""What a notebook shows of a run: one line while it trains, a table and a curve at the end."""

import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_pg import ppo
from jaxrl_pg.running import notebook
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.running.result import Result


class Handle:
    """What IPython returns for a picture that can be replaced."""

    def __init__(self, bundle):
        self.shown = [bundle]

    def update(self, bundle, raw):
        assert raw
        self.shown.append(bundle)


@pytest.fixture
def cell(monkeypatch):
    """Pretend to be a kernel, and collect what a cell shows."""
    handles = []

    def display(bundle, raw, display_id):
        assert raw
        assert display_id
        handles.append(Handle(bundle))
        return handles[-1]

    shell = types.SimpleNamespace(kernel=object())
    fake = types.SimpleNamespace(
        get_ipython=lambda: shell, display=types.SimpleNamespace(display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    return handles


def test_a_cell_has_one_line_that_is_replaced(cell, capsys):
    with Progress(1000) as progress:
        progress.update(500, {"train/return_mean": 2.0, "train/num_episodes": 1})
        progress.message("saved")
        progress.update(1000, {"eval/return_mean": 3.0})
    (handle,) = cell
    lines = [bundle["text/plain"] for bundle in handle.shown]
    assert [line.split()[0] for line in lines] == ["0%", "50%", "100%", "100%"]
    assert lines[-1].endswith("train 2  eval 3")
    assert '<progress value="0.5000"' in handle.shown[1]["text/html"]
    assert capsys.readouterr().err == "saved\n"


def test_a_quiet_run_and_a_script_show_no_cell(cell, monkeypatch, capsys):
    with Progress(10, quiet=True) as progress:
        progress.update(10, {})
    shell = types.SimpleNamespace()  # IPython on a terminal has no kernel
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    with Progress(10) as progress:
        progress.update(10, {})
    monkeypatch.delitem(sys.modules, "IPython")
    assert not notebook.in_notebook()
    assert cell == []
    assert capsys.readouterr().err.startswith("100%")


def test_the_line_is_not_redrawn_all_the_time(cell, monkeypatch):
    monkeypatch.setattr(notebook, "_SECONDS", 3600.0)
    with Progress(1000) as progress:
        for steps in range(100):
            progress.update(steps, {})
    (handle,) = cell
    assert len(handle.shown) <= 3


def test_a_result_shows_numbers_and_its_curve(tmp_path):
    metrics = {
        "timesteps": np.array([10, 20]),
        "train/return_mean": np.array([1.0, np.nan]),
        "eval/return_mean": np.array([2.5]),
        "eval/timesteps": np.array([20]),
    }
    result = Result(jnp.zeros(10_000), metrics, ppo.Config(gamma=0.5), tmp_path / "<run>")
    assert repr(result) == (
        f"<ppo.Config(gamma=0.5), steps 20, last evaluation 2.5, training, last iteration 1, "
        f"{tmp_path}/<run>>"
    )
    page = result._repr_html_()
    assert "&lt;run&gt;" in page
    assert "ppo on CartPole-v1" in page
    assert "data:image/png;base64,iVBOR" in page
    assert result._repr_png_().startswith(b"\x89PNG")
    empty = result._replace(metrics={})
    assert empty._repr_png_().startswith(b"\x89PNG")
