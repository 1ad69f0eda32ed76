"""Files that survive a crash: replaced in one step, and locked by one process at a time."""

import contextlib
import os
import platform
from pathlib import Path

import filelock

__all__ = ["LOCK_NAMES", "Lock", "lock", "require_writable", "unwritable", "write_atomic"]

LOCK_NAMES = frozenset({"lock", "lock.owner"})


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash, sees either all of the old or all of the new."""
    new = path.with_name(path.name + ".tmp")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


class Lock:
    """The lock on a folder that this process holds; `lock` takes it."""

    def __init__(self, folder: Path) -> None:
        """Name the lock of a folder; nothing is locked yet."""
        self._folder = folder
        # The kernel frees this lock however the process ends. Its file stays: once it is removed,
        # two processes could hold two locks.
        self._lock = filelock.FileLock(folder / "lock", blocking=False, thread_local=False)
        # The name of the owner has a file of its own, since a locked file is unreadable on Windows.
        self._owner = folder / "lock.owner"

    def acquire(self) -> None:
        """Take the lock, and write down who holds it.

        Raises:
            ValueError: if another process holds it.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise ValueError(
                f"{self._folder} is in use by process {self._owner_name()}: wait for it to end, "
                "or stop it"
            ) from None
        try:
            self._owner.write_text(f"{os.getpid()} on {platform.node()}", encoding="utf-8")
        except OSError:  # a full disk, say: nobody may hold a lock without knowing it
            self.release()
            raise

    def release(self) -> None:
        """Free the lock; does nothing if it is free already."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # on Windows, while another process reads it
                self._owner.unlink()
            self._lock.release()

    def _owner_name(self) -> str:
        with contextlib.suppress(OSError):
            return self._owner.read_text(encoding="utf-8") or "(just started)"
        return "(just started)"


def lock(folder: Path) -> Lock:
    """Lock a folder for this process, until the lock's `release` or the end of the process.

    Raises:
        ValueError: if another process holds the lock.
    """
    held = Lock(folder)
    held.acquire()
    return held


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be made or filled, judging by its nearest parent that exists.

    Raises:
        ValueError: naming what is in the way.
    """
    try:
        os.fspath(path.absolute()).encode()
    except UnicodeEncodeError:  # bytes of no UTF-8, or umlauts in a process whose locale is C
        raise unwritable(path, "its name is no UTF-8 here, LC_ALL=C.UTF-8 may help") from None
    nearest = next((near for near in (path, *path.parents) if os.path.lexists(near)), Path())
    if not nearest.is_dir():
        raise unwritable(path, f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise unwritable(path, f"no permission to write in {nearest}")


def unwritable(path: Path, why: str | None) -> ValueError:
    """Return the error to raise for a folder that cannot be written."""
    return ValueError(f"cannot write {path} ({why}): choose another --run-dir")
