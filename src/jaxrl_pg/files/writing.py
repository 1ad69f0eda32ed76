"""Writing a file in one step, and removing one."""

import contextlib
import errno
import os
from pathlib import Path

from jaxrl_pg.files.names import is_leftover, temporary_name
from jaxrl_pg.files.opening import descriptor, is_file, naming, require_no_link

__all__ = ["clear_leftovers", "remove_file", "write_atomic"]

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}  # of folders, on some systems


def write_atomic(path: Path, content: str | bytes, within: Path | None = None) -> None:
    """Replace a file so that a reader, or a crash, sees either all of the old or all of the new.

    Args:
        path: the file.
        content: its new content; text is written as UTF-8.
        within: the folder of ours that must hold it without a link between; see `require_no_link`.

    Raises:
        ValueError: if there is a link, a folder or anything else than a plain file at the path.
        OSError: if the system refuses; the file is then as it was.
    """
    require_no_link(path, within)
    if os.path.lexists(path) and not is_file(path):
        raise ValueError(f"{path} is no plain file: move it away")
    new = path.with_name(temporary_name())
    data = content.encode("utf-8") if isinstance(content, str) else content
    with naming(path):
        try:
            with os.fdopen(descriptor(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        _sync_folder(path.parent)


def remove_file(path: Path, within: Path | None = None) -> None:
    """Remove a plain file; does nothing if there is none.

    Raises:
        ValueError: if a link or anything else is there.
    """
    require_no_link(path, within)
    if os.path.lexists(path) and not is_file(path):
        raise ValueError(f"{path} is no plain file: nothing else is removed")
    path.unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writes left in a folder; call it only while no other process writes there.

    Only plain files with the name of an unfinished write go.
    """
    for path in folder.iterdir():
        if is_leftover(path.name) and is_file(path):
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Force a new name to the disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # a folder that may be written and not listed
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(opened)
