"""Files that survive: replaced in one step, and locked by one process at a time."""

import fcntl
import os
import platform
from pathlib import Path

__all__ = ["lock", "require_writable", "unwritable", "write_atomic"]


def write_atomic(path: Path, text: str) -> None:
    """Write so that a reader, or a crash, meets the old file or the new one, nothing between."""
    new = path.with_name(path.name + ".tmp")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def lock(folder: Path) -> int:
    """Lock a folder for this process; the file descriptor returned holds the lock.

    Raises:
        ValueError: if another process holds it.
    """
    lock_file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(lock_file, 200).decode(errors="replace")
        os.close(lock_file)
        if not isinstance(error, BlockingIOError):
            raise
        raise ValueError(
            f"{folder} is in use by process {owner or '(just started)'}: wait for it to end, "
            "or stop it"
        ) from error
    os.ftruncate(lock_file, 0)
    os.write(lock_file, f"{os.getpid()} on {platform.node()}".encode())
    return lock_file


def require_writable(path: Path) -> None:
    """Ask the nearest path that exists whether `path` can be made in it, or filled.

    Raises:
        ValueError: if not.
    """
    nearest = next((near for near in (path, *path.parents) if os.path.lexists(near)), Path())
    if not nearest.is_dir():
        raise unwritable(path, f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise unwritable(path, f"no permission to write in {nearest}")


def unwritable(path: Path, why: str | None) -> ValueError:
    """The error to raise for a folder that cannot be written."""
    return ValueError(f"cannot write {path} ({why}): choose another --run-dir")
