"""The figures that are kept: each says what draws it, is small, and is drawn from its rows."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


def kept():
    return [*ROOT.glob("docs/**/*.png"), *EXPERIMENTS.glob("**/*.png")]


def test_each_figure_names_its_command():
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## Figures") : text.index("## The studies")]
    named = {(EXPERIMENTS / place).resolve() for place in re.findall(r"\]\((\S+\.png)\)", table)}
    by_theory = {ROOT / "docs" / "theory" / f"{path.stem}.png" for path in theory_scripts()}
    assert {path.resolve() for path in kept()} == named | by_theory


def theory_scripts():
    return [path for path in (EXPERIMENTS / "theory").glob("*.py") if path.stem != "figures"]


@pytest.mark.parametrize("path", kept(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_figure_is_small(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) <= 90_000


def test_the_scripts_take_colours_from_the_table():
    for path in EXPERIMENTS.glob("**/*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\"tab:|\"C\d\"|\"#[0-9a-f]{6}\"|get_cmap|pyplot", text), path


def test_a_recorded_figure_is_drawn_again(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    with pytest.MonkeyPatch.context() as patch:
        import matplotlib as mpl

        for name, value in mpl.rcParams.items():
            patch.setitem(mpl.rcParams, name, value)
        draw = importlib.import_module("draw")
        draw.draw_craftax(tmp_path / "craftax.png")
    # Another version of matplotlib places a pixel otherwise; another curve changes more.
    pixels = [
        np.asarray(Image.open(folder / "craftax.png").convert("RGB"), dtype=float)
        for folder in (tmp_path, EXPERIMENTS)
    ]
    assert np.abs(pixels[0] - pixels[1]).mean() < 3
    assert (tmp_path / "craftax.pdf").read_bytes().startswith(b"%PDF")
    assert "craftax.png (" in capsys.readouterr().out
