"""Where metric rows are sent besides the run's folder: TensorBoard."""

import os
import time
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Self

import numpy as np

from jaxrl_pg.running.rows import Row

__all__ = ["TensorBoard", "require_tensorboard"]


def require_tensorboard() -> None:
    """Refuse to go on without tensorboardX; call before a run folder is made.

    Raises:
        ValueError: if it is not installed.
    """
    if find_spec("tensorboardX") is None:
        raise ValueError('tensorboard=True needs the extra: pip install "jaxrl-pg[tensorboard]"')


class TensorBoard:
    """Writes rows as TensorBoard scalars, one for each key, at global_step = timesteps."""

    def __init__(self, path: str | os.PathLike[str], resumed_at: int | None = None) -> None:
        """Open an event file.

        Args:
            path: the log folder, made if absent.
            resumed_at: timesteps of the checkpoint that a resumed run continues from; TensorBoard
                hides what an earlier session wrote past it.

        Raises:
            ValueError: if tensorboardX is not installed.
        """
        require_tensorboard()
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            os.fspath(path),
            purge_step=None if resumed_at is None else resumed_at + 1,
            flush_secs=30,
            filename_suffix=f".{time.time_ns()}",  # two sessions within a second: two files
        )

    def __enter__(self) -> Self:
        """Return the writer, which has been open since it was made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write out what is queued and close the file."""
        self._writer.close()

    def write(self, rows: Iterable[Row]) -> None:
        """Queue the finite numbers of the rows; TensorBoard has no place for other values."""
        for row in rows:
            for key in row.keys() - {"iteration", "timesteps"}:
                value = np.asarray(row[key])
                if value.size == 1 and value.dtype.kind in "biuf" and np.isfinite(value):
                    self._writer.add_scalar(key, value.item(), int(row["timesteps"]))
