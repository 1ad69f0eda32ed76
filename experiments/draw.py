"""Draw the figures that stand on recorded results, from the rows in `results/`.

    .venv/bin/python experiments/draw.py [study ...]

Without a name every figure is drawn that is listed in `FIGURES`. Each takes seconds; nothing is
trained.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pictures
import tables

from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.report import axes
from jaxrl_pg.report.summary import Summary

RUNGS = {
    "raw": looks.Look(looks.INK, looks.SOLID, "X"),
    "causality": looks.Look(looks.SKY, looks.DOTTED, "v"),
    "discount": looks.Look(looks.ORANGE, looks.DASH_DOTTED, "P"),
    "baseline": looks.METHODS["reinforce"],
    "critic, same rollouts": looks.Look(looks.GREEN, looks.DASHED, "<"),
    "actor-critic": looks.METHODS["actor_critic"],
    "ppo": looks.METHODS["ppo"],
}


def draw_curves(
    panels: dict[str, Sequence[Summary]], styles: axes.Styles, path: Path, columns: int = 2
) -> None:
    """Draw learning curves, a set of axes for each title, with one legend."""
    columns = min(columns, len(panels))
    size = (6.4, 3.8) if len(panels) == 1 else canvas.PANEL
    figure, places = pictures.new_figure(columns, -(-len(panels) // columns), *size)
    for place, (title, drawn) in zip(places, panels.items(), strict=False):
        axes.draw_curves(drawn, title, styles, place)
    for place in places[len(panels) :]:
        place.remove()
    canvas.add_legend(figure)
    pictures.save(figure, path)


def draw_ladder(path: Path) -> None:
    """Draw the curves of `pg_ladder`: rewards as they are beside normalised ones."""
    study, panels = tables.recorded("pg_ladder"), {}
    for env in study.by_env:
        for switch, what in ((False, "rewards as they are"), (True, "normalised rewards")):
            panels[f"{env}, {what}"] = [
                study.find(env, study=rung, normalize_reward=switch)._replace(label=rung)
                for rung in RUNGS
            ]
    draw_curves(panels, RUNGS, path)


def draw_agents(name: str, path: Path) -> None:
    """Draw the curves of a study of some agents with one setting each, by environment."""
    study, panels = tables.recorded(name), {}
    for env, some in study.by_env.items():
        shown = env.removeprefix("brax:").partition("?")[0]
        panels[shown] = [one._replace(label=one.setting.agent) for one in some]
    agents = sorted({one.label for some in panels.values() for one in some})
    draw_curves(panels, looks.assign({agent: agent for agent in agents}), path)


def draw_craftax(path: Path) -> None:
    """Draw the curves of `craftax`: one seed with a memory, and one without."""
    (some,) = tables.recorded("craftax").by_env.values()
    drawn = [one._replace(label=one.setting.study) for one in some]
    styles = looks.assign({one.label: one.setting.agent for one in drawn})
    draw_curves({"Craftax-Classic, one seed each": drawn}, styles, path)


def draw_learning_rates(path: Path) -> None:
    """Draw the final returns of `ppo_learning_rate` against each of its two hyper-parameters."""
    study = tables.recorded("ppo_learning_rate")
    figure, places = pictures.new_figure(2, 2)
    drawn = [(env, name) for name in ("learning_rate", "num_steps") for env in study.by_env]
    for place, (env, name) in zip(places, drawn, strict=True):
        axes.draw_sensitivity(study.by_env[env], env, name, place)
    pictures.save(figure, path)


FIGURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "analytical_vs_ppo": (
        "analytical_vs_ppo/curves.png",
        lambda path: draw_agents("analytical_vs_ppo", path),
    ),
    "brax_locomotion": (
        "brax_locomotion.png",
        lambda path: draw_agents("brax_locomotion", path),
    ),
    "craftax": ("craftax.png", draw_craftax),
    "pg_ladder": ("pg_ladder.png", draw_ladder),
    "ppo_learning_rate": ("ppo_learning_rate.png", draw_learning_rates),
}
"""a study's figure, and what draws it"""


def draw(name: str) -> None:
    """Draw the figure of a study, if it has one."""
    if name in FIGURES:
        place, function = FIGURES[name]
        function(tables.FOLDER / place)


if __name__ == "__main__":
    for each in sys.argv[1:] or FIGURES:
        draw(each)
