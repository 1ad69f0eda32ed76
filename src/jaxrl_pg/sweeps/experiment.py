"""Experiment files: what a sweep trains, written as differences from the defaults.

    agent = "..."                       a name or a list
    env = "CartPole-v1"                 an id or a list
    init_from = "runs/demo"             an old policy to start from, "none" for none
    seeds = 10                          0..9, or a list; 10 unless given
    num_evals = 10                      for the whole sweep, as num_eval_episodes = 128
    total_timesteps = 500_000
    [fixed]                             any field of the config, env_params.NAME among them
    [grid]                              field = [values]: every combination
    [sample]                            num settings, drawn once, combined with the grid
    num = 16
    method = "sobol"                    or "random"; "sobol" unless given
    seed = 0
    learning_rate = { low = 1e-5, high = 1e-2, log = true }
    num_envs = { choices = [32, 64] }   or { low = 32, high = 64, whole = true }
    [[study]]                           inherits all of the above; its own values take precedence
    name = "..."

Without a study block the file is one study of its own name. TOML has no None: "none" stands for
it in fields that may be None. `load` expands a file to *points*, one for each run.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxrl_pg import envs, files
from jaxrl_pg.agents import config_class
from jaxrl_pg.config import BaseConfig, nearest, to_dict
from jaxrl_pg.running import hints, sizes
from jaxrl_pg.sweeps.study import STUDY_KEYS, Study, check_keys, hints_of, studies, whole

__all__ = ["Experiment", "Group", "Point", "describe", "groups", "later", "load", "parse"]

Table = dict[str, Any]

_MAX_BYTES = 1_000_000  # of a file that people write
_MAX_DEPTH = 32  # parts of a dotted key


class Point(NamedTuple):
    """One run of the experiment.

    Attributes:
        id: 12 hex digits of a hash of agent, config (without num_devices, and without the fields
            of `later` at those values), seed and init_from.
        study: name of the study it belongs to.
        agent: name of the agent.
        config: the agent's config, validated.
        seed: the run's seed.
        init_from: folder of the old policy that it starts from; empty for none.
    """

    id: str
    study: str
    agent: str
    config: BaseConfig
    seed: int
    init_from: str = ""


class Group(NamedTuple):
    """Points that one compiled program can train side by side.

    Attributes:
        id: 12 hex digits of a hash of the program: the agent and all of a config but its floats,
            and the old policy that its runs start from.
        agent: name of the agent.
        points: the points, in the experiment's order.
    """

    id: str
    agent: str
    points: tuple[Point, ...]


class Experiment(NamedTuple):
    """What a sweep trains.

    Attributes:
        name: name of the file, without .toml.
        table: the file as TOML parses it; `parse(name, table)` gives the same experiment.
        num_evals: evaluations of each run.
        num_eval_episodes: episodes in each evaluation.
        points: the runs, study by study; within one: agent, environment, grid, sample, seed.
        source: what names the file to `load` again; the name where there is no file.
    """

    name: str
    table: Table
    num_evals: int
    num_eval_episodes: int
    points: tuple[Point, ...]
    source: str = ""

    def command(self, run_dir: Path) -> str:
        """Return the command that trains what is missing of the experiment in a folder."""
        source = hints.path_argument(self.source or self.name)
        on_host = any(envs.on_host(point.config.env) for point in self.points)
        one = ("--num-devices", "1") if on_host else ()  # such environments cannot be split
        return hints.command("sweep", source, "--run-dir", run_dir, *one)


def load(path_or_name: str | os.PathLike[str]) -> Experiment:
    """Read an experiment: a path that ends in .toml, or the name of a file in experiments/.

    Raises:
        ValueError: no such file (the nearest is named), not TOML, or whatever `parse` refuses.
    """
    path = files.as_path(path_or_name, "experiment")
    named = path.suffix != ".toml"
    if named:
        path = Path("experiments") / f"{path}.toml"
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path} is larger than {_MAX_BYTES:,} bytes: split the experiment")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        if named and not Path("experiments").is_dir():
            raise ValueError(
                f"experiment={os.fspath(path_or_name)!r}: there is no folder experiments/ in "
                f"{Path.cwd()}: change to the folder that has it, or give the path of a .toml file"
            ) from None
        names = [other.stem for other in path.parent.glob("*.toml")]
        hint = nearest(path.stem, names) if names else "give the path of a .toml file"
        raise ValueError(f"cannot read {path} ({error.strerror}): {hint}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}): write it in UTF-8") from None
    source = path.stem if named else os.fspath(path.absolute())
    return parse(path.stem, _table(path, text))._replace(source=source)


def _table(path: Path, text: str) -> Table:
    """Parse the text of a file, which may come from anywhere."""
    # A key of many parts takes the parser their square; a number has one dot.
    names = re.split(r"[^\w\-.'\" \t]+", re.sub(r"#.*", "", text))
    if max(name.count(".") for name in names) > _MAX_DEPTH:
        raise ValueError(f"{path} has a key of more than {_MAX_DEPTH} parts: give keys of 2 or 3")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"{path} has lists in lists too deep to be read: give flat ones") from None
    except ValueError as error:
        raise ValueError(f"{path} is not TOML ({error}): fix that line") from None


def parse(name: str, table: Table) -> Experiment:
    """Expand the table of an experiment file.

    Args:
        name: name of the experiment.
        table: the file, as TOML or JSON parses it.

    Raises:
        ValueError: one line that says what is wrong, where, and what is allowed.
    """
    points: dict[str, Point] = {}
    try:
        check_keys("key", table, ("num_evals", "num_eval_episodes", "study", *STUDY_KEYS))
        num_evals = whole("num_evals", table.get("num_evals", 10), 1)
        if num_evals > sizes.MAX_EVALS:
            raise ValueError(f"num_evals={num_evals}: give at most {sizes.MAX_EVALS:,}")
        num_eval_episodes = whole("num_eval_episodes", table.get("num_eval_episodes", 128), 1)
        for point, words in itertools.chain.from_iterable(map(_expand, studies(name, table))):
            if point.id in points:
                other = points[point.id].study
                raise ValueError(f"{words}: study {other!r} has it already, remove one")
            points[point.id] = point
    except ValueError as error:
        raise ValueError(f"experiment {name!r}: {error}") from None
    return Experiment(name, table, num_evals, num_eval_episodes, tuple(points.values()))


def groups(points: Sequence[Point]) -> list[Group]:
    """Sort points by the program that trains them, in the order of each program's first point."""
    by_program: dict[tuple[str, Any, str], list[Point]] = {}
    for point in points:
        program = (point.agent, jax.tree.structure(point.config), point.init_from)
        by_program.setdefault(program, []).append(point)
    return [
        Group(
            _hash(
                [agent, _settings(some[0].config, _program(some[0])), *filter(None, [init_from])]
            ),
            agent,
            tuple(some),
        )
        for (agent, _, init_from), some in by_program.items()
    ]


def describe(experiment: Experiment, groups: Sequence[Group]) -> str:
    """Describe what a sweep would do: its size, and a line for each group.

    Args:
        experiment: an experiment from `load`.
        groups: the groups to train, from `groups`.
    """
    points = [point for group in groups for point in group.points]
    settings = {(p.study, _point_id(p.agent, p.config, 0, p.init_from)) for p in points}
    programs = [_program(group.points[0]) for group in groups]
    lines = [
        experiment.name,
        f"  agents             {len(points):,} (settings: {len(settings):,})",
        f"  compilations       {len(groups)}, one a group",
        f"  environment steps  {sum(map(_timesteps, points)):,}",
        f"  evaluations        {experiment.num_evals} an agent, of "
        f"{experiment.num_eval_episodes} episodes",
    ]
    for group, program in zip(groups, programs, strict=True):
        first = group.points[0]
        own = [
            f", {name}={value}"
            for name, value in program.items()
            if name not in ("env", "total_timesteps")
            and any(other.get(name, value) != value for other in programs)
        ]
        lines.append(
            f"  group {group.id} {group.agent} on {first.config.env}: {len(group.points):,} x "
            f"{_timesteps(first):,} steps{''.join(own)}"
            + (f", from {first.init_from}" if first.init_from else "")
        )
    return "\n".join(lines)


def _expand(study: Study) -> Iterator[tuple[Point, str]]:
    """Yield the points of a study, each with words for messages that say which one it is."""
    for agent, env, chosen, sampled in itertools.product(
        study.agents, study.envs, study.grid, study.sample
    ):
        swept = {**chosen, **sampled}
        named = ", ".join(f"{field}={x}" for field, x in swept.items())
        words = f"study {study.name!r}, {agent} on {env}{' with ' if named else ''}{named}"
        try:
            config = _config(agent, env, {**study.fixed, **swept})
        except ValueError as error:
            raise ValueError(f"{words}: {error}") from None
        for seed in study.seeds:
            name = _point_id(agent, config, seed, study.init_from)
            point = Point(name, study.name, agent, config, seed, study.init_from)
            yield point, f"{words}, seed {seed}"


def _config(agent: str, env: str, values: Table) -> BaseConfig:
    """Return the config of one setting, validated with its environment."""
    cls = config_class(agent)
    types = hints_of(cls)
    plain: Table = {"env": env, "env_params": {}}
    for field, value in values.items():
        if field.startswith("env_params."):
            plain["env_params"][field.removeprefix("env_params.")] = value
        elif value == "none" and type(None) in typing.get_args(types.get(field)):
            plain[field] = None
        else:
            plain[field] = value
    config = cls(**plain)
    envs.make(env, config.env_params)
    return config


def _point_id(agent: str, config: BaseConfig, seed: int, init_from: str) -> str:
    values = _settings(config, to_dict(config))
    values.pop("num_devices")
    old = {"init_from": init_from} if init_from else {}
    return _hash({"agent": agent, "config": values, "seed": seed, **old})


def later(cls: type[BaseConfig]) -> Table:
    """Return the fields that came later, with what a row without them stands for.

    At these values they are no part of an id, so that a sweep that was begun without them goes on:
    its runs have the ids that they had.
    """
    stated = (vars(base).get("later", {}) for base in reversed(cls.__mro__))
    return {name: x for some in stated for name, x in some.items()}


def _settings(config: BaseConfig, values: Table) -> Table:
    """A config's part of an id; of a program's, with a star for every float."""
    known = later(type(config))
    return {
        name: x for name, x in values.items() if name not in known or x not in (known[name], "*")
    }


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _program(point: Point) -> Table:
    """Return the config with stars for its floats, which the program takes as arguments."""
    leaves, structure = jax.tree.flatten(point.config)
    return to_dict(jax.tree.unflatten(structure, ["*"] * len(leaves)))


def _timesteps(point: Point) -> int:
    return int(point.config.num_iterations * point.config.steps_per_iteration)
