"""What one study of an experiment file says: its inheritance, its grid, what it draws."""

from __future__ import annotations

import itertools
import math
import random
import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxrl_pg.agents import AGENTS
from jaxrl_pg.config import check_choice, nearest

__all__ = ["STUDY_KEYS", "Study", "check_keys", "draw", "studies", "whole"]

Table = dict[str, Any]

_BLOCKS = ("fixed", "grid", "sample")
STUDY_KEYS = ("agent", "env", "seeds", "total_timesteps", *_BLOCKS)
_SAMPLE_KEYS = ("num", "method", "seed")
_METHODS = ("latin", "random", "sobol")
_LARGEST = 2**31 - 1
_LARGEST_FLOAT = 3e38
# Joe and Kuo (2008), new-joe-kuo-6.21201: a polynomial's degree and inner bits, first numbers.
_JOE_KUO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    *((0, 0, (1,) * 32), (1, 0, (1,)), (2, 1, (1, 3)), (3, 1, (1, 3, 1)), (3, 2, (1, 1, 1))),
    *((4, 1, (1, 1, 3, 3)), (4, 4, (1, 3, 5, 13)), (5, 2, (1, 1, 5, 5, 17))),
    *((5, 4, (1, 1, 5, 5, 5)), (5, 7, (1, 1, 7, 11, 19))),
)


class Study(NamedTuple):
    """What a study says, its inheritance included: the product of all but `fixed` is trained.

    Attributes:
        name: its own, among those of the same environment.
        agents: names in the registry.
        envs: ids.
        seeds: of the runs.
        fixed: fields of the config; a parameter of the environment is `env_params.NAME`.
        grid: every combination of the grid; one without fields where there is none.
        sample: every drawn setting; one without fields where there is none.
    """

    name: str
    agents: list[str]
    envs: list[str]
    seeds: Sequence[int]
    fixed: Table
    grid: list[Table]
    sample: list[Table]


def studies(name: str, table: Table) -> list[Study]:
    """The studies of an experiment file, one of the file's `name` where it has no blocks.

    Raises:
        ValueError: one line saying what is wrong and what is allowed.
    """
    base = _tidy({key: value for key, value in table.items() if key in STUDY_KEYS})
    blocks = table.get("study", [{"name": name}])
    if not isinstance(blocks, list) or not blocks or not all(isinstance(b, dict) for b in blocks):
        raise ValueError("study is no list of tables: write [[study]]")
    found = [_study(base, block) for block in blocks]
    for one, other in itertools.combinations(found, 2):
        if one.name == other.name and set(one.envs) & set(other.envs):
            raise ValueError(
                f"study name={one.name!r}: give every [[study]] of an environment a name of its own"
            )
    return found


def _study(base: Table, block: Table) -> Study:
    name = block.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"study name={name!r}: give every [[study]] a name")
    try:
        check_keys("key", block, ("name", *STUDY_KEYS))
        table = _inherit(base, _tidy(block))
        agents = _names("agent", table.get("agent"))
        for agent in agents:
            check_choice("agent", agent, AGENTS)
        return Study(
            name,
            agents,
            _names("env", table.get("env")),
            _seeds(table.get("seeds", 10)),
            table["fixed"],
            _combinations(table["grid"]),
            _rows(table["sample"], [AGENTS[agent].Config for agent in agents]),
        )
    except ValueError as error:
        raise ValueError(f"study {name!r}: {error}") from None


def _combinations(grid: Table) -> list[Table]:
    for field, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"[grid] {field}={values!r}: give a list that is not empty")
    return [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]


def draw(method: str, num: int, column: int, seed: int) -> list[float]:
    """One column of a space-filling design of `num` points in [0, 1].

    random: independent and uniform. latin: one point in each [i/num, (i+1)/num), in random order
    (McKay et al. 1979). sobol: the Sobol sequence with the direction numbers of Joe and Kuo
    (2008), every column XORed with a random number of its own (a digital shift), so that the
    first point is not the corner and the net keeps its balance.

    A column depends on nothing but the four arguments, and on no library's generator.

    Args:
        method: "random", "latin" or "sobol".
        num: points; a power of two keeps Sobol's balance.
        column: which, from 0; 10 of them for sobol.
        seed: of the design.
    """
    rng = random.Random(f"{seed}/{column}")
    if method == "random":
        return [rng.random() for _ in range(num)]
    if method == "latin":
        order = [rng.random() for _ in range(num)]
        cells = sorted(range(num), key=order.__getitem__)
        return [(cell + rng.random()) / num for cell in cells]
    shift = int(rng.random() * 2**32)
    return [(x ^ shift) / 2**32 for x in _sobol(num, column)]


def whole(name: str, given: Any, low: int) -> int:
    """The number given; ValueError unless it is whole, from `low` to the largest seed."""
    if type(given) is not int or not low <= given <= _LARGEST:
        raise ValueError(f"{name}={given!r}: give a whole number from {low} to {_LARGEST}")
    return given


def check_keys(what: str, table: Table, allowed: Sequence[str]) -> None:
    """Refuse a key that is not allowed, naming the nearest, or where it belongs."""
    for key in table:
        if key not in allowed:
            in_config = any(key in typing.get_type_hints(a.Config) for a in AGENTS.values())
            remedy = "write it under [fixed]" if in_config else nearest(key, allowed)
            raise ValueError(f"unknown {what} {key!r}: {remedy}")


def _tidy(block: Table) -> Table:
    """A block with total_timesteps among the fixed, `env_params` spread, and each field once."""
    tidy: Table = {key: block[key] for key in ("agent", "env", "seeds") if key in block}
    for part in _BLOCKS:
        given = block.get(part, {})
        if not isinstance(given, dict) or (part in block and not given):
            raise ValueError(f"{part}={given!r}: give a table [{part}] that is not empty")
        params = given.get("env_params", {})
        if not isinstance(params, dict):
            raise ValueError(f"[{part}] env_params={params!r}: give a table, by parameter")
        spread = {f"env_params.{key}": value for key, value in params.items()}
        tidy[part] = {k: v for k, v in given.items() if k != "env_params"} | spread
        if "env" in given:
            raise ValueError(f"env is in [{part}]: write env = [...] above it")
    top = {key: value for key, value in block.items() if key == "total_timesteps"}
    for one, other in itertools.combinations((top, *(tidy[part] for part in _BLOCKS)), 2):
        for field in one.keys() & other.keys():
            raise ValueError(f"{field} is given in two places: keep one of them")
    tidy["fixed"] = top | tidy["fixed"]
    return tidy


def _inherit(base: Table, own: Table) -> Table:
    """The base's keys, and of its fields those that are not the study's own elsewhere."""
    merged = {**base, **own}
    named = {field for part in _BLOCKS for field in own[part]}
    for part in _BLOCKS:
        kept = {k: v for k, v in base[part].items() if k not in named or k in own[part]}
        merged[part] = {**kept, **own[part]}
    if _sampled(base["sample"]) and not _sampled(merged["sample"]) and not own["sample"]:
        merged["sample"] = {}  # the study fixes all that the others sample
    return merged


def _names(key: str, given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names or not all(isinstance(x, str) for x in names):
        what = f"no {key}" if given is None else f"{key}={given!r}"
        raise ValueError(f'{what}: write {key} = "...", or a list that is not empty')
    return names


def _seeds(given: Any) -> Sequence[int]:
    if not isinstance(given, list):
        return range(whole("seeds", given, 1))
    if not given:
        raise ValueError("seeds=[]: give how many, or a list that is not empty")
    return [whole("a seed", seed, 0) for seed in given]


def _sampled(sample: Table) -> list[str]:
    return [name for name in sample if name not in _SAMPLE_KEYS]


def _rows(sample: Table, configs: Sequence[type]) -> list[Table]:
    """The sampled fields of each setting; one without any when nothing is sampled."""
    fields = _sampled(sample)
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
    check_choice("[sample] method", method, _METHODS)
    seed = whole("[sample] seed", sample.get("seed", 0), 0)
    if method == "sobol" and num & (num - 1):
        raise ValueError(
            f"[sample] num={num} with sobol: give a power of two, as {1 << num.bit_length()}"
        )
    if method == "sobol" and len(fields) > len(_JOE_KUO):
        raise ValueError(
            f"[sample] {len(fields)} fields with sobol: give {len(_JOE_KUO)} at most, or latin"
        )
    for field, config in itertools.product(fields, configs):
        _check_spec(field, sample[field], typing.get_type_hints(config).get(field, float))
    columns = [
        [_scale(sample[field], u) for u in draw(method, num, column, seed)]
        for column, field in enumerate(fields)
    ]
    return [dict(zip(fields, row, strict=True)) for row in zip(*columns, strict=True)]


def _check_spec(field: str, spec: Table, hint: Any) -> None:
    """Refuse what cannot be drawn, or not for a field with this type hint."""
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
    """The value at `u` in [0, 1]; nine digits, so that no machine's rounding shows in an id."""
    if "choices" in spec:
        return spec["choices"][min(int(u * len(spec["choices"])), len(spec["choices"]) - 1)]
    low, high, integer = spec["low"], spec["high"], spec.get("whole", False)
    end = high + 1 if integer else high  # every whole number is a cell of its own
    x = low * (end / low) ** u if spec.get("log", False) else low + u * (end - low)
    return min(math.floor(x), high) if integer else min(max(float(f"{x:.9g}"), low), high)


def _sobol(num: int, column: int) -> list[int]:
    """The first points of one dimension, times 2^32, in the order of the Gray code.

    With degree s and inner bits a of the primitive polynomial (Bratley and Fox 1988, equation 3):
    m_k = 2 a_1 m_{k-1} ^ ... ^ 2^{s-1} a_{s-1} m_{k-s+1} ^ 2^s m_{k-s} ^ m_{k-s}.
    """
    degree, inner, first = _JOE_KUO[column]
    m = list(first)
    while len(m) < 32:
        new = m[-degree] ^ (m[-degree] << degree)
        for i in range(1, degree):
            new ^= (m[-i] << i) * ((inner >> (degree - 1 - i)) & 1)
        m.append(new)
    directions = [number << (31 - k) for k, number in enumerate(m)]
    points = [0]
    for n in range(1, num):
        points.append(points[-1] ^ directions[(n & -n).bit_length() - 1])
    return points
