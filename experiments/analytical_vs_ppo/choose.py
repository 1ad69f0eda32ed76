"""Choose settings from the results of `analytical_vs_ppo_tuning`, and write `analytical_vs_ppo`.

Each agent gets, in each environment, the setting with the highest return averaged over all
evaluations and seeds of the tuning, so that learning early counts too. The experiment that this
script writes has twenty other seeds. `sensitivity.png` shows the effect of each agent's one knob.

    .venv/bin/python experiments/analytical_vs_ppo/choose.py [runs/analytical_vs_ppo_tuning]
"""

import sys
import tomllib
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
import pictures

from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.sweeps import results

FOLDER = Path(__file__).parent
TUNING = FOLDER.parent / "analytical_vs_ppo_tuning.toml"
CHOSEN = FOLDER.parent / "analytical_vs_ppo.toml"
KNOBS = {"ppo": "clip_eps", "analytical": "kl_target"}
HEADER = """\
# The analytical update or PPO, tuned alike?
#
# Each with the setting that `analytical_vs_ppo_tuning` found best for it in each environment, on
# seeds that the tuning has not seen. Written by analytical_vs_ppo/choose.py.
num_evals = 10
seeds = {seeds}
"""


def score(setting: results.Setting) -> float:
    """Return the mean return of all evaluations and seeds; minus infinity if a seed diverged."""
    return -np.inf if setting.diverged.any() else float(setting.returns.mean())


def best(settings: list[results.Setting]) -> dict[tuple[str, str], results.Setting]:
    """Return the best setting of each agent and environment."""
    chosen: dict[tuple[str, str], results.Setting] = {}
    for setting in settings:
        key = setting.agent, setting.env
        if key not in chosen or score(setting) > score(chosen[key]):
            chosen[key] = setting
    return chosen


def written(value: object) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def blocks(chosen: dict[tuple[str, str], results.Setting]) -> list[str]:
    """Return the lines of the studies: the tuning's, with the grid replaced by what was best."""
    lines = []
    for study in tomllib.loads(TUNING.read_text())["study"]:
        envs = study["env"] if isinstance(study["env"], list) else [study["env"]]
        for env in envs:
            hyper = chosen[study["agent"], env].hyper
            fixed = study.get("fixed", {}) | {name: hyper[name] for name in study["grid"]}
            lines += ["", "[[study]]", f'name = "{study["name"]}"', f'agent = "{study["agent"]}"']
            lines += [f'env = "{env}"', f"total_timesteps = {study['total_timesteps']:_}"]
            lines += ["[study.fixed]", *(f"{name} = {written(x)}" for name, x in fixed.items())]
    return lines


def draw(settings: list[results.Setting]) -> None:
    """Draw the scores of each value of a knob: mean, worst and best over learning rates."""
    envs = list(dict.fromkeys(setting.env for setting in settings))
    figure, axes = pictures.new_figure(2, 4)
    for axis, env in zip(axes, envs, strict=True):
        for agent in KNOBS:
            look = looks.look_of(agent)
            its_own = [s for s in settings if s.env == env and s.agent == agent]
            values = sorted({s.hyper[KNOBS[agent]] for s in its_own})
            scores = [[score(s) for s in its_own if s.hyper[KNOBS[agent]] == v] for v in values]
            places = np.arange(len(values))
            axis.plot(places, np.mean(scores, axis=1), label=agent, **look.line())
            low, high = np.min(scores, axis=1), np.max(scores, axis=1)
            axis.fill_between(places, low, high, color=look.colour, alpha=0.2, lw=0)
        axis.set_title(env)
        axis.set_xticks(places, [f"{i + 1}." for i in places])
    figure.supxlabel("value of the knob: clip_eps 0.05, 0.1, 0.2, 0.4; kl_target 0.03, 0.1, 0.3, 1")
    figure.supylabel("mean return over training")
    canvas.add_legend(figure)
    pictures.save(figure, FOLDER / "sensitivity.png")


def main() -> None:
    """Choose, write, draw."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/analytical_vs_ppo_tuning")
    settings = results.settings(results.read(runs / "results.csv"))
    chosen = best(settings)
    for (agent, env), setting in chosen.items():
        knob = KNOBS[agent]
        rate = setting.hyper["learning_rate"]
        print(f"{env} {agent}: learning_rate={rate:g}, {knob}={setting.hyper[knob]:g}")
    CHOSEN.write_text(
        "\n".join([HEADER.format(seeds=list(range(100, 120))), *blocks(chosen)[1:], ""])
    )
    draw(settings)
    print(f"wrote {CHOSEN.name} and {FOLDER.name}/sensitivity.png")


if __name__ == "__main__":
    main()
