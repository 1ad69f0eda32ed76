"""Read the studies of an experiment file: what they inherit, their grids, what they sample."""

from __future__ import annotations

import functools
import itertools
import math
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrl_pg.agents import AGENTS, config_class
from jaxrl_pg.config import check_choice, nearest
from jaxrl_pg.running import sizes
from jaxrl_pg.sweeps import designs
from jaxrl_pg.training import seeding

__all__ = ["MAX_RUNS", "STUDY_KEYS", "Study", "check_keys", "hints_of", "studies", "whole"]

Table = dict[str, Any]

_PLAIN = ("agent", "env", "init_from", "seeds")
_BLOCKS = ("fixed", "grid", "sample")
STUDY_KEYS = (*_PLAIN, "total_timesteps", *_BLOCKS)
_SAMPLE_KEYS = ("num", "method", "seed")
# Each run of an experiment is made, checked and hashed before the first is trained: a hundred
# thousand settings take some minutes.
MAX_RUNS = 100_000
_MAX_FIELDS = 100  # no agent and environment together have so many
_LARGEST_FLOAT = 3e38  # what float32 can hold, nearly


class Study(NamedTuple):
    """A study, with what it inherits. It trains the product of all parts but `fixed`.

    Attributes:
        name: name of the study, unique among those of the same environment.
        agents: names of agents.
        envs: ids of environments.
        seeds: seeds of the runs.
        fixed: values by field of the config; `env_params.NAME` is an environment's parameter.
        grid: every combination of the grid; a single empty one where there is no grid.
        sample: every sampled setting; a single empty one where nothing is sampled.
        init_from: folder of the old policy that every run starts from; empty for none.
    """

    name: str
    agents: list[str]
    envs: list[str]
    seeds: Sequence[int]
    fixed: Table
    grid: list[Table]
    sample: list[Table]
    init_from: str = ""


def studies(name: str, table: Table) -> list[Study]:
    """Return the studies of an experiment file: one with the file's `name` if it has no blocks.

    Raises:
        ValueError: one line that says what is wrong and what is allowed.
    """
    base = _tidy({key: value for key, value in table.items() if key in STUDY_KEYS})
    blocks = table.get("study", [{"name": name}])
    if not isinstance(blocks, list) or not blocks or not all(isinstance(b, dict) for b in blocks):
        raise ValueError("study is no list of tables: write [[study]]")
    result: list[Study] = []
    number, known = 0, set[tuple[str, str]]()
    for block in blocks:
        study = _study(base, block)
        number += _num_runs(study)
        _require_few("all studies together", number)
        if known & {(study.name, env) for env in study.envs}:
            raise ValueError(
                f"study name={study.name!r}: give every [[study]] of an environment a name of its "
                "own"
            )
        known |= {(study.name, env) for env in study.envs}
        result.append(study)
    return result


def _study(base: Table, block: Table) -> Study:
    name = block.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"study name={name!r}: give every [[study]] a name")
    try:
        check_keys("key", block, ("name", *STUDY_KEYS))
        table = _inherit(base, _tidy(block))
        agents = _names("agent", table.get("agent"))
        config_classes = [config_class(agent) for agent in agents]
        envs, seeds = _names("env", table.get("env")), _seeds(table.get("seeds", 10))
        axes = _axes(table["grid"])
        num_sampled = _num_sampled(table["sample"])
        shared = len(agents) * len(envs) * len(seeds)
        _require_few(
            "agents x envs x seeds x [grid] x [sample]", shared * math.prod(axes) * num_sampled
        )
        return Study(
            name,
            agents,
            envs,
            seeds,
            table["fixed"],
            _combinations(table["grid"]),
            _sampled_settings(table["sample"], config_classes),
            _init_from(table.get("init_from", "none")),
        )
    except ValueError as error:
        raise ValueError(f"study {name!r}: {error}") from None


def _num_runs(study: Study) -> int:
    parts = (study.agents, study.envs, study.seeds, study.grid, study.sample)
    return math.prod(map(len, parts))


def _require_few(what: str, number: int) -> None:
    """Refuse more runs than can be expanded."""
    if number > MAX_RUNS:
        raise ValueError(
            f"{what} are {number:,} runs: give at most {MAX_RUNS:,} in one experiment, and the "
            "rest in others"
        )


def _axes(grid: Table) -> list[int]:
    """Return how many values each field of the grid has."""
    for field, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"[grid] {field}={values!r:.80}: give a list that is not empty")
    return [len(values) for values in grid.values()]


def _num_sampled(sample: Table) -> int:
    """Return how many settings a [sample] table draws: one where nothing is sampled."""
    return whole("[sample] num", sample.get("num"), 1) if "num" in sample else 1


def _combinations(grid: Table) -> list[Table]:
    return [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]


def whole(name: str, given: Any, low: int) -> int:
    """Return the number given; raise ValueError unless it is whole, from `low` to 2^31 - 1."""
    if type(given) is not int or not low <= given <= sizes.LARGEST:
        raise ValueError(f"{name}={given!r:.80}: give a whole number from {low} to {sizes.LARGEST}")
    return given


def hints_of(config_class: Any) -> dict[str, Any]:
    """Return the types of a config's fields by name."""
    return _type_hints(config_class)


_type_hints = functools.cache(typing.get_type_hints)


def check_keys(what: str, table: Table, allowed: Sequence[str]) -> None:
    """Refuse a key that is not allowed, naming the nearest, or where it belongs."""
    for key in table:
        if key not in allowed:
            in_config = any(key in hints_of(a.Config) for a in AGENTS.values())
            remedy = "write it under [fixed]" if in_config else nearest(key, allowed)
            raise ValueError(f"unknown {what} {key!r}: {remedy}")


def _tidy(block: Table) -> Table:
    """Bring a block into one form, and refuse a field that it gives twice.

    `total_timesteps` goes into `fixed`, and a table `env_params` becomes fields `env_params.NAME`.
    """
    tidy: Table = {key: block[key] for key in _PLAIN if key in block}
    for part in _BLOCKS:
        given = block.get(part, {})
        if not isinstance(given, dict) or (part in block and not given):
            raise ValueError(f"{part}={given!r}: give a table [{part}] that is not empty")
        params = given.get("env_params", {})
        if not isinstance(params, dict):
            raise ValueError(f"[{part}] env_params={params!r}: give a table, by parameter")
        spread = {f"env_params.{key}": value for key, value in params.items()}
        tidy[part] = {k: v for k, v in given.items() if k != "env_params"} | spread
        if len(tidy[part]) > _MAX_FIELDS:
            raise ValueError(f"[{part}] has {len(tidy[part]):,} fields: give at most {_MAX_FIELDS}")
        unprintable = next((name for name in tidy[part] if not name.isprintable()), None)
        if unprintable is not None:
            raise ValueError(f"[{part}] has the field {unprintable!r:.80}: give the name of one")
        if "env" in given:
            raise ValueError(f"env is in [{part}]: write env = [...] above it")
    top = {key: value for key, value in block.items() if key == "total_timesteps"}
    for one, other in itertools.combinations((top, *(tidy[part] for part in _BLOCKS)), 2):
        for field in one.keys() & other.keys():
            raise ValueError(f"{field} is given in two places: keep one of them")
    tidy["fixed"] = top | tidy["fixed"]
    return tidy


def _inherit(base: Table, own: Table) -> Table:
    """Return a study's keys and fields, and those of the base that it does not give itself."""
    merged = {**base, **own}
    named = {field for part in _BLOCKS for field in own[part]}
    for part in _BLOCKS:
        kept = {k: v for k, v in base[part].items() if k not in named or k in own[part]}
        merged[part] = {**kept, **own[part]}
    if _sampled_fields(base["sample"]) and not (_sampled_fields(merged["sample"]) or own["sample"]):
        merged["sample"] = {}  # the study fixes every field that the base samples
    return merged


def _names(key: str, given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(x, str) for x in names):
        what = f"no {key}" if given is None else f"{key}={given!r}"
        raise ValueError(f'{what}: write {key} = "...", or a list that is not empty')
    unprintable = next((name for name in names if not name.isprintable()), None)
    if unprintable is not None:
        raise ValueError(f"{key}={unprintable!r:.80}: give the name of one")
    return names


def _init_from(given: Any) -> str:
    """Return the folder of an old policy; "none" overrides the one that a study inherits."""
    if not isinstance(given, str) or not given or not given.isprintable():
        raise ValueError(
            f'init_from={given!r:.80}: give the folder of a run or of a saved policy, or "none"'
        )
    return "" if given == "none" else given


def _seeds(given: Any) -> Sequence[int]:
    if not isinstance(given, list):
        return range(whole("seeds", given, 1))
    if not given:
        raise ValueError("seeds=[]: give how many, or a list that is not empty")
    return [seeding.require_seed(seed, "a seed") for seed in given]


def _sampled_fields(sample: Table) -> list[str]:
    return [name for name in sample if name not in _SAMPLE_KEYS]


def _sampled_settings(sample: Table, configs: Sequence[type]) -> list[Table]:
    """Draw the settings of a [sample] table; a single empty one when nothing is sampled."""
    fields = _sampled_fields(sample)
    if not sample:
        return [{}]
    for field in fields:
        if not isinstance(sample[field], dict):
            raise ValueError(
                f"[sample] {field}={sample[field]!r}: {nearest(field, _SAMPLE_KEYS)}; a field "
                "takes { low = ..., high = ... } or { choices = [...] }"
            )
    if not fields:
        raise ValueError("[sample] names no field: give FIELD = { low = ..., high = ... }")
    method, num = sample.get("method", "sobol"), whole("[sample] num", sample.get("num"), 1)
    check_choice("[sample] method", method, designs.METHODS)
    seed = whole("[sample] seed", sample.get("seed", 0), 0)
    if method == "sobol" and num & (num - 1):
        raise ValueError(
            f"[sample] num={num} with sobol: give a power of two, as {1 << num.bit_length()}"
        )
    if method == "sobol" and len(fields) > designs.MAX_SOBOL_COLUMNS:
        raise ValueError(
            f"[sample] {len(fields)} fields with sobol: give {designs.MAX_SOBOL_COLUMNS} at most, "
            "or random"
        )
    for field, config in itertools.product(fields, configs):
        _check_spec(field, sample[field], hints_of(config).get(field, float))
    columns = [
        [_scale(sample[field], u) for u in designs.draw(method, num, column, seed)]
        for column, field in enumerate(fields)
    ]
    return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]


def _check_spec(field: str, spec: Table, hint: Any) -> None:
    """Refuse a range or choices that cannot be drawn, or not for a field of this type."""
    where = f"[sample] {field}={spec!r}"
    allowed = ("choices",) if "choices" in spec else ("low", "high", "log", "whole")
    for key in spec:
        check_choice(f"[sample] {field}: key", key, allowed)
    if "choices" in spec:
        if not isinstance(spec["choices"], list) or not spec["choices"]:
            raise ValueError(f"{where}: give a list of choices that is not empty")
        return
    low, high = spec.get("low", math.nan), spec.get("high", math.nan)
    log, integer = spec.get("log", False), spec.get("whole", False)
    if hint not in (int, float, int | None, float | None):
        raise ValueError(f"{where}: {field} is not a number, give {{ choices = [...] }}")
    if not isinstance(log, bool) or not isinstance(integer, bool):
        raise ValueError(f"{where}: give true or false for log and whole")
    if not all(type(x) in (int, float) and abs(x) <= _LARGEST_FLOAT for x in (low, high)):
        raise ValueError(f"{where}: give numbers for low and high")
    if not low < high or (log and low <= 0):
        raise ValueError(f"{where}: give low < high{', and with log low > 0' if log else ''}")
    if not integer and hint in (int, int | None):
        raise ValueError(f"{where}: {field} takes whole numbers, add whole = true")
    if integer and not (type(low) is type(high) is int):
        raise ValueError(f"{where}: with whole = true give whole numbers for low and high")


def _scale(spec: Table, u: float) -> Any:
    """Return the value at `u` in [0, 1].

    It has nine digits, so that differences between machines in the last ones do not change an id.
    """
    if "choices" in spec:
        return spec["choices"][min(int(u * len(spec["choices"])), len(spec["choices"]) - 1)]
    low, high, integer = spec["low"], spec["high"], spec.get("whole", False)
    end = high + 1 if integer else high  # every whole number is a cell of its own
    x = low * (end / low) ** u if spec.get("log", False) else low + u * (end - low)
    return min(math.floor(x), high) if integer else min(max(float(f"{x:.9g}"), low), high)
