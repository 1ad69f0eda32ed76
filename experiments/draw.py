"""Draw the figures that stand on recorded results, from the rows in `results/`.

    .venv/bin/python experiments/draw.py [study ...]

Without a name every figure is drawn that is listed in `FIGURES`. Each takes seconds; nothing is
trained.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import kin_tables
import numpy as np
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
    panels: dict[str, Sequence[Summary]],
    styles: axes.Styles,
    path: Path,
    columns: int = 2,
    size: tuple[float, float] = canvas.PANEL,
) -> None:
    """Draw learning curves, a set of axes for each title, with one legend."""
    columns = min(columns, len(panels))
    size = (6.4, 3.8) if len(panels) == 1 else size
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


def draw_classic(path: Path) -> None:
    """Draw the curves of `agents_classic`: beside each task's long runs those of fewer steps."""
    study, panels = tables.recorded("agents_classic"), {}
    for env, some in study.by_env.items():
        longest = max(one.setting.timesteps[-1] for one in some)
        drawn = [one._replace(label=one.setting.agent) for one in some]
        for is_long in (True, False):
            part = [x for x in drawn if (2 * x.setting.timesteps[-1] > longest) == is_long]
            panels[env if is_long else f"{env}, fewer steps"] = part
    agents = sorted({one.label for some in panels.values() for one in some})
    looked = looks.assign({agent: agent for agent in agents})
    draw_curves(panels, looked, path, size=(canvas.PANEL[0], 2.5))


def draw_kin(name: str, path: Path, columns: int) -> None:
    """Draw the curves of `kin` or `kin_replay`: the update and its kin, each as tuned."""
    study = tables.recorded(name)
    panels, methods = {}, {}
    for env, some in study.by_env.items():
        panels[env] = [one._replace(label=kin_tables.KIN[one.setting.study]) for one in some]
        methods |= {kin_tables.KIN[one.setting.study]: one.setting.study for one in some}
    # Both weights of CRR are lines of one method.
    methods = {label: method.removesuffix("_exp") for label, method in methods.items()}
    draw_curves(panels, looks.assign(methods), path, columns)


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


def draw_knobs(path: Path) -> None:
    """Draw the mean return over training against each agent's one knob, from `kin_tuning`.

    Lines are means over the learning rates, bands go from the worst rate to the best. Values are
    numbered: `clip_eps` 0.05, 0.1, 0.2, 0.4, 0.8; `kl_target` 0.03, 0.1, 0.3, 1, 3.
    """
    study = tables.recorded("kin_tuning")
    figure, places = pictures.new_figure(4, 2, 3.2, 2.6)
    for place, env in zip(places, study.by_env, strict=True):
        for agent, knob in tables.KNOBS.items():
            look, scores = looks.look_of(agent), {}
            for one in study.by_env[env]:
                if one.setting.study == agent:
                    mean = float(one.setting.returns.mean())
                    scores.setdefault(one.setting.hyper[knob], []).append(mean)
            by_value = [scores[value] for value in sorted(scores)]
            where = np.arange(len(by_value))
            place.plot(where, np.mean(by_value, axis=1), label=agent, **look.line())
            low, high = np.min(by_value, axis=1), np.max(by_value, axis=1)
            place.fill_between(where, low, high, color=look.colour, alpha=0.2, lw=0)
        place.set_title(env)
        place.set_xticks(where, [f"{i + 1}." for i in where])
    figure.supylabel("mean return over training")
    canvas.add_legend(figure)
    pictures.save(figure, path)


FIGURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "agents_classic": ("agents_classic.png", draw_classic),
    "analytical_vs_ppo": (
        "analytical_vs_ppo/curves.png",
        lambda path: draw_agents("analytical_vs_ppo", path),
    ),
    "brax_locomotion": (
        "brax_locomotion.png",
        lambda path: draw_agents("brax_locomotion", path),
    ),
    "craftax": ("craftax.png", draw_craftax),
    "kin": ("kin/curves.png", lambda path: draw_kin("kin", path, columns=3)),
    "kin_replay": ("kin/replay.png", lambda path: draw_kin("kin_replay", path, columns=2)),
    "kin_tuning": ("analytical_vs_ppo/sensitivity.png", draw_knobs),
    "minatar": ("minatar.png", lambda path: draw_agents("minatar", path)),
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
