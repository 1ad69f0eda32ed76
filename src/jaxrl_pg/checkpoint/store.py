"""Saving checkpoints: any pytree and the host's counters, in the background, atomically.

A checkpoint is the folder `<directory>/<step>`, written by Orbax under another name and renamed
when complete. It holds every leaf under its path and a manifest (see `manifest`) as Orbax's custom
metadata, so that plain Orbax opens it; see `orbax_file`. The layout knows no container type and no
device.
"""

import contextlib
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, writing
from jaxrl_pg.checkpoint.errors import DamagedError, reason

__all__ = ["Checkpoints"]

Json = dict[str, Any]


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one run, for its one writer. Use `with`: only `close` ends a save."""

    def __init__(
        self, directory: Path | str, *, keep_last: int = 3, keep_best: bool = True
    ) -> None:
        """Make the folder, and clear what killed processes left half written or half deleted.

        Args:
            directory: the folder of the checkpoints.
            keep_last: number of newest checkpoints to keep; never fewer than two.
            keep_best: whether to keep the one with the highest metric as well.
        """
        self.directory = Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        orbax_file.clear_unfinished(self.directory)
        for half_deleted in self.directory.glob("*.deleted"):
            shutil.rmtree(half_deleted)
        self._keep_last, self._keep_best = max(keep_last, 2), keep_best
        self._metrics: dict[int, float | None] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __exit__(self, *_: object) -> None:
        """Finish the save in progress, if any."""
        self.close()

    def save(self, step: int, state: Any, host: Json, metric: float | None = None) -> None:
        """Wait for the previous save, copy the state, and save it in the background.

        Args:
            step: names the checkpoint: 0 or more, larger is newer. If it exists, nothing is done.
            state: a pytree of JAX or NumPy arrays; it may be donated or changed on return.
            host: JSON values to keep beside it.
            metric: ranks the checkpoint, higher is better; None, NaN and infinities never do.

        Raises:
            ValueError: if a leaf is no array.
            TypeError: if `host` is no JSON.
            RuntimeError: if the previous save failed.
        """
        self.wait()
        if step in self.steps():
            return
        snapshot = writing.take(state, host, step, metric)
        self._pending = self._thread.submit(self._write, snapshot)

    def wait(self) -> None:
        """Wait until the last save is on disk.

        Raises:
            RuntimeError: if it failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait for the last save and end the thread; a second call does nothing."""
        self._thread.shutdown()
        self.wait()

    def steps(self) -> list[int]:
        """List the steps of the finished checkpoints, oldest first."""
        return manifests.steps(self.directory)

    def rewind(self, step: int) -> None:
        """Delete the checkpoints newer than `step`, from which the run goes on."""
        self.wait()
        self._delete([newer for newer in self.steps() if newer > step])

    def _write(self, snapshot: writing.Snapshot) -> None:
        step = snapshot.manifest["step"]
        path = self.directory / str(step)
        try:
            writing.write(path, snapshot)
            self._prune(step)
        except Exception as error:
            raise RuntimeError(f"saving {path} failed: {reason(error)}") from error

    def _prune(self, saved: int) -> None:
        """Delete all but the newest and the best."""
        steps = self.steps()
        for step in set(steps) - self._metrics.keys():  # those of an earlier process
            self._metrics[step] = None
            with contextlib.suppress(DamagedError):
                self._metrics[step] = manifests.read(self.directory / str(step))["metric"]
        kept = {saved, *steps[-self._keep_last :]}
        ranked = [(metric, s) for s in steps if (metric := self._metrics[s]) is not None]
        if ranked and self._keep_best:
            kept.add(max(ranked)[1])
        self._delete([step for step in steps if step not in kept])

    def _delete(self, steps: list[int]) -> None:
        """Rename first, which is atomic: no half-deleted checkpoint is ever listed."""
        for step in steps:
            doomed = self.directory / f"{step}.deleted"
            (self.directory / str(step)).rename(doomed)
            shutil.rmtree(doomed)
            self._metrics.pop(step, None)
