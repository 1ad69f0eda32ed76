"""Choose settings from the results of a tuning of PPO and the update, and write what follows.

    .venv/bin/python experiments/analytical_vs_ppo/choose.py runs/analytical_vs_ppo_tuning
    .venv/bin/python experiments/analytical_vs_ppo/choose.py runs/minatar_tuning

Each agent gets, in each environment, the setting with the highest return averaged over all
evaluations and seeds of the tuning, so that learning early counts too. The experiment that this
script writes has other seeds.
"""

import sys
import tomllib
from pathlib import Path

import numpy as np

from jaxrl_pg.sweeps import results

EXPERIMENTS = Path(__file__).parents[1]
KNOBS = {"ppo": "clip_eps", "analytical": "kl_target"}
VERSUS = """\
# The analytical update or PPO, tuned alike?
#
# Each with the setting that `analytical_vs_ppo_tuning` found best for it in each environment, on
# seeds that the tuning has not seen. Written by analytical_vs_ppo/choose.py.
num_evals = 10
seeds = {seeds}
"""
MINATAR = """\
# What do PPO and the analytical update reach on MinAtar in ten million steps?
#
# With the setting that `minatar_tuning` found best for each game in one million, on seeds that the
# tuning has not seen. Written by analytical_vs_ppo/choose.py.
num_evals = 10
num_eval_episodes = 64
seeds = {seeds}
"""
# What a tuning is followed by: a header, its seeds, and for how many steps, if not as many.
STUDIES: dict[str, tuple[str, list[int], int | None]] = {
    "analytical_vs_ppo": (VERSUS, list(range(100, 120)), None),
    "minatar": (MINATAR, list(range(100, 105)), 10_000_000),
}


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


def blocks(
    tuning: Path, chosen: dict[tuple[str, str], results.Setting], steps: int | None
) -> list[str]:
    """Return the lines of the studies: the tuning's, with the grid replaced by what was best."""
    lines = []
    for study in tomllib.loads(tuning.read_text())["study"]:
        envs = study["env"] if isinstance(study["env"], list) else [study["env"]]
        for env in envs:
            hyper = chosen[study["agent"], env].hyper
            fixed = study.get("fixed", {}) | {name: hyper[name] for name in study["grid"]}
            lines += ["", "[[study]]", f'name = "{study["name"]}"', f'agent = "{study["agent"]}"']
            lines += [f'env = "{env}"', f"total_timesteps = {steps or study['total_timesteps']:_}"]
            lines += ["[study.fixed]", *(f"{name} = {written(x)}" for name, x in fixed.items())]
    return lines


def main() -> None:
    """Choose, and write."""
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/analytical_vs_ppo_tuning")
    name = runs.name.removesuffix("_tuning")
    header, seeds, steps = STUDIES[name]
    chosen = best(results.settings(results.read(runs / "results.csv")))
    for (agent, env), setting in chosen.items():
        knob = KNOBS[agent]
        rate = setting.hyper["learning_rate"]
        print(f"{env} {agent}: learning_rate={rate:g}, {knob}={setting.hyper[knob]:g}")
    lines = blocks(EXPERIMENTS / f"{runs.name}.toml", chosen, steps)[1:]
    path = EXPERIMENTS / f"{name}.toml"
    path.write_text("\n".join([header.format(seeds=seeds), *lines, ""]))
    print(f"wrote {path.name}")


if __name__ == "__main__":
    main()
