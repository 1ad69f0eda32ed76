"""The tidy table of results: a row for each run and evaluation, a column for each hyper-parameter.

    id, study, agent, env, seed, <hyper-parameters>, timesteps, return_mean, return_std,
    length_mean, num_episodes, status

`status` is "ok" or "diverged"; a run that diverged ends with one row of that status without
measurements. A *setting* is the runs that differ only in the seed. An id may name a file, since
exports write one for each run. This module needs no array library but numpy, so that reading a
table does not import JAX.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import gzip
import io
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.sweeps import cells

__all__ = ["Setting", "Table", "merge", "of_rows", "read", "settings", "write"]

Row = dict[str, Any]

_NAMES = ("id", "study", "agent", "env", "seed")
_MEASURED = ("return_mean", "return_std", "length_mean", "num_episodes")
_RESULTS = ("timesteps", *_MEASURED, "status")
_TEXT = ("id", "study", "agent", "env", "status")
_STATUSES = ("diverged", "ok")
_LARGEST = 2**63 - 1


class Table(NamedTuple):
    """A table of results, as columns of one length.

    Attributes:
        columns: arrays `[N]` by name: integers for seed and timesteps, floats for measurements
            (NaN where empty), objects for names and hyper-parameters (None where empty).
        sources: `[N]` where each row was read, for messages and to tell equal settings apart.
    """

    columns: dict[str, np.ndarray]
    sources: np.ndarray

    @property
    def hyper(self) -> tuple[str, ...]:
        """Names of the hyper-parameters, in the order of the columns."""
        return tuple(name for name in self.columns if name not in (*_NAMES, *_RESULTS))


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """The seeds of one agent with one set of hyper-parameters on one environment.

    The returns of a seed that diverged, or was not trained to the end, are NaN from there on. The
    end is the last evaluation of any seed, or `total_timesteps` where that is later.
    """

    study: str
    agent: str
    env: str
    hyper: dict[str, Any]
    """hyper-parameters by name, None where the agent has none of that name"""
    source: str
    """where it was read; empty where its seeds come from several places"""
    seeds: np.ndarray
    """[S], ascending"""
    timesteps: np.ndarray
    """[T] timesteps of the evaluations, ascending, and the end where none was evaluated there"""
    returns: np.ndarray
    """[S, T] mean return of each evaluation"""
    diverged: np.ndarray
    """[S] whether the seed diverged"""

    @property
    def finished(self) -> np.ndarray:
        """`[S]` whether the seed was evaluated at the last of the timesteps."""
        return np.isfinite(self.returns[:, -1])


def write(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, replacing the file in one step.

    Hyper-parameters become columns in the order they first appear; see `cells` for how values are
    written.

    Args:
        path: path of the file.
        rows: values by column name; a hyper-parameter that a row lacks is left empty.

    Raises:
        ValueError: for a row that lacks one of the other columns.
    """
    files.write_atomic(Path(path), _dumped(list(rows)))


def read(path: str | os.PathLike[str]) -> Table:
    """Read a table that `write` wrote, also one compressed by gzip, if its name ends in .gz.

    A column of hyper-parameters holds whole numbers if every cell does, else floats if every cell
    does, else booleans if every cell is True or False; otherwise text, except that a cell with a
    whole number holds that number.

    Raises:
        ValueError: no such file, a column is missing or twice there, or a cell cannot be read (with
            its line).
    """
    path = Path(path)
    try:
        header, *lines = _lines(path) or [[]]
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror or error}): give a table") from None
    except (csv.Error, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise ValueError(f"{path} is not CSV ({error}): give a table") from None
    header = [cells.of_text(name) for name in header]
    for name in (*_NAMES, *_RESULTS):
        if name not in header:
            close = difflib.get_close_matches(name, header, n=1)
            hint = f" (it has {close[0]!r})" if close else ""
            raise ValueError(f"{path} has no column {name!r}{hint}: give a table of a sweep")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has two columns {twice!r}: remove one")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise ValueError(
                f"{path} line {number} has {len(line)} cells, the header {len(header)}: "
                "fix that line"
            )
    table = _of_cells(header, lines, path, os.fspath(path.parent))
    for number, name in enumerate(table.columns["id"], start=2):
        files.file_name(name, f"{path} line {number}: id")
    return table


def of_rows(rows: Sequence[Mapping[str, Any]], source: str) -> Table:
    """Return the table that `read` would return, had `write` written these rows."""
    header, *lines = csv.reader(io.StringIO(_dumped(rows), newline=""))
    return _of_cells(header, lines, Path(source) / "rows", source)


def merge(tables: Sequence[Table]) -> Table:
    """Join tables below one another; a hyper-parameter that a table lacks is None there."""
    hyper = dict.fromkeys(name for table in tables for name in table.hyper)
    columns = {}
    for name in (*_NAMES, *hyper, *_RESULTS):
        parts = [
            table.columns.get(name, np.full(len(table.sources), None, dtype=object))
            for table in tables
        ]
        columns[name] = np.concatenate(parts) if parts else _array(name, [])
    sources = [table.sources for table in tables]
    return Table(columns, np.concatenate(sources) if sources else np.array([], dtype=object))


def settings(table: Table) -> list[Setting]:
    """Group a table's rows by study, agent, environment and hyper-parameters.

    A setting's seeds may come from several sources (runs made one by one), unless two sources have
    the same seed: then each source is a setting of its own, so that they can be compared.

    Returns:
        The settings, in the order of each one's first row.

    Raises:
        ValueError: when a source has two returns for one run and timestep.
    """
    names = ("study", "agent", "env", *table.hyper)
    groups: dict[tuple[Any, ...], list[int]] = {}
    keys = zip(*(table.columns[name] for name in names), strict=True)
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    result = []
    for indices in groups.values():
        rows = np.array(indices)
        pairs = {(table.columns["seed"][i], table.sources[i]) for i in rows}
        if len(pairs) > len({seed for seed, _ in pairs}):
            each = dict.fromkeys(table.sources[rows])
            result += [_setting(table, rows[table.sources[rows] == source]) for source in each]
        else:
            result.append(_setting(table, rows))
    return result


def _setting(table: Table, rows: np.ndarray) -> Setting:
    columns = {name: values[rows] for name, values in table.columns.items()}
    steps, diverged = columns["timesteps"], columns["status"] == "diverged"
    grid = np.unique(steps[~diverged])
    late = steps[diverged & (steps > (grid[-1] if len(grid) else -1))]
    timesteps = np.append(grid, late.max()) if len(late) else grid
    timesteps = _up_to_total(timesteps, columns)
    seeds = np.unique(columns["seed"])
    at = np.searchsorted(seeds, columns["seed"]), np.searchsorted(timesteps, steps)
    returns = np.full((len(seeds), len(timesteps)), np.nan)
    filled = np.zeros(returns.shape, dtype=bool)
    for row, (seed, step) in enumerate(zip(*at, strict=True)):
        if diverged[row]:
            continue
        if filled[seed, step]:
            raise ValueError(
                f"{table.sources[rows[row]]} has seed {seeds[seed]} of {columns['env'][row]} twice "
                f"at timestep {timesteps[step]}: remove one"
            )
        filled[seed, step], returns[seed, step] = True, columns["return_mean"][row]
    for seed, step in zip(columns["seed"][diverged], steps[diverged], strict=True):
        returns[np.ix_(seeds == seed, timesteps >= step)] = np.nan
    sources = set(table.sources[rows])
    first = {name: values[0] for name, values in columns.items()}
    return Setting(
        study=first["study"],
        agent=first["agent"],
        env=first["env"],
        hyper={name: first[name] for name in table.hyper},
        source=sources.pop() if len(sources) == 1 else "",
        seeds=seeds,
        timesteps=timesteps,
        returns=returns,
        diverged=np.isin(seeds, columns["seed"][diverged]),
    )


def _up_to_total(timesteps: np.ndarray, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a setting's timesteps, with its total where no seed has come that far yet.

    Seeds that were ended early have no return there, and so are not finished. Where all seeds
    diverged, none goes on.
    """
    total: Any = columns["total_timesteps"][0] if "total_timesteps" in columns else None
    is_number = isinstance(total, int | float) and not isinstance(total, bool)
    lost = set(columns["seed"][columns["status"] == "diverged"])
    if not is_number or lost >= set(columns["seed"]) or not timesteps[-1] < total <= _LARGEST:
        return timesteps
    return np.append(timesteps, math.ceil(total))


def _lines(path: Path) -> list[list[str]]:
    """Return the cells of every line that has any."""
    data = files.read_bytes(path)
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return [line for line in csv.reader(io.StringIO(text, newline="")) if line]


def _dumped(rows: Sequence[Mapping[str, Any]]) -> str:
    fixed = (*_NAMES, *_RESULTS)
    for number, row in enumerate(rows, start=1):
        lacking = [name for name in fixed if name not in row]
        if lacking:
            raise ValueError(f"row {number} lacks {', '.join(lacking)}: give it, or None")
    hyper = dict.fromkeys(name for row in rows for name in row if name not in fixed)
    columns = (*_NAMES, *hyper, *_RESULTS)
    lines = [cells.line(row.get(name) for name in columns) for row in rows]
    return "".join([cells.line(columns), *lines])


def _of_cells(header: list[str], lines: list[list[str]], path: Path, source: str) -> Table:
    by_column = zip(*lines, strict=True) if lines else ((),) * len(header)
    columns = {
        name: _column(name, values, path) for name, values in zip(header, by_column, strict=True)
    }
    return Table(columns, np.full(len(lines), source, dtype=object))


def _column(name: str, values: Sequence[str], path: Path) -> np.ndarray:
    """Return one column's cells, in a type that suits all of them."""
    if name in _TEXT:
        texts = [cells.of_text(cell) for cell in values]
        for number, text in enumerate(texts, start=2):
            if name == "status" and text not in _STATUSES:
                raise ValueError(f"{path} line {number}: status {text!r}: allowed: diverged, ok")
        return _array(name, texts)
    if name in ("seed", "timesteps"):
        return _array(name, _numbers(name, values, path, _whole, "whole number from 0"))
    if name in _MEASURED:
        return _array(name, _numbers(name, values, path, _measured, "number"))
    return _array(name, cells.typed(values))


def _numbers(
    name: str, values: Sequence[str], path: Path, of: Callable[[str], Any], kind: str
) -> list[Any]:
    """Return the numbers in a column's cells, or refuse the first that is none."""
    numbers = []
    for number, cell in enumerate(values, start=2):
        try:
            numbers.append(of(cell))
        except ValueError:
            shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
            raise ValueError(f"{path} line {number}: {name} {shown!r}: give a {kind}") from None
    return numbers


def _whole(cell: str) -> int:
    number = int(cell)
    if not 0 <= number <= _LARGEST:
        raise ValueError
    return number


def _measured(cell: str) -> float:
    return float(cell) if cell else np.nan


def _array(name: str, values: Sequence[Any]) -> np.ndarray:
    if name in ("seed", "timesteps"):
        return np.array(values, dtype=np.int64)
    if name in _MEASURED:
        return np.array(values, dtype=float)
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array
