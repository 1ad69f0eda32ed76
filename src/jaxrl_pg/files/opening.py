"""Opening and reading plain files, never through a link."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Identity",
    "descriptor",
    "identity",
    "is_file",
    "is_folder",
    "naming",
    "read_bytes",
    "read_text",
    "readable_size",
    "require_no_link",
]

# Systems without links of this kind, or without pipes that wait, need no such flag.
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_CLOSE = getattr(os, "O_CLOEXEC", 0)


class Identity(NamedTuple):
    """What makes a file or a folder the same one, whatever its name."""

    device: int
    number: int


def identity(path: Path) -> Identity | None:
    """Return which file or folder is at a path now, None if there is none; follows no link."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = os.lstat(path)
        return Identity(found.st_dev, found.st_ino)
    return None


def is_file(path: Path) -> bool:
    """Return whether a plain file, and no link, is at the path.

    Raises:
        OSError: if the system does not say, for lack of permission say.
    """
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Return whether a folder, and no link, is at the path.

    Raises:
        OSError: if the system does not say, for lack of permission say.
    """
    return _is(path, stat.S_ISDIR)


def require_no_link(path: Path, within: Path | None = None) -> None:
    """Refuse a link at a path, and at each folder between it and the one that is ours.

    Args:
        path: where a file or a folder of ours is, or will be.
        within: the folder that the program made, at or above `path`; links above it are the
            user's own. None looks at the path's last part only.

    Raises:
        ValueError: naming the link, and where it leads; or if `path` is not within that folder.
    """
    if within is not None and (
        not path.is_relative_to(within) or ".." in path.relative_to(within).parts
    ):
        raise ValueError(f"{path} is outside {within}: nothing there is read, written or deleted")
    for place in (path, *path.parents):
        if within is not None and place == within:
            return
        if os.path.islink(place):
            raise ValueError(
                f"{place} is a link to {os.readlink(place)}: put the file or the folder itself "
                "there (no link inside a folder of results is followed)"
            )
        if within is None:
            return


def descriptor(path: Path, flags: int) -> int:
    """Open a plain file, which the caller closes.

    Args:
        path: the file.
        flags: as for `os.open`, such as `os.O_RDONLY`.

    Raises:
        ValueError: if a link, a folder or anything else than a plain file is there.
        OSError: if the system refuses.
    """
    require_no_link(path)
    opened = os.open(path, flags | _NO_LINK | _NO_WAIT | _BINARY | _CLOSE, 0o666)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise ValueError(f"{path} is no plain file: put the file itself there")
    return opened


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Read a plain file.

    Args:
        path: the file.
        limit: the number of bytes that it may hold; None for as many as there is memory for.

    Raises:
        ValueError: if a link or anything else is there, or it is longer.
        OSError: if the system refuses.
    """
    with naming(path), os.fdopen(descriptor(path, os.O_RDONLY), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise ValueError(f"{path} holds {size:,} bytes, more than the {limit:,} it may have")
        try:
            return file.read()
        except MemoryError:
            raise ValueError(f"{path} holds {size:,} bytes, more than fit in memory") from None


def readable_size(path: Path) -> int:
    """Open a plain file, and return its number of bytes; see `read_bytes`."""
    with naming(path):
        opened = descriptor(path, os.O_RDONLY)
        try:
            return os.fstat(opened).st_size
        finally:
            os.close(opened)


def read_text(path: Path, limit: int | None = None) -> str:
    """Read a plain file of UTF-8 text; see `read_bytes`.

    Raises:
        ValueError: also if it is no such text.
    """
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text (byte {error.start})") from None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the system name the path, which it does not where it had a descriptor."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    try:
        return kind(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
