"""The recorded tables of the analytical update beside its kin (`kin/README.md`)."""

import tomllib
from collections.abc import Sequence

import numpy as np
from recorded import (
    Study,
    bold_unless_half,
    chance,
    experiment_file,
    markdown,
    short,
)

from jaxrl_pg.report import summary
from jaxrl_pg.report.summary import Summary
from jaxrl_pg.report.tables import fixed

KIN = {
    "ppo": "PPO",
    "analytical": "the update",
    "v_mpo": "V-MPO",
    "awr": "AWR",
    "mdpo": "MDPO",
    "sac": "SAC",
    "analytical_replay": "the update from a replay",
    "mpo": "MPO",
    "crr": "CRR, 1[A > 0]",
    "crr_exp": "CRR, exp(A / C)",
}
UPDATES = ("analytical", "analytical_replay")
AS_TUNED = "as tuned"
TOGETHER = "all together"


def scores(study: Study) -> str:
    """Give each method in each environment."""
    methods = _names(study)
    rows = [
        [
            _task(env),
            f"{some[0].setting.timesteps[-1]:,}",
            *(study.score(env, study=method) for method in methods),
        ]
        for env, some in study.by_env.items()
    ]
    return markdown(["environment", "steps", *(KIN[name] for name in methods)], rows)


def chances(study: Study) -> str:
    """Give how likely a seed of the update returns more than one of each other method."""
    methods = _names(study)
    (update,) = (name for name in methods if name in UPDATES)
    others = [name for name in methods if name != update]
    header = ["P(the update above ...)", *(KIN[name] for name in others)]
    return markdown(header, _compared(study, [(update, other) for other in others]))


def settings(study: Study) -> str:
    """Give the settings that the tuning chose; those at an edge of its grid are marked."""
    tuning = tomllib.loads(experiment_file(f"{study.name}_tuning").read_text())
    grids = {(block["name"], block["env"]): block["grid"] for block in tuning["study"]}
    methods = _names(study)
    rows = []
    for env in study.by_env:
        cells = [_task(env)]
        for method in methods:
            hyper, found = study.find(env, study=method).setting.hyper, []
            for field, values in grids[method, env].items():
                at_edge = hyper[field] in (min(values), max(values))
                found.append(short(hyper[field]) + (" **edge**" if at_edge else ""))
            cells.append(", ".join(found))
        rows.append(cells)
    knobs = {name: list(grids[name, env])[1] for name in methods}
    header = [f"{KIN[name]}: learning_rate, {knobs[name]}" for name in methods]
    return markdown(["environment", *header], rows)


def over_grid(study: Study) -> str:
    """Give the score of each method's best setting, and the median of all settings of its grid.

    The score is the return averaged over all evaluations and seeds, by which settings are chosen.
    """
    methods = _names(study)
    rows = []
    for env, some in study.by_env.items():
        cells = [_task(env)]
        for method in methods:
            returns = [one.setting.returns for one in some if one.setting.study == method]
            found = [float(x.mean()) if np.isfinite(x).all() else -np.inf for x in returns]
            best, middle = (fixed(x, study.digits(env)) for x in (max(found), np.median(found)))
            cells.append(f"{best}, {middle}")
        rows.append(cells)
    return markdown(["environment", *(KIN[name] for name in methods)], rows)


def changes(study: Study) -> str:
    """Give what each change of the tuned update reaches."""
    rows = [
        [name, *(study.score(env, study=name) for env in study.by_env)] for name in _names(study)
    ]
    return markdown(["", *map(_task, study.by_env)], rows)


def gains(study: Study) -> str:
    """Give how likely a seed with each change returns more than one without."""
    names = [name for name in _names(study) if name != AS_TUNED]
    columns = _compared(study, [(name, AS_TUNED) for name in names])
    header = ["P(above the update as tuned)", *(column[0] for column in columns)]
    rows = [[name, *cells] for name, *cells in zip(names, *(c[1:] for c in columns), strict=True)]
    return markdown(header, rows)


def _names(study: Study) -> list[str]:
    """The studies of an experiment, in the order of its file."""
    return list(dict.fromkeys(one.setting.study for one in study.in_order))


def _task(env: str) -> str:
    return env.removeprefix("brax:").partition("?")[0]


def _compared(study: Study, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return a row for each environment and one for all: how likely the first of a pair is above.

    For all environments together it is the mean of their probabilities (Agarwal et al. 2021).
    """

    def found(env: str) -> list[tuple[Summary, Summary]]:
        return [(study.find(env, study=x), study.find(env, study=y)) for x, y in pairs]

    by_env = {env: found(env) for env in study.by_env}
    rows = [[_task(env), *(chance(x, y) for x, y in both)] for env, both in by_env.items()]
    together = []
    for several in zip(*by_env.values(), strict=True):
        interval = summary.improvement(
            [x.scores for x, _ in several], [y.scores for _, y in several]
        )
        together.append(bold_unless_half(interval))
    return [*rows, [TOGETHER, *together]]
