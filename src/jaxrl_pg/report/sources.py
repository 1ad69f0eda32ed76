"""Read the folders of sweeps and of single runs that a report is about, as one table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.files import schema
from jaxrl_pg.ops.metric_names import is_watched
from jaxrl_pg.running import hints
from jaxrl_pg.running.rows import known_return
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.sweeps import formats, results
from jaxrl_pg.sweeps.results import Table

__all__ = ["Source", "as_toml", "load", "run_table"]

Row = dict[str, Any]

_DELETE = "delete that row, or leave the run out"
_OF_SEED = "eval/return_mean/seed_"  # a run of several seeds has the return of each
_MEASURED = ("return_mean", "return_std", "length_mean", "num_episodes")


class _Described(TypedDict):
    """What a run's config.json must hold for a report."""

    agent: str
    env: str
    seed: schema.Count
    config: dict[str, formats.Value]

    num_seeds: NotRequired[schema.Positive]


class _Config(TypedDict, total=False):
    env_params: dict[str, formats.Value] | None


_Evaluated = TypedDict(
    "_Evaluated",
    {
        "timesteps": schema.Count,
        "eval/return_mean": NotRequired[float | None],
        "eval/return_std": NotRequired[float | None],
        "eval/length_mean": NotRequired[float | None],
        "eval/num_episodes": NotRequired[float | None],
        "diverged/seed": NotRequired[schema.Count],
    },
)


class Source(NamedTuple):
    """A folder that is reported on.

    Attributes:
        name: name of the sweep or the run; the path where two have the same name.
        path: path of the folder, as it was given.
        command: the command that made it, as far as it is known.
        facts: contents of its sweep.json, or of its config.json.
        is_sweep: whether it is a sweep's folder rather than a run's.
        seeds: the seeds in its table, ascending.
    """

    name: str
    path: str
    command: str
    facts: Row
    is_sweep: bool
    seeds: tuple[int, ...]


def load(run_dirs: Sequence[str | os.PathLike[str]]) -> tuple[Table, list[Source]]:
    """Read folders of sweeps and of single runs as one table.

    Raises:
        ValueError: for no folder, the same folder twice, one that is neither, or no evaluation.
    """
    if not run_dirs:
        raise ValueError("no folder given: give the folders of sweeps or of runs")
    paths = [files.as_path(run_dir, "run_dir") for run_dir in run_dirs]
    tables, sources = [], []
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise ValueError(f"{path} is given twice: give each folder once")
        if (path / "results.csv").is_file():
            tables.append(results.read(path / "results.csv"))
            sources.append(_sweep_source(path, tables[-1]))
        elif (path / "config.json").is_file():
            tables.append(run_table(path))
            sources.append(_run_source(path, tables[-1]))
        else:
            raise ValueError(_neither(path))
    names = [source.name for source in sources]
    sources = [x._replace(name=x.path) if names.count(x.name) > 1 else x for x in sources]
    merged = results.merge([_by_class(table) for table in tables])
    if not len(merged.sources):
        listed = ", ".join(map(str, paths))
        raise ValueError(f"no evaluation in {listed} yet: train with num_evals >= 1 first")
    return merged, sources


def _by_class(table: Table) -> Table:
    """Give an environment one name, whether it was given by a name or as an object."""
    env = np.array([name.removeprefix("python:") for name in table.columns["env"]], dtype=object)
    return table._replace(columns={**table.columns, "env": env})


def run_table(run_dir: str | os.PathLike[str]) -> Table:
    """Return the table of a single run: its evaluations, with its config as the setting.

    A run whose last training row has a loss that is not finite has diverged; of several seeds, the
    one that this row names, if it does.

    Raises:
        ValueError: no run is there.
    """
    folder = RunFolder.open(run_dir)
    described = _described(folder)
    config = dict(described["config"])
    params = config.pop("env_params", None) or {}
    hyper = {k: value for k, value in config.items() if k not in ("env", "num_devices")}
    same = {
        "id": folder.path.absolute().name,
        "study": "",
        "agent": described["agent"],
        "env": described["env"],
        "seed": described["seed"],
        **hyper,
        **{f"env_params.{name}": value for name, value in params.items()},
    }
    every_row = folder.rows()
    for number, row in enumerate(every_row, start=1):
        schema.check(row, _Evaluated, folder.path / "metrics.jsonl", f"row {number}", _DELETE)
    rows = [
        same | evaluation
        for row in every_row
        if known_return(row, "eval") is not None
        for evaluation in _evaluations(row, same["id"])
    ]
    if every_row and _is_diverged(every_row[-1]):
        last, empty = every_row[-1], dict.fromkeys(_MEASURED)
        lost = same | {"timesteps": last["timesteps"], **empty, "status": "diverged"}
        if described.get("num_seeds", 1) == 1:
            rows.append(lost)
        elif (seed := last.get("diverged/seed")) is not None:
            rows.append(lost | {"id": f"{same['id']}-{seed}", "seed": seed})
    return results.of_rows(rows, os.fspath(run_dir))


def as_toml(values: dict[str, Any], prefix: str = "") -> str:
    """Write a parsed experiment as TOML again: values first, then its tables."""
    tables = {k: x for k, x in values.items() if isinstance(x, dict) and x}
    lists = {
        k: x
        for k, x in values.items()
        if isinstance(x, list) and x and all(isinstance(y, dict) for y in x)
    }
    lines = [_line(k, x) for k, x in values.items() if k not in tables and k not in lists]
    for name, inner in tables.items():
        lines += ["", f"[{prefix}{_key(name)}]", *(_line(k, x) for k, x in inner.items())]
    for name, blocks in lists.items():
        for block in blocks:
            lines += ["", f"[[{prefix}{_key(name)}]]", as_toml(block, f"{prefix}{_key(name)}.")]
    return "\n".join(lines).strip("\n")


def _described(folder: RunFolder) -> Row:
    """Return what a run's config.json says, checked; the seed is 0 where an old one has none."""
    described = {"seed": 0, **folder.config}
    remedy = "restore the file, or leave the run out"
    path = folder.path / "config.json"
    schema.check(described, _Described, path, "", remedy)
    schema.check(described["config"], _Config, path, "config", remedy)
    return described


def _evaluations(row: Row, run_id: str) -> list[Row]:
    """Return what an evaluation measured: of a run of several seeds, the return of each."""
    measured = {name: row.get(f"eval/{name}") for name in _MEASURED}
    found = {"timesteps": row["timesteps"], **measured, "status": "ok"}
    each = {key.removeprefix(_OF_SEED): x for key, x in row.items() if key.startswith(_OF_SEED)}
    others = dict.fromkeys(set(measured) - {"return_mean", "num_episodes"})
    return [
        {**found, **others, "id": f"{run_id}-{seed}", "seed": int(seed), "return_mean": value}
        for seed, value in each.items()
    ] or [found]


def _is_diverged(row: Row) -> bool:
    return any(value is None for name, value in row.items() if is_watched(name))


def _sweep_source(path: Path, table: Table) -> Source:
    facts: Row = {**(formats.read_facts(path) or {})}  # the table has all that the figures need
    name = facts.get("name", path.absolute().name)
    command = facts.get("command", hints.command("sweep", name))
    return Source(name, os.fspath(path), command, facts, is_sweep=True, seeds=_seeds(table))


def _run_source(path: Path, table: Table) -> Source:
    facts = _described(RunFolder.open(path))
    agent, env, seed = (str(facts[key]) for key in ("agent", "env", "seed"))
    return Source(
        path.absolute().name,
        os.fspath(path),
        hints.command("train", agent, "--env", env, "--seed", seed),
        facts,
        is_sweep=False,
        seeds=_seeds(table),
    )


def _seeds(table: Table) -> tuple[int, ...]:
    return tuple(sorted({int(seed) for seed in table.columns["seed"]}))


def _neither(path: Path) -> str:
    beside = path if path.is_dir() else path.absolute().parent
    names = {
        file.parent.name
        for kind in ("results.csv", "config.json")
        for file in beside.glob(f"*/{kind}")
    }
    message = f"{path} holds neither results.csv nor config.json"
    if not names:
        return f"{message}: give the folder of a sweep or of a run"
    return f"{message}: give one of those in {beside}: {', '.join(sorted(names)[:8])}"


def _line(key: str, value: Any) -> str:
    return f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(_line(k, x) for k, x in value.items())} }}"
    return json.dumps(value, ensure_ascii=False, default=str)
