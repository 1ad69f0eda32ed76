"""What a run leaves behind: its folder, its config, its metric rows, and the lock on them.

    config.json     what the run was asked to do
    metrics.jsonl   one JSON object a line, in the order of training
    history.jsonl   when and by what it was trained, see `jaxrl_pg.running.history`
    curve.png       the learning curve, see `jaxrl_pg.running.curve`
    checkpoints/    see `jaxrl_pg.checkpoint`
    lock            locked while a process writes, and free however that process ends
    lock.owner      which process that is

Reading a folder needs no JAX: reports open many, and should start at once.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypedDict

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.files import schema
from jaxrl_pg.running import hints
from jaxrl_pg.running.metrics_file import MetricsFile
from jaxrl_pg.running.rows import Row

if TYPE_CHECKING:
    from jaxrl_pg.config import BaseConfig

__all__ = ["RunFolder", "config_of"]

_RESTORE = "restore it, or choose another run"


class _Values(TypedDict):
    """What is read of the agent's config before the agent is known."""

    env: NotRequired[str]
    num_devices: NotRequired[schema.Positive]


class _Config(TypedDict):
    """The content of config.json; a part that a caller needs, it asks for."""

    agent: NotRequired[str]
    config_class: NotRequired[str]
    env: NotRequired[str]
    seed: NotRequired[schema.Count]
    num_seeds: NotRequired[schema.Positive]
    run: NotRequired[str]
    config: NotRequired[_Values]
    options: NotRequired[dict[str, Any]]
    initial_policy: NotRequired[dict[str, Any]]


class RunFolder:
    """One run on disk: read it freely; write it inside `with run:`, which holds its lock."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the folder and touch nothing; see `create` and `open`."""
        self.path = files.as_path(path, "run_dir")
        self.checkpoints_dir = self.path / "checkpoints"
        self._config_path = self.path / "config.json"
        self.curve_path = self.path / "curve.png"
        self._metrics = MetricsFile(self.path / "metrics.jsonl")
        self._lock: files.Lock | None = None
        self._held: files.HeldFolder | None = None

    @classmethod
    def create(cls, path: str | os.PathLike[str], config: Row) -> Self:
        """Make the folder of a new run; whatever is wrong is found before anything is written.

        Args:
            path: a folder that is absent or empty.
            config: JSON values and NumPy scalars; "agent" and "env" name the run in messages.

        Returns:
            The folder, holding config.json, not locked.

        Raises:
            ValueError: if the folder holds a run or another file, is in use or cannot be
                written, or if the config is not JSON.
        """
        run = cls(path)
        _plain(config, "config", finite=True)
        try:
            run._require_new()
            files.require_no_pattern(run.path)
            files.require_writable(run.path)
            run.path.mkdir(parents=True, exist_ok=True)
            with run:
                run._require_new()  # another process may have come first
                run.write_config(config)
        except OSError as error:
            raise files.unwritable(run.path, error.strerror) from error
        return run

    @classmethod
    def create_beside(cls, path: str | os.PathLike[str], config: Row) -> Self:
        """Make the folder of a new run, with a number added to its name where that is taken.

        Of several processes that ask for the same name at once, each gets a folder of its own.
        """
        _plain(config, "config", finite=True)
        path = files.as_path(path, "run_dir")
        files.require_no_pattern(path)
        files.require_writable(path)
        for number in itertools.count(1):
            name = path if number == 1 else path.with_name(f"{path.name}-{number}")
            try:
                files.make_new_folder(name)
            except FileExistsError:
                continue
            return cls.create(name, config)
        raise AssertionError  # numbers do not end

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing run, to read it or (inside `with`) to write it.

        Args:
            path: a folder that `create` made.

        Returns:
            The folder, not locked.

        Raises:
            ValueError: if no run is there (the message lists those beside it), or its
                config.json cannot be read.
        """
        run = cls(path)
        if not run._config_path.is_file():
            raise ValueError(_no_run_message(run.path))
        _ = run.config  # fail now, not later
        return run

    def __enter__(self) -> Self:
        """Take the lock, see `lock`."""
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        """Free the lock."""
        self.unlock()

    def lock(self) -> None:
        """Take the lock.

        Raises:
            ValueError: if another process holds the lock, or a link is where a file or a folder
                of the run is expected.
            OSError: if the folder cannot be written.
        """
        history = self.path / "history.jsonl"
        ours = (self._config_path, self._metrics.path, history, self.curve_path)
        for path in (*ours, self.checkpoints_dir):
            files.require_no_link(path)
        self._lock = files.lock(self.path)
        try:
            files.clear_leftovers(self.path)
            self._held = files.HeldFolder(self.path)
        except BaseException:
            self.unlock()
            raise

    def unlock(self) -> None:
        """Free the lock; does nothing if it is not held."""
        self._metrics.close()
        if self._held is not None:
            self._held.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def config(self) -> Row:
        """The content of config.json as it is now."""
        config: Row = schema.read(self._config_path, _Config, _RESTORE)
        return config

    @property
    def run_id(self) -> str:
        """What the run's checkpoints must carry, too; "" for a run of an earlier version."""
        return str(self.config.get("run", ""))

    @property
    def seeds(self) -> tuple[int, int]:
        """The run's first seed, and how many it trains side by side."""
        config = self.config
        return config.get("seed", 0), config.get("num_seeds", 1)

    def write_config(self, config: Row) -> None:
        """Replace config.json in one step."""
        self._require_lock()
        text = json.dumps(_plain(config, "config", finite=True), indent=2)
        files.write_atomic(self._config_path, text + "\n")

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows to metrics.jsonl. They outlive this process and, after `sync`, the machine.

        Args:
            rows: scalars by name, "iteration" and "timesteps" among them; what is not finite is
                written as null.

        Raises:
            ValueError: if the folder or the file was moved or deleted.
        """
        self._require_lock()
        self._metrics.append("".join(_line(row) for row in rows))

    def sync(self) -> None:
        """Force the rows to the disk; call before a checkpoint, which must not outlive them."""
        self._require_lock()
        self._metrics.sync()

    def drop_after(self, iteration: int) -> int:
        """Drop, in one step, the rows that are newer than a restored checkpoint.

        Args:
            iteration: the checkpoint's; rows of this iteration stay.

        Returns:
            The number of rows dropped.
        """
        self._require_lock()
        return self._metrics.drop_after(iteration)

    def rows(self) -> list[Row]:
        """Read every whole row; a last line that is torn or still being written is left out.

        Raises:
            ValueError: naming the first line that is no row, or is out of order.
        """
        if self._lock is not None:
            self._require_lock()
        return self._metrics.rows()

    def require_rows(self, iteration: int) -> list[str]:
        """Look at all rows before any is cut.

        Args:
            iteration: where the run goes on.

        Returns:
            A line about rows that are missing before that, if some are.

        Raises:
            ValueError: if a line of metrics.jsonl is no row, or is out of order.
            OSError: if the file cannot be written.
        """
        self._require_lock()
        self._metrics.require_writable()
        there = {row["iteration"] for row in self.rows() if 0 < row["iteration"] <= iteration}
        if len(there) == iteration:
            return []
        first = next(number for number in itertools.count(1) if number not in there)
        return [
            f"{self._metrics.path} lacks the rows of {iteration - len(there)} of {iteration} "
            f"iterations (the first is {first}): they stay missing, unless the file is restored"
        ]

    def _require_lock(self) -> None:
        if self._lock is None or self._held is None:
            raise RuntimeError(f"{self.path} is not locked: write inside `with run:`")
        self._held.require_here()
        self._metrics.require_here()

    def _require_new(self) -> None:
        """Refuse a folder in which a new run would mix with what is there."""
        path = self.path
        if not path.is_dir():
            return
        if self._config_path.exists():
            config = self.config
            named = " on ".join(str(config[key]) for key in ("agent", "env") if key in config)
            raise ValueError(
                f"{path} already holds a run{f' ({named})' if named else ''}: resume it with "
                f"`{hints.go_on(path, config.get('config', {}))}`, or choose another run_dir"
            )
        names = set(os.listdir(path)) - files.LOCK_NAMES
        held = sorted(name for name in names if not files.is_leftover(name))
        if held:
            listed = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
            raise ValueError(f"{path} is not empty (it holds {listed}): choose another run_dir")


def config_of(run: Path, saved: Row, **objects: Any) -> BaseConfig:
    """Return the agent's config that a run was started with.

    Args:
        run: the run's folder, named in messages.
        saved: the content of its config.json.
        **objects: `env`, `network`, `optimizer` and `core`, for a run that was given such objects;
            None where it was not.

    Raises:
        ValueError: if the file lacks a part or names an unknown agent or environment, or if the run
            was given an object and none, or another one, is given here.
    """
    from jaxrl_pg import agents, envs
    from jaxrl_pg import config as configs

    for part, kind in (("agent", str), ("config", dict), ("options", dict), ("seed", int)):
        if not isinstance(saved.get(part), kind):
            raise ValueError(f"{run}/config.json has no good {part!r}: restore the file")
    name, values = saved["agent"], dict(saved["config"])
    if name not in agents.known_agents() and "config_class" not in saved:
        known = configs.nearest(name, agents.known_agents())
        raise ValueError(f"{run} is a run of {name!r}: {known}")
    try:
        config_class = agents.config_class(str(saved.get("config_class", name)))
    except ValueError as error:
        raise ValueError(f"{run} cannot be read here: {error}") from None
    for field in configs.OBJECTS:
        recorded, given = values.get(field), objects.get(field)
        if given is None:
            if field in hints.objects_in(values):
                raise ValueError(hints.missing_object(run, field, str(recorded)))
            continue
        if field != "env" and recorded != configs.path_of(given):
            raise ValueError(
                f"{run} was given {field} {recorded} and not {configs.path_of(given)}: pass the "
                "one that it had"
            )
        values[field] = given
    try:
        config = configs.from_dict(config_class, values)
        envs.of(config)
    except ValueError as error:
        raise ValueError(f"{run}/config.json: {error}") from error
    return config


def _plain(value: Any, where: str, finite: bool = False) -> Any:
    """Turn what NumPy can read into JSON values; NaN and inf become None, or are refused."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}.{key}", finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]", finite) for i, item in enumerate(value)]
    if isinstance(value, float):
        if finite and not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold: give a finite number")
        return float(value) if math.isfinite(value) else None
    array = np.asarray(value)
    if array.dtype.kind in "OScMm":
        raise ValueError(f"{where} is a {type(value).__name__}: give a number, string or list")
    return _plain(array.tolist(), where, finite)


def _line(row: Row) -> str:
    """Write a row as a line of metrics.jsonl."""
    return json.dumps({key: _plain(value, key) for key, value in row.items()}) + "\n"


def _no_run_message(path: Path) -> str:
    """Say where a run was expected and which runs are near, the likeliest first."""
    parent = path.absolute().parent
    message = f"no run in {path}: expected {path / 'config.json'}"
    inside = sorted(str(file.parent) for file in path.glob("*/config.json"))
    if inside:
        return f"{message}; runs in it are: {', '.join(inside[:8])}" + ", ..." * (len(inside) > 8)
    if (parent / "config.json").is_file():
        return f"{message}; did you mean {path.parent}?"
    names = sorted(file.parent.name for file in parent.glob("*/config.json"))
    if not names:
        return f"{message}; there are no runs in {path.parent}"
    close = difflib.get_close_matches(path.name, names, n=3)
    names = close + [name for name in names if name not in close]
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    return f"{message}; runs there are: {listed}{hint}"
