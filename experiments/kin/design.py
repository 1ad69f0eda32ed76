"""Write the experiments that compare the analytical update with its kin, tuned alike.

    .venv/bin/python experiments/kin/design.py                            every tuning
    .venv/bin/python experiments/kin/design.py runs/kin_tuning            kin and kin_ablation
    .venv/bin/python experiments/kin/design.py runs/kin_brax_tuning       kin/kin_brax
    .venv/bin/python experiments/kin/design.py runs/kin_replay_tuning     kin/kin_replay

Without a folder it writes the tunings, from the tables below and from the presets. With the folder
of a finished tuning it gives each method, in each environment, the setting with the highest return
averaged over all evaluations and seeds, prints which of them are at an edge of the grid, and writes
the experiments with ten other seeds.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_pg import files
from jaxrl_pg.components import kin
from jaxrl_pg.sweeps import results

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "analytical_vs_ppo"))
from choose import score, written  # noqa: E402

TUNING_SEEDS, SEEDS = list(range(3)), list(range(100, 110))
TUNING_TOP = [f"seeds = {TUNING_SEEDS}", "num_evals = 5", "num_eval_episodes = 32"]
TOP = [f"seeds = {SEEDS}", "num_evals = 10", "num_eval_episodes = 128"]
Fields = dict[str, Any]


class Method(NamedTuple):
    """What is compared.

    Attributes:
        agent: the agent's name.
        fields: what makes it the method.
        knob: the one field that says how far a step goes.
        values: those of the knob that are tried.
    """

    agent: str
    fields: Fields
    knob: str
    values: list[float]


class Task(NamedTuple):
    """An environment, for how long it is learned, and what all methods share there."""

    env: str
    steps: int
    fields: Fields


NORMALISED = {"normalize_obs": True, "normalize_reward": True, "gae_lambda": 0.98}
BOX = {"num_steps": 64, "num_epochs": 10, "gamma": 0.95, "normalize_reward": True}
IMAGES = {"num_steps": 128, "num_minibatches": 8, "activation": "relu", "conv_features": 0}
BRAX = {"num_epochs": 4, "num_minibatches": 8, "normalize_obs": True, "log_std_init": -0.5}
BONUS, NO_BONUS = {"ent_coef": 0.01}, {"ent_coef": 0.0}

TASKS = [
    Task("CartPole-v1", 150_000, BONUS),
    Task("Acrobot-v1", 150_000, BONUS),
    Task("MountainCar-v0", 300_000, NORMALISED | BONUS),
    Task("Pendulum-v1", 300_000, BOX | NO_BONUS),
    Task("MountainCarContinuous-v0", 150_000, NORMALISED | BONUS),
    Task("Catch-bsuite", 100_000, BONUS),
    Task("DeepSea-bsuite", 100_000, BONUS),
    Task("Breakout-MinAtar", 200_000, IMAGES | BONUS),
]
# Apart, since a step of them costs as much as ten of most others.
BRAX_TASKS = [
    Task("brax:inverted_pendulum?backend=generalized", 250_000, BRAX | NO_BONUS),
    Task("brax:reacher?backend=generalized", 250_000, BRAX | NO_BONUS),
]
METHODS = {
    "ppo": Method("ppo", {}, "clip_eps", [0.05, 0.1, 0.2, 0.4, 0.8]),
    "analytical": Method("analytical", {}, "kl_target", [0.03, 0.1, 0.3, 1.0, 3.0]),
    "v_mpo": Method("analytical", kin.V_MPO, "max_kl", [0.001, 0.01, 0.03, 0.1, 1.0]),
    "awr": Method("analytical", kin.AWR, "temperature", [0.1, 0.3, 1.0, 3.0, 10.0]),
    "mdpo": Method("analytical", kin.MDPO, "temperature", [0.1, 0.3, 1.0, 3.0, 10.0]),
}
RATES = [0.0003, 0.001, 0.003, 0.01]

SMALL = {"num_updates": 32, "batch_size": 64, "tau": 0.02}
REPLAY_TASKS = [
    Task("CartPole-v1", 50_000, SMALL),
    Task("Acrobot-v1", 50_000, SMALL),
    Task("Catch-bsuite", 50_000, SMALL),
    Task("Pendulum-v1", 20_000, SMALL),
]
UPDATE = {"policy_period": 200, "ent_coef": 0.01}
REPLAY_METHODS = {
    "sac": Method("sac", {}, "target_entropy_ratio", [0.1, 0.3, 0.5, 0.7]),
    "analytical_replay": Method("analytical_replay", UPDATE, "kl_target", [0.03, 0.1, 0.3, 1.0]),
    "mpo": Method("analytical_replay", UPDATE | kin.MPO, "max_kl", [0.001, 0.01, 0.1, 1.0]),
    "crr": Method("analytical_replay", UPDATE | kin.CRR, "policy_period", [50, 100, 200, 400]),
    "crr_exp": Method(
        "analytical_replay",
        UPDATE | kin.CRR | {"weighting": "clipped"},
        "temperature",
        [0.03, 0.1, 0.3, 1.0],
    ),
}
STUDIES = {
    "kin": (TASKS, METHODS),
    "kin_brax": (BRAX_TASKS, METHODS),
    "kin_replay": (REPLAY_TASKS, REPLAY_METHODS),
}
# What `kin_ablation` changes of the tuned update, one thing at a time.
ABLATIONS: dict[str, Fields] = {
    "as tuned": {},
    "top half": {"weighting": "top_half"},
    "clipped at 20": {"weighting": "clipped"},
    "binary": {"weighting": "binary"},
    "the other projection": {"projection": "reverse", "std_coef": 0.0},
    "learned multipliers": {"trust": "multipliers"},
    "C of one standard deviation": {"step_size": "fixed", "normalize_advantage": True},
    "C annealed from it": {"step_size": "annealed", "normalize_advantage": True},
}
TUNING = """\
# Which learning rate and which step suit the analytical update and each of its kin?
#
# Learning rates by the values of the one field that says how far a step of the method goes, {seeds}
# seeds each; all else is equal. Written by kin/design.py.
"""
CHOSEN = """\
# The analytical update, {other} or one of its kin, tuned alike?
#
# Each with the setting that `{tuning}` found best for it in each environment, on seeds that
# the tuning has not seen. Written by kin/design.py.
"""
ABLATION = """\
# Which choice of its kin makes the analytical update better or worse?
#
# The update as `kin_tuning` tuned it, with one thing changed at a time. Written by kin/design.py.
"""


def toml(value: Any) -> str:
    """Write a value, or a list of them, as TOML."""
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else written(value)


def block(name: str, agent: str, task: Task, fixed: Fields, grid: Fields) -> list[str]:
    """Return the lines of one study."""
    lines = ["", "[[study]]", f'name = "{name}"', f'agent = "{agent}"', f'env = "{task.env}"']
    lines += [f"total_timesteps = {task.steps:_}"]
    fixed = {field: value for field, value in fixed.items() if field not in grid}
    for name, fields in {"fixed": fixed, "grid": grid}.items():
        if fields:
            lines += [f"[study.{name}]", *(f"{x} = {toml(value)}" for x, value in fields.items())]
    return lines


def write(path: Path, header: str, top: list[str], lines: list[str]) -> None:
    """Write an experiment."""
    files.write_atomic(path, "\n".join([header + top[0], *top[1:], *lines, ""]))
    print(f"wrote {path.name}")


def shared(task: Task, method: Method) -> Fields:
    """Return what a method has fixed in an environment: what all share goes before a preset's."""
    return method.fields | task.fields


def write_tuning(name: str) -> None:
    """Write a tuning from the tables."""
    tasks, methods = STUDIES[name]
    lines = [
        line
        for task in tasks
        for key, method in methods.items()
        for line in block(
            key,
            method.agent,
            task,
            shared(task, method),
            {"learning_rate": RATES, method.knob: method.values},
        )
    ]
    header = TUNING.format(seeds=len(TUNING_SEEDS))
    write(FOLDER / f"{name}_tuning.toml", header, TUNING_TOP, lines)


def best(settings: list[results.Setting]) -> dict[tuple[str, str], results.Setting]:
    """Return the best setting of each method and environment."""
    chosen: dict[tuple[str, str], results.Setting] = {}
    for setting in settings:
        key = setting.study, setting.env
        if key not in chosen or score(setting) > score(chosen[key]):
            chosen[key] = setting
    return chosen


def write_study(name: str, chosen: dict[tuple[str, str], results.Setting]) -> None:
    """Write the experiment of what was chosen, and say what is at an edge of its grid."""
    tasks, methods = STUDIES[name]
    lines = []
    for task in tasks:
        for key, method in methods.items():
            hyper = chosen[key, task.env].hyper
            found = {field: hyper[field] for field in ("learning_rate", method.knob)}
            lines += block(key, method.agent, task, shared(task, method) | found, {})
            grids = {"learning_rate": RATES, method.knob: method.values}
            at = [f for f, x in found.items() if x in (min(grids[f]), max(grids[f]))]
            print(f"{task.env} {key}: {found}", f"at an edge: {', '.join(at)}" if at else "")
    other = "SAC" if "sac" in methods else "PPO"
    header = CHOSEN.format(other=other, tuning=f"{name}_tuning")
    folder = FOLDER.parent if name == "kin" else FOLDER
    write(folder / f"{name}.toml", header, TOP, lines)


def write_ablation(chosen: dict[tuple[str, str], results.Setting]) -> None:
    """Write the experiment that changes one thing of the tuned update."""
    lines, method = [], METHODS["analytical"]
    for task in TASKS:
        hyper = chosen["analytical", task.env].hyper
        tuned = {field: hyper[field] for field in ("learning_rate", method.knob)}
        for name, change in ABLATIONS.items():
            fixed = shared(task, method) | tuned | change
            lines += block(name, method.agent, task, fixed, {})
    write(FOLDER.parent / "kin_ablation.toml", ABLATION, TOP, lines)


def main() -> None:
    """Write the tunings, or what follows from one."""
    if len(sys.argv) == 1:
        for name in STUDIES:
            write_tuning(name)
        return
    runs = Path(sys.argv[1])
    name = runs.name.removesuffix("_tuning")
    chosen = best(results.settings(results.read(runs / "results.csv")))
    write_study(name, chosen)
    if name == "kin":
        write_ablation(chosen)


if __name__ == "__main__":
    main()
