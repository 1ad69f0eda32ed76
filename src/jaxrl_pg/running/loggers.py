"""Where metric rows are sent besides metrics.jsonl: TensorBoard, CSV, wandb, MLflow, or your own.

    from jaxrl_pg.running.loggers import CSV, Wandb

    jaxrl_pg.run(config, "runs/demo", loggers=[CSV(), Wandb(project="demo", mode="offline")])

A logger is any object with the three methods of `Logger`. They are called on the first process,
between compiled chunks.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxrl_pg import files
from jaxrl_pg.running.rows import Row

__all__ = ["CSV", "Logger", "MLflow", "TensorBoard", "Wandb", "require_extra"]

_MLFLOW_METRICS, _MLFLOW_PARAMS = 1000, 100  # what MLflow takes in one request


@runtime_checkable
class Logger(Protocol):
    """What a run asks of a logger."""

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Begin, or continue with a run that is resumed.

        Args:
            config: the content of config.json, a dict: agent, env, seed, config and options. The
                fields of the `Config` that `run` was given are in its "config".
            run_dir: the run's folder.
            timesteps: 0 for a new run. For a resumed one, the timesteps of its checkpoint; rows
                past them will come again.
        """

    def write(self, rows: list[Row]) -> None:
        """Take the rows of a chunk, as metrics.jsonl has them, with NaN instead of null."""

    def close(self) -> None:
        """Write out what is queued, and end."""


def require_extra(module: str, extra: str) -> None:
    """Refuse to go on without an optional library.

    Raises:
        ValueError: with the command that installs it.
    """
    found = find_spec(module)
    if found is None or found.origin is None:  # a folder of that name is no library
        raise ValueError(f'{module} is not installed: pip install "jaxrl-pg[{extra}]"')


class TensorBoard:
    """Writes scalars at global_step = timesteps into `tensorboard/` in the run's folder."""

    def __init__(self) -> None:
        """Write nothing yet.

        Raises:
            ValueError: if tensorboardX is not installed.
        """
        require_extra("tensorboardX", "tensorboard")

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Open a new event file; TensorBoard hides what an earlier one has past `timesteps`."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            os.fspath(files.make_folder(run_dir / "tensorboard")),
            purge_step=timesteps + 1 if timesteps else None,
            flush_secs=30,
            filename_suffix=f".{time.time_ns()}",  # two sessions within a second: two files
        )

    def write(self, rows: list[Row]) -> None:
        """Queue the finite numbers of the rows."""
        for row in rows:
            for key, value in _scalars(row).items():
                self._writer.add_scalar(key, value, int(row["timesteps"]))

    def close(self) -> None:
        """Write out what is queued and close the file."""
        self._writer.close()


class CSV:
    """Writes `metrics.csv` into the run's folder: a line for each row, a column for each key."""

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Drop the lines past `timesteps`, which will come again."""
        self._path, self._columns = run_dir / "metrics.csv", list[str]()
        if self._path.exists():
            self._rewrite([row for row in self._read() if int(row["timesteps"]) <= timesteps])

    def write(self, rows: list[Row]) -> None:
        """Append the rows; where they bring a new column, the file is written anew with it."""
        new = list(dict.fromkeys(key for row in rows for key in row))
        if set(new) <= set(self._columns):
            with contextlib.closing(files.GrowingFile(self._path)) as file:
                file.append(self._lines(rows).encode("utf-8"))
        else:
            before = self._read() if self._path.exists() else []
            self._columns = list(dict.fromkeys([*self._columns, *new]))
            self._rewrite([*before, *rows])

    def close(self) -> None:
        """Do nothing: what was written is in the file."""

    def _read(self) -> list[Row]:
        """Return every whole line of the file, and take over its columns."""
        text = files.read_text(self._path)
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        self._columns = list(reader.fieldnames or [])
        return list(reader)

    def _rewrite(self, rows: list[Row]) -> None:
        """Replace the file in one step."""
        header = self._lines([{name: name for name in self._columns}])
        files.write_atomic(self._path, header + self._lines(rows))

    def _lines(self, rows: list[Row]) -> str:
        """Return rows as lines of the file."""
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


class Wandb:
    """Logs to Weights & Biases at step = timesteps; its files are in the run's folder.

    Attributes:
        run: the `wandb.Run`, once `start` was called.
    """

    def __init__(self, **init: Any) -> None:
        """Keep the arguments of `wandb.init`, such as `project="demo"` and `mode="offline"`.

        Raises:
            ValueError: if wandb is not installed.
        """
        require_extra("wandb", "wandb")
        self._init = init
        self.run: Any = None

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Begin a wandb run, or continue the one that the run's folder names."""
        import wandb

        known = _recorded_id(run_dir / "wandb_run.txt")
        files.require_no_link(run_dir / "wandb")
        settings = {
            # Absolute, as wandb's files are written by a process with a folder of its own.
            "dir": os.fspath(run_dir.resolve()),
            "name": run_dir.resolve().name,
            "config": _hyper_parameters(config),
            "reinit": "create_new",  # leaves alone a wandb run that the program has opened itself
            "settings": wandb.Settings(console="off", silent=config["options"]["quiet"]),
            **({"id": known, "resume": "allow"} if known else {}),
        }
        self.run = wandb.init(**{**settings, **self._init})
        files.write_atomic(run_dir / "wandb_run.txt", self.run.id)

    def write(self, rows: list[Row]) -> None:
        """Log the finite numbers of the rows. wandb ignores steps that it has already."""
        for row in rows:
            self.run.log(_scalars(row), step=int(row["timesteps"]))

    def close(self) -> None:
        """Write out what is queued and finish the wandb run."""
        self.run.finish()


class MLflow:
    """Logs to an MLflow server, or to a folder, at step = timesteps."""

    def __init__(self, tracking_uri: str | None = None, experiment: str = "jaxrl_pg") -> None:
        """Name where to log.

        Args:
            tracking_uri: such as "http://localhost:5000" or "file:runs/mlruns"; None takes what
                MLflow is set to (MLFLOW_TRACKING_URI).
            experiment: the MLflow experiment, made if absent.

        Raises:
            ValueError: if MLflow is not installed.
        """
        require_extra("mlflow", "mlflow")
        self._uri, self._experiment = tracking_uri, experiment

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Begin an MLflow run, or continue the one that the run's folder names."""
        if self._uri is not None and self._uri.startswith("file:"):
            # MLflow refuses folders unless told that one is meant.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self._uri)
        known = _recorded_id(run_dir / "mlflow_run.txt")
        if known:
            self._id = known
            self._client.update_run(known, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        number = found.experiment_id if found else self._client.create_experiment(self._experiment)
        self._id = self._client.create_run(number, run_name=run_dir.resolve().name).info.run_id
        given = [Param(key, str(value)) for key, value in _hyper_parameters(config).items()]
        for start in range(0, len(given), _MLFLOW_PARAMS):
            self._client.log_batch(self._id, params=given[start : start + _MLFLOW_PARAMS])
        files.write_atomic(run_dir / "mlflow_run.txt", self._id)

    def write(self, rows: list[Row]) -> None:
        """Log the finite numbers of the rows."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(key, float(value), now, int(row["timesteps"]))
            for row in rows
            for key, value in _scalars(row).items()
        ]
        for start in range(0, len(metrics), _MLFLOW_METRICS):
            self._client.log_batch(self._id, metrics[start : start + _MLFLOW_METRICS])

    def close(self) -> None:
        """Mark the MLflow run as finished."""
        self._client.set_terminated(self._id)


def _scalars(row: Row) -> dict[str, float]:
    """Return the finite numbers of a row, but for those that say where it stands."""
    values = {key: np.asarray(row[key]) for key in row.keys() - {"iteration", "timesteps"}}
    return {
        key: value.item()
        for key, value in values.items()
        if value.size == 1 and value.dtype.kind in "biuf" and np.isfinite(value)
    }


def _hyper_parameters(config: dict[str, Any]) -> dict[str, Any]:
    """Return, flat, what a comparison of runs sorts by."""
    return {"agent": config["agent"], "seed": config["seed"], **config["config"]}


def _recorded_id(path: Path) -> str | None:
    """Return the id that an earlier session of the run left behind."""
    return files.read_text(path, limit=1000) if os.path.lexists(path) else None
