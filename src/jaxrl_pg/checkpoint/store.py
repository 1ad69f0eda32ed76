"""Saving checkpoints: any pytree and the host's counters, in the background, atomically.

A checkpoint is the folder `<directory>/<step>`, written by Orbax under another name and renamed
when complete. It holds every leaf under its path and a manifest (see `manifest`) as Orbax's custom
metadata, so that plain Orbax opens it; see `orbax_file`. The layout knows no container type and no
device.
"""

import contextlib
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jaxrl_pg import files
from jaxrl_pg.checkpoint import manifest as manifests
from jaxrl_pg.checkpoint import orbax_file, writing
from jaxrl_pg.checkpoint.errors import DamagedError, reason, refusal

__all__ = ["Checkpoints", "never_saved", "prepare", "set_aside"]

Json = dict[str, Any]

_UNSAVED = "no-save-yet"  # a note, there until the first save is finished
_OURS = re.compile(rf"\d+$|\d+\.orbax-checkpoint-tmp|\d+\.deleted\d*$|{_UNSAVED}$", re.ASCII)
_DELETED = re.compile(r"(\d{1,18})\.deleted\d*", re.ASCII)


def prepare(directory: Path | str) -> Path:
    """Make the folder of checkpoints, and clear what killed processes left in it.

    Only unfinished saves and half-deleted checkpoints go. Everything else is left alone: the user's
    own files and folders, and what damage has made unreadable.

    Returns:
        The folder's absolute path.

    Raises:
        ValueError: if a link is where the folder or a checkpoint is expected, or there is
            something else in its place.
        OSError: if the system refuses.
    """
    directory = files.as_path(directory).absolute()
    files.require_no_pattern(directory)
    files.make_folder(directory)
    for path in sorted(directory.iterdir()):
        if _OURS.match(path.name):
            files.require_no_link(path)
    orbax_file.clear_unfinished(directory)
    for path in sorted(directory.iterdir()):
        step = _DELETED.fullmatch(path.name)
        if step and files.is_folder(path) and _is_half_deleted(path, int(step[1])):
            files.remove_tree(path, directory, last=orbax_file.METADATA)
    if not manifests.candidates(directory):
        files.write_atomic(directory / _UNSAVED, "no save has been finished here\n")
    return directory


def never_saved(directory: Path | str) -> bool:
    """Return whether no save was ever finished in a folder that `prepare` made.

    That is so while its note is there. In an empty folder without the note there were checkpoints.
    """
    return not manifests.candidates(directory) and files.is_file(Path(directory) / _UNSAVED)


class Checkpoints(contextlib.AbstractContextManager["Checkpoints"]):
    """The checkpoints of one run, for its one writer. Use `with`: only `close` ends a save."""

    def __init__(
        self,
        directory: Path | str,
        *,
        keep_last: int = 3,
        keep_best: bool = True,
        run: str = "",
    ) -> None:
        """Prepare the folder; see `prepare`.

        Args:
            directory: the folder of the checkpoints.
            keep_last: number of newest checkpoints to keep; never fewer than two.
            keep_best: whether to keep the one with the highest metric as well.
            run: the id of the run, which its checkpoints carry; "" for none.
        """
        self.directory = prepare(directory)
        self._held = files.HeldFolder(self.directory)
        self._keep_last, self._keep_best, self._run = max(keep_last, 2), keep_best, run
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
            ValueError: if a leaf is no array, the folder was moved or deleted, or something else
                has the checkpoint's name.
            TypeError: if `host` is no JSON.
            RuntimeError: if the previous save failed.
        """
        self.wait()
        self._held.require_here()
        if step in self.steps():
            return
        if os.path.lexists(self.directory / str(step)):
            raise ValueError(f"{self.directory / str(step)} is no checkpoint: move it away")
        snapshot = writing.take(state, host, step, metric, self._run)
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
        self._held.close()
        self.wait()

    def steps(self) -> list[int]:
        """List the steps of the finished checkpoints, oldest first."""
        return manifests.steps(self.directory)

    def rewind(self, step: int) -> list[str]:
        """Set aside what is newer than `step`, from which the run goes on; see `set_aside`."""
        self.wait()
        return set_aside(self.directory, step)

    def _write(self, snapshot: writing.Snapshot) -> None:
        step = snapshot.manifest["step"]
        path = self.directory / str(step)
        try:
            self._held.require_here()  # Orbax would make the folder anew
            writing.write(path, snapshot)
            self._held.require_here()
            files.remove_file(self.directory / _UNSAVED)
            self._prune(step)
        except Exception as error:
            self._held.require_here()
            cause = refusal(error, str(path)) or error
            said = getattr(cause, "strerror", None) or reason(cause)
            raise RuntimeError(f"saving {path} failed: {said}") from cause

    def _prune(self, saved: int) -> None:
        """Delete all but the newest and the best of this run; what is not of it stays."""
        steps = self.steps()
        for step in set(steps) - self._metrics.keys():  # those of an earlier process
            with contextlib.suppress(DamagedError, ValueError, OSError):
                path = self.directory / str(step)
                self._metrics[step] = manifests.read(path, step, self._run)["metric"]
        ours = [step for step in steps if step in self._metrics]
        kept = {saved, *ours[-self._keep_last :]}
        ranked = [(metric, s) for s in ours if (metric := self._metrics[s]) is not None]
        if ranked and self._keep_best:
            kept.add(max(ranked)[1])
        for step in ours:
            if step not in kept:
                self._delete(step)

    def _delete(self, step: int) -> None:
        """Rename first, which is atomic: no half-deleted checkpoint is ever listed."""
        doomed = files.set_aside(self.directory / str(step), ".deleted")
        files.remove_tree(doomed, self.directory, last=orbax_file.METADATA)
        self._metrics.pop(step, None)


def set_aside(directory: Path | str, step: int) -> list[str]:
    """Rename the checkpoints newer than `step`: they were passed over, and the run goes on from it.

    Returns:
        Their new names, such as `70.damaged`; nothing in them is deleted or changed.
    """
    directory = Path(directory)
    newer = [number for number in manifests.candidates(directory) if number > step]
    return [files.set_aside(directory / str(number), ".damaged").name for number in newer]


def _is_half_deleted(path: Path, step: int) -> bool:
    """Return whether a folder is what a kill left of the deletion of a checkpoint of ours."""
    try:
        return not os.listdir(path) or manifests.read(path, step)["step"] == step
    except (DamagedError, ValueError):
        return False
