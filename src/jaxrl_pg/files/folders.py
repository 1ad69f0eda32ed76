"""Folders of our own: made, removed and set aside, never through a link."""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from jaxrl_pg.files.names import is_leftover, temporary_name
from jaxrl_pg.files.opening import Identity, is_folder, require_no_link
from jaxrl_pg.files.writing import write_atomic

__all__ = [
    "HeldFolder",
    "make_folder",
    "make_new_folder",
    "remove_tree",
    "set_aside",
    "write_folder",
]

_STALE = 3600.0  # seconds after which an unfinished folder is nobody's


class HeldFolder:
    """A folder that this process writes to for long, and that somebody may move meanwhile."""

    def __init__(self, path: Path) -> None:
        """Remember which folder is at a path now; a link there is the user's own.

        Raises:
            OSError: if the system refuses.
        """
        self.path = path
        self._held = -1
        if hasattr(os, "O_DIRECTORY"):
            # While it is open, no folder that is made later can have its number.
            with contextlib.suppress(PermissionError):  # it may be written, but not be listed
                self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.stat(path) if self._held < 0 else os.fstat(self._held)
        self._identity = Identity(found.st_dev, found.st_ino)

    def require_here(self) -> None:
        """Refuse to go on if another folder, or none, is at the path now.

        Raises:
            ValueError: saying so.
        """
        now = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(self.path)
            now = Identity(found.st_dev, found.st_ino)
        if now != self._identity:
            raise ValueError(
                f"{self.path} was moved, deleted or replaced while it was written: put it back "
                "and resume the run, or start again"
            )

    def close(self) -> None:
        """Hold it no longer; a second call does nothing."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def make_folder(path: Path, within: Path | None = None) -> Path:
    """Make a folder and those above it, or take the one that is there.

    Args:
        path: the folder.
        within: the folder of ours that must hold it without a link between; see `require_no_link`.

    Returns:
        The path.

    Raises:
        ValueError: if a link or a file is there.
        OSError: if the system refuses.
    """
    require_no_link(path, within)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{path} is no folder: move it away") from None
    return path


def make_new_folder(path: Path) -> None:
    """Make a folder, and those above it, that no other process can have made too.

    Raises:
        FileExistsError: if anything is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()


def remove_tree(path: Path, within: Path, last: str | None = None) -> None:
    """Remove a folder with all that is in it; does nothing if there is none.

    Links inside it are removed, and what they lead to is not touched.

    Args:
        path: the folder.
        within: the folder of ours that holds it without a link between; see `require_no_link`.
        last: the name of a file inside that is to go last: while it is there, what a kill left of
            the folder can still be recognised.

    Raises:
        ValueError: if a link or a file is at the path, or `path` is `within` or outside it.
    """
    require_no_link(path, within)
    if path == within:
        raise ValueError(f"{path} is the whole folder: only folders inside it are removed")
    if not os.path.lexists(path):
        return
    if not is_folder(path):
        raise ValueError(f"{path} is no folder: nothing else is removed")
    if last is not None:
        for inside in path.iterdir():
            if is_folder(inside):
                shutil.rmtree(inside)
            elif inside.name != last:
                inside.unlink()
    shutil.rmtree(path)


def set_aside(path: Path, ending: str) -> Path:
    """Rename a folder so that nothing takes it for one of ours, and nothing is lost.

    Args:
        path: the folder, or the link, that is in the way; a link is renamed itself.
        ending: is added to its name, and a number where that name is taken.

    Returns:
        The new path.
    """
    number, new = 1, path.with_name(path.name + ending)
    while os.path.lexists(new):
        number += 1
        new = path.with_name(f"{path.name}{ending}{number}")
    os.rename(path, new)
    return new


def write_folder(path: Path, content: Mapping[str, str | bytes]) -> None:
    """Write a new folder of plain files, which appears only once all of them are on the disk.

    What processes that were killed have left beside it is removed once it is an hour old, and so
    can belong to nobody who still writes.

    Args:
        path: the folder; those above it are made.
        content: of each file by name.

    Raises:
        ValueError: if there is something at the path.
        OSError: if the system refuses; there is then no such folder.
    """
    if os.path.lexists(path):
        raise ValueError(f"{path} exists: choose another path, or remove it first")
    new = path.with_name(temporary_name())
    make_new_folder(new)
    for old in path.parent.iterdir():
        if is_leftover(old.name) and is_folder(old) and old.stat().st_mtime < time.time() - _STALE:
            shutil.rmtree(old, ignore_errors=True)
    try:
        for name, data in content.items():
            write_atomic(new / name, data)
        os.rename(new, path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
