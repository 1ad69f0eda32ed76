"""Write the entries of the zoo from recorded studies.

    .venv/bin/python experiments/zoo_entries.py         (`make record` does it, too)

An entry takes its settings from a study's file, and what they reach from the study's results in
`results/`. What is said of its policy, in the table `pretrained`, is `zoo_policies.py`'s. To add an
entry, record a study (`make record RUN=runs/...`) and add a row to `ROWS`.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tables

from jaxrl_pg import files, zoo
from jaxrl_pg.report.summary import Summary
from jaxrl_pg.sweeps.study import studies
from jaxrl_pg.zoo import listing

FOLDER = Path(zoo.__file__).parent
PAGE = tables.FOLDER.parent / "docs" / "how-to" / "zoo.md"
MARKED = re.compile(r"(<!-- zoo -->\n).*?(<!-- end -->)", re.DOTALL)
ENDINGS = {"MinAtar": "minatar", "bsuite": "bsuite"}  # of gymnax's names; others are classic
OURS = ("PositionOnlyCartPole-v1", "TMaze")  # in the folder `memory`


class Row(NamedTuple):
    """Where an entry comes from.

    Attributes:
        study: name of the experiment.
        part: name of the study in its file.
        agent: name of the agent.
        env: name of the environment, in full.
    """

    study: str
    part: str
    agent: str
    env: str


MINATAR = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
VERSUS = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "MountainCarContinuous-v0")
ROWS = [
    *(Row("analytical_vs_ppo", x, x, env) for env in VERSUS for x in ("ppo", "analytical")),
    Row("zoo", "pqn", "pqn", "CartPole-v1"),
    *(
        Row("zoo", "natural_gradient", "natural_gradient", env)
        for env in ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")
    ),
    Row("zoo", "dqn", "dqn", "MountainCar-v0"),
    *(Row("zoo", x, x, "Pendulum-v1") for x in ("sac", "td3")),
    Row("zoo", "sac", "sac", "MountainCarContinuous-v0"),
    Row("analytical_vs_ppo", "ppo", "ppo", "Catch-bsuite"),
    Row("analytical_vs_ppo", "analytical", "analytical", "DeepSea-bsuite"),
    Row("memory", "gru", "ppo", "MemoryChain-bsuite"),
    Row("memory", "gru", "ppo", "TMaze"),
    Row("memory", "gru", "ppo", "PositionOnlyCartPole-v1"),
    *(
        Row("brax_pendulum", x, x, "brax:inverted_pendulum?backend=generalized")
        for x in ("ppo", "sac")
    ),
    Row("brax_locomotion", "on_policy", "ppo", "brax:hopper?backend=spring"),
    Row("brax_locomotion", "sac", "sac", "brax:ant?backend=spring"),
    *(Row("minatar", "ppo", "ppo", f"{game}-MinAtar") for game in MINATAR),
    Row("masks", "2048, mask", "ppo", "pgx:2048"),
    Row("masks", "Snake, mask", "ppo", "jumanji:Snake-v1?num_rows=6&num_cols=6"),
    Row("craftax", "gru", "ppo", "craftax:Craftax-Classic-Symbolic-v1"),
]


def path(row: Row) -> Path:
    """Return the file of an entry."""
    task = row.env.partition("?")[0]
    if ":" in task:
        suite, _, task = task.partition(":")
    elif task in OURS:
        suite = "memory"
    else:
        suite = ENDINGS.get(task.rpartition("-")[2], "classic_control")
    return FOLDER / suite / f"{task}.{row.agent}.toml"


def text(row: Row) -> str:
    """Return what an entry's file holds, its table `pretrained` as it is."""
    known = tomllib.loads(path(row).read_text()) if path(row).exists() else {}
    fixed = _fixed(row)
    entry = {"agent": row.agent, "env": row.env, "total_timesteps": fixed.pop("total_timesteps")}
    parts = [f"# Written by experiments/zoo_entries.py.\n{pairs(entry)}"]
    parts += [f"[settings]\n{pairs(fixed)}"] if fixed else []
    parts += [f"[recorded]\n{pairs(_recorded(row))}"]
    if "pretrained" in known:
        parts += [f"[pretrained]\n{pairs(known['pretrained'])}"]
    return "\n".join(parts)


def page(old: str) -> str:
    """Return the zoo's page with its table made anew."""
    rows = [_cells(entry) for entry in zoo.entries()]
    header = ["suite", "environment", "agent", "steps", "IQM [95% interval]", "worst seed"]
    table = tables.markdown([*header, "seeds", "policy"], rows)
    return MARKED.sub(lambda found: f"{found[1]}{table}\n{found[2]}", old)


def write() -> None:
    """Write every entry, and the table of the zoo's page."""
    for row in ROWS:
        path(row).parent.mkdir(exist_ok=True)
        files.write_atomic(path(row), text(row))
    zoo.entries.cache_clear()
    files.write_atomic(PAGE, page(PAGE.read_text(encoding="utf-8")))


def _fixed(row: Row) -> dict[str, Any]:
    """Return the fields that a study's file sets, the parameters of the environment as a table."""
    table = tomllib.loads((tables.FOLDER / f"{row.study}.toml").read_text(encoding="utf-8"))
    (study,) = (
        study
        for study in studies(row.study, table)
        if study.name == row.part and row.env in study.envs and row.agent in study.agents
    )
    prefix = "env_params."
    plain = {name: x for name, x in study.fixed.items() if not name.startswith(prefix)}
    params = {
        name.removeprefix(prefix): float(x)
        for name, x in study.fixed.items()
        if name.startswith(prefix)
    }
    return plain | ({"env_params": params} if params else {})


def _recorded(row: Row) -> dict[str, Any]:
    """Return what was measured."""
    study = tables.recorded(row.study)
    one: Summary = study.find(row.env, study=row.part, agent=row.agent)
    ends = [float(x) for x in one.iqm[1:] if np.isfinite(x)]
    told = study.facts
    return {
        "study": row.study if row.part == row.agent else f"{row.study}, {row.part}",
        "command": told["command"],
        "timesteps": int(one.setting.timesteps[-1]),
        "iqm": _short(one.iqm.value),
        **({"interval": [_short(x) for x in ends]} if ends else {}),
        "worst": _short(one.scores.min()),
        "best": _short(one.scores.max()),
        "num_eval_episodes": told["num_eval_episodes"],
        "seeds": [int(seed) for seed in one.setting.seeds],
        "seconds": told["seconds"],
        "num_runs": told["num_runs"],
        "device": told["device"],
        "versions": told["versions"],
    }


def _cells(entry: zoo.Entry) -> list[str]:
    recorded = entry.recorded
    return [
        entry.suite,
        f"`{entry.env}`{_parameters(entry)}",
        f"`{entry.agent}`",
        f"{recorded['timesteps']:,}",
        listing.score(entry),
        listing.fixed(entry, recorded["worst"]),
        str(len(recorded["seeds"])),
        f"`{entry.policy}`" if entry.pretrained is not None else "",
    ]


def _parameters(entry: zoo.Entry) -> str:
    given = entry.settings.get("env_params", {}).items()
    return f" ({', '.join(f'{name}={value:g}' for name, value in given)})" if given else ""


def _short(number: float) -> float:
    """Round to six digits, which files of any machine have alike."""
    return float(f"{number:.6g}")


def pairs(table: dict[str, Any]) -> str:
    """Write the lines of a table."""
    return "".join(f"{name} = {toml(value)}\n" for name, value in table.items())


def toml(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dict):
        inner = ", ".join(f"{name} = {toml(x)}" for name, x in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)


if __name__ == "__main__":
    write()
