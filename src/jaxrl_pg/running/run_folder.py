"""What a run leaves behind: its folder, its config, its metric rows, and the lock on them.

    config.json     what the run was asked to do
    metrics.jsonl   one JSON object a line, in the order of training
    curve.png       the learning curve, see `jaxrl_pg.running.curve`
    checkpoints/    see `jaxrl_pg.checkpoint`
    lock            locked while a process writes, and free however that process ends
    lock.owner      which process that is

Reading a folder needs no JAX: reports open many, and should start at once.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jaxrl_pg.running import files
from jaxrl_pg.running.rows import Row

if TYPE_CHECKING:
    from jaxrl_pg.config import BaseConfig

__all__ = ["RunFolder", "config_of"]


class RunFolder:
    """One run on disk: read it freely; write it inside `with run:`, which holds its lock."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the folder and touch nothing; see `create` and `open`."""
        self.path = Path(path).expanduser()
        self.checkpoints_dir = self.path / "checkpoints"
        self._config_path = self.path / "config.json"
        self._metrics_path = self.path / "metrics.jsonl"
        self._lock: files.Lock | None = None

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
            files.require_writable(run.path)
            run.path.mkdir(parents=True, exist_ok=True)
            with run:
                run._require_new()  # another process may have come first
                run.write_config(config)
        except OSError as error:
            raise files.unwritable(run.path, error.strerror) from error
        return run

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
        """Take the lock, and cut a last row that a killed process left half written.

        Raises:
            ValueError: if another process holds the lock, or the folder cannot be written.
        """
        try:
            self._lock = files.lock(self.path)
            if self._metrics_path.exists():
                with self._metrics_path.open("r+b") as file:
                    file.truncate(file.read().rfind(b"\n") + 1)
        except OSError as error:
            self.unlock()
            raise files.unwritable(self.path, error.strerror) from error

    def unlock(self) -> None:
        """Free the lock; does nothing if it is not held."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def config(self) -> Row:
        """The content of config.json as it is now."""
        try:
            config = json.loads(self._config_path.read_text(encoding="utf-8"))
        except ValueError as error:
            config = error
        if not isinstance(config, dict):
            raise ValueError(
                f"{self._config_path} holds no JSON object ({config}): restore it, or choose "
                "another run"
            )
        return config

    def write_config(self, config: Row) -> None:
        """Replace config.json in one step."""
        self._require_lock()
        text = json.dumps(_plain(config, "config", finite=True), indent=2)
        files.write_atomic(self._config_path, text + "\n")

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows to metrics.jsonl. They outlive this process and, after `sync`, the machine.

        Args:
            rows: scalars by name, "iteration" among them; what is not finite is written as null.
        """
        self._require_lock()
        text = "".join(_line(row) for row in rows)
        with self._metrics_path.open("a", encoding="utf-8") as file:
            file.write(text)

    def sync(self) -> None:
        """Force the rows to the disk; call before a checkpoint, which must not outlive them."""
        self._require_lock()
        with self._metrics_path.open("a", encoding="utf-8") as file:
            os.fsync(file.fileno())

    def drop_after(self, iteration: int) -> int:
        """Drop, in one step, the rows that are newer than a restored checkpoint.

        Args:
            iteration: the checkpoint's; rows of this iteration stay.

        Returns:
            The number of rows dropped.
        """
        self._require_lock()
        rows = self.rows()
        kept = [row for row in rows if row["iteration"] <= iteration]
        if len(kept) < len(rows):
            files.write_atomic(self._metrics_path, "".join(_line(row) for row in kept))
        return len(rows) - len(kept)

    def rows(self) -> list[Row]:
        """Read every whole row; a last line that is torn or still being written is left out."""
        if not self._metrics_path.exists():
            return []
        rows = []
        lines = self._metrics_path.read_bytes().split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"{self._metrics_path} line {number} is not JSON ({error}): delete that line"
                ) from error
        return rows

    def _require_lock(self) -> None:
        if self._lock is None:
            raise RuntimeError(f"{self.path} is not locked: write inside `with run:`")

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
                f"`jaxrl-pg resume {shlex.quote(str(path))}`, or choose another --run-dir"
            )
        held = sorted(set(os.listdir(path)) - files.LOCK_NAMES - {"config.json.tmp"})
        if held:
            listed = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
            raise ValueError(f"{path} is not empty (it holds {listed}): choose another --run-dir")


def config_of(run: Path, saved: Row, **objects: Any) -> BaseConfig:
    """Return the agent's config that a run was started with.

    Args:
        run: the run's folder, named in messages.
        saved: the content of its config.json.
        **objects: `env`, `network` and `optimizer`, for a run that was given such objects; None
            where it was not.

    Raises:
        ValueError: if the file lacks a part or names an unknown agent, or if the run was given an
            object and none, or another one, is given here.
    """
    from jaxrl_pg import agents
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
            if isinstance(recorded, str) and ":" in recorded:
                raise ValueError(f"{run} was given an object of {recorded}: pass {field}=...")
            continue
        if field != "env" and recorded != configs.path_of(given):
            raise ValueError(
                f"{run} was given {field} {recorded} and not {configs.path_of(given)}: pass the "
                "one that it had"
            )
        values[field] = given
    return configs.from_dict(config_class, values)


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
