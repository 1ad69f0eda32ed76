"""The recorded results of a study, and words for them that tables share.

`results/<study>.csv.gz` is the `results.csv` of a study, and `results/<study>.json` says with what
it was run.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_pg.report import summary, tables
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.report.summary import Summary
from jaxrl_pg.sweeps import results

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"


class Study(NamedTuple):
    """The recorded results of a study.

    Attributes:
        name: name of the experiment.
        facts: with what it was run.
        by_env: each environment's settings, the highest IQM first.
        in_order: all settings, in the order of the rows.
    """

    name: str
    facts: dict[str, Any]
    by_env: dict[str, list[Summary]]
    in_order: list[Summary]

    def digits(self, env: str) -> int:
        """Return the digits after the point of an environment's returns."""
        return tables.decimals([one.scores for one in self.by_env[env]])

    def find(self, env: str, **names: Any) -> Summary:
        """Return the one setting with this study, agent or hyper-parameters."""
        found = [
            one for one in self.by_env[env] if all(_value(one, k) == v for k, v in names.items())
        ]
        if len(found) != 1:
            raise ValueError(f"{self.name} has {len(found)} settings of {env} with {names}")
        return found[0]

    def score(self, env: str, **names: Any) -> str:
        """Return the IQM of one setting, with its interval."""
        return tables.estimate(self.find(env, **names).iqm, self.digits(env))


@functools.cache
def recorded(name: str) -> Study:
    """Read the recorded results of a study."""
    table = results.read(RESULTS / f"{name}.csv.gz")
    facts = json.loads((RESULTS / f"{name}.json").read_text())
    by_env = summary.summarise(table, []).by_env
    rank = {_names(setting): i for i, setting in enumerate(results.settings(table))}
    every = [one for some in by_env.values() for one in some]
    return Study(name, facts, by_env, sorted(every, key=lambda one: rank[_names(one.setting)]))


def experiment_file(name: str) -> Path:
    """Return the file of an experiment, which may be in a folder of its study.

    Raises:
        ValueError: if there is none of that name, or several.
    """
    found = sorted(FOLDER.rglob(f"{name}.toml"))
    if len(found) != 1:
        raise ValueError(f"experiments/ has {len(found)} files {name}.toml: one is needed")
    return found[0]


def sweep_name(name: str) -> str:
    """Return what `jaxrl-pg sweep` calls an experiment: its name, or where it lies in a folder."""
    path = experiment_file(name)
    return name if path.parent == FOLDER else f"experiments/{path.relative_to(FOLDER)}"


def _names(setting: results.Setting) -> str:
    """What tells a setting of a study from the others."""
    return repr((setting.study, setting.agent, setting.env, setting.hyper))


def _value(one: Summary, name: str) -> Any:
    return getattr(one.setting, name) if name in ("study", "agent") else one.setting.hyper.get(name)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def chance(first: Summary, second: Summary) -> str:
    """Write how likely a seed of the first returns more; bold where the interval is without 1/2."""
    return bold_unless_half(summary.improvement([first.scores], [second.scores]))


def bold_unless_half(interval: Interval) -> str:
    """Write a probability; bold where its interval is without 1/2."""
    text = tables.estimate(interval, 2)
    return text if holds_half(interval) else f"**{text}**"


def holds_half(interval: Interval) -> bool:
    """Return whether two settings cannot be told apart: the interval holds 1/2."""
    return bool(interval.low <= 0.5 <= interval.high)


def short(number: float) -> str:
    """Write a hyper-parameter."""
    return f"{number:g}"
