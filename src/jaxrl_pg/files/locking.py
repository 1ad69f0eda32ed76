"""One process at a time in a folder, and whether it can be written at all."""

import contextlib
import os
import platform
from pathlib import Path

import filelock

from jaxrl_pg.files.opening import Identity, identity, is_file, read_bytes, require_no_link
from jaxrl_pg.files.writing import write_atomic

__all__ = ["LOCK_NAMES", "Lock", "lock", "require_no_pattern", "require_writable", "unwritable"]

_NO_NAME = "*?[\\"  # in a folder of checkpoints
LOCK_NAMES = frozenset({"lock", "lock.owner"})


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
        self._ours: Identity | None = None

    def acquire(self) -> None:
        """Take the lock, and write down who holds it.

        Raises:
            ValueError: if another process holds it, or a link or anything else than a plain file
                is where the lock is to be.
            OSError: if the system refuses, for want of space say; nothing is locked then.
        """
        for path in (self._folder / "lock", self._owner):
            require_no_link(path)
            if os.path.lexists(path) and (not is_file(path) or _is_shared(path)):
                raise ValueError(f"{path} is no plain file of its own: move it away")
        try:
            self._lock.acquire()
            write_atomic(self._owner, f"{os.getpid()} on {platform.node()}")
            self._ours = identity(self._owner)
        except filelock.Timeout:
            raise ValueError(
                f"{self._folder} is in use by process {self._owner_name()}: wait for it to end, "
                "or stop it"
            ) from None
        except BaseException:  # a full disk, say: nobody may hold a lock without knowing it
            self.release()
            raise

    def release(self) -> None:
        """Free the lock; does nothing if it is free already."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # on Windows, while another process reads it
                if self._ours is not None and identity(self._owner) == self._ours:
                    self._owner.unlink()
            self._lock.release()

    def _owner_name(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            name = read_bytes(self._owner, limit=1000).decode("utf-8", "replace")
            return "".join(c for c in name if c.isprintable()) or "(just started)"
        return "(just started)"


def lock(folder: Path) -> Lock:
    """Lock a folder for this process, until the lock's `release` or the end of the process.

    Raises:
        ValueError: if another process holds the lock, or the lock's file is a link.
        OSError: if the system refuses.
    """
    held = Lock(folder)
    held.acquire()
    return held


def _is_shared(path: Path) -> bool:
    """Return whether a file holds something and has a second name: a lock might empty it."""
    found = os.lstat(path)
    return found.st_nlink > 1 and found.st_size > 0


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


def require_no_pattern(path: Path) -> None:
    """Refuse a path that Orbax and TensorStore would read as another one, or as a pattern.

    Raises:
        ValueError: naming the character.
    """
    for part in path.absolute().parts[1:]:
        found = next((x for x in _NO_NAME if x in part), None)
        if found is not None:
            raise unwritable(path, f"checkpoints cannot be kept below a folder with {found} in it")


def unwritable(path: Path, why: str | None) -> ValueError:
    """Return the error to raise for a folder that cannot be written."""
    return ValueError(f"cannot write {path} ({why}): choose another run_dir")
