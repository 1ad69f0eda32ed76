"""Looks of methods: told apart by anyone, the same everywhere; and the canvas's bytes."""

import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg.figures import canvas, looks

# Machado, Oliveira and Fernandes 2009, "A physiologically-based model for simulation of color
# vision deficiency", severity 1: what a colour is seen as, in linear RGB.
DEFICIENCIES = {
    "none": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour):
    """Return a colour's linear RGB."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIE L*a*b* of linear sRGB, white D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.clip(to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089]), 0, None)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_colours_can_be_told_apart(kind):
    seen = [lab(DEFICIENCIES[kind] @ linear(colour)) for colour in looks.COLOURS]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    # A difference of 2.3 is just noticeable; tab10's closest pair is 2.7 apart for deuteranopes.
    assert min(apart) > 8


def contrast(colour, other):
    """Return the contrast ratio of WCAG 2."""
    bright, dark = sorted(
        (linear(x) @ [0.2126, 0.7152, 0.0722] + 0.05 for x in (colour, other)), reverse=True
    )
    return bright / dark


def test_ink_is_legible_on_paper_and_in_the_dark():
    text = canvas.svg(drawn())
    assert f"--c0:{looks.INK}" in text
    assert contrast(looks.INK, "#ffffff") > 7
    assert contrast("#e6e9ed", "#15181c") > 7
    assert all(contrast(colour, "#ffffff") > 2 for colour in looks.COLOURS)
    assert all(contrast(colour, "#15181c") > 3 for colour in looks.COLOURS if colour != looks.INK)


def test_every_agent_has_a_look_of_its_own():
    assert set(jaxrl_pg.AGENT_NAMES) <= set(looks.METHODS)
    drawn_as = [(look.colour, look.dash) for look in looks.METHODS.values()]
    marked = [(look.colour, look.marker) for look in looks.METHODS.values()]
    assert len(set(drawn_as)) == len(set(marked)) == len(looks.METHODS)


def test_a_method_looks_the_same_in_every_figure():
    assert looks.look_of("V-MPO") == looks.METHODS["v_mpo"]
    assert looks.look_of("mine") == looks.look_of("mine")
    for others in ([], ["sac"], ["mine", "another", "sac"]):
        found = looks.assign({name: name for name in [*others, "ppo"]})
        assert found["ppo"] == looks.METHODS["ppo"]
    # One that is not ours keeps its colour too, and gives way to those that have one by name.
    assert looks.assign({"x": "mine", "y": "sac"})["x"] == looks.look_of("mine")
    rival = next(name for name in looks.METHODS if looks.look_of(name).colour == PINK)
    assert looks.assign({"x": "mine", "y": rival})["x"].colour != PINK


PINK = looks.look_of("mine").colour


@pytest.mark.parametrize(
    "methods",
    [
        {str(i): "ppo" for i in range(24)},
        {f"{name} {i}": name for name in ("ppo", "sac", "mine") for i in range(8)},
        {name: name for name in [*looks.METHODS, "mine", "yours"]},
    ],
)
def test_no_two_lines_of_a_figure_look_alike(methods):
    found = looks.assign(methods)
    assert list(found) == list(methods)
    assert len(set(found.values())) == len(methods)
    assert looks.assign(methods) == found


def test_a_few_lines_of_a_method_share_its_colour_and_many_do_not():
    few = looks.assign({"a": "ppo", "b": "ppo", "c": "ppo", "d": "sac"})
    assert {few[x].colour for x in "abc"} == {looks.METHODS["ppo"].colour}
    assert len({few[x].dash for x in "abc"}) == 3
    many = looks.assign({**dict.fromkeys("abcd", "ppo"), "e": "sac"})
    assert len({many[x].colour for x in "abcde"}) == 5
    alone = looks.assign(dict.fromkeys("abc", "ppo"))
    assert len({look.colour for look in alone.values()}) == 3


def drawn(num=1):
    with canvas.style():
        figure = canvas.new(columns=num)
        for i in range(num):
            axes = figure.add_subplot(1, num, i + 1)
            for name in ("ppo", "sac"):
                axes.plot([0, 1], [0, 1], label=name, **looks.look_of(name).line())
            axes.set_title(f"panel {i}")
        canvas.add_legend(figure)
    return figure


def test_equal_figures_are_equal_bytes():
    first, second = drawn(), drawn()
    assert canvas.pdf(first) == canvas.pdf(second)
    assert canvas.svg(first) == canvas.svg(second)
    assert canvas.png(first) == canvas.png(second)


def test_each_panel_is_a_picture_of_its_own():
    figure = drawn(2)
    before = canvas.png(figure)
    first, second = canvas.panels(figure)
    assert first != second
    sizes = [text[: text.index(">")].split("viewBox")[1] for text in (first, second)]
    assert sizes[0] == sizes[1]
    assert len(first) < 0.8 * len(canvas.svg(figure))
    assert all(axes.get_visible() for axes in figure.axes)
    assert before


def test_the_style_does_not_leak():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with canvas.style():
        assert mpl.rcParams["axes.grid"]
    assert dict(mpl.rcParams) == before
