"""A file that only grows, by whole pieces, and that notices when it is no longer there."""

import os
from pathlib import Path

from jaxrl_pg.files.opening import Identity, descriptor, identity, naming, read_bytes
from jaxrl_pg.files.writing import write_atomic

__all__ = ["GrowingFile"]


class GrowingFile:
    """A file that this process, which holds the lock on its folder, adds to."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        A file with another name beside this one (a hard link, as some backups make) is copied
        first, so that what has the other name stays as it is.

        Raises:
            ValueError: if a link or anything else than a plain file is there.
            OSError: if the system refuses.
        """
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        with naming(path):
            self._file = descriptor(path, flags)
            try:
                found = os.fstat(self._file)
                if found.st_nlink > 1:
                    write_atomic(path, read_bytes(path))
                    os.close(self._file)
                    self._file = descriptor(path, flags)
                    found = os.fstat(self._file)
            except BaseException:
                os.close(self._file)
                raise
        self._identity = Identity(found.st_dev, found.st_ino)

    def append(self, data: bytes) -> None:
        """Add a piece, whole or not at all. It outlives this process, and after `sync` the machine.

        Raises:
            ValueError: if the file was moved or deleted.
            OSError: if the system refuses, for want of space say; the file is then as it was.
        """
        self.require_here()
        with naming(self.path):
            before = os.fstat(self._file).st_size
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except BaseException:
                os.ftruncate(self._file, before)
                raise

    def truncate(self, size: int) -> None:
        """Cut the file to a number of bytes."""
        with naming(self.path):
            os.ftruncate(self._file, size)

    def sync(self) -> None:
        """Force what was added to the disk.

        Raises:
            ValueError: if the file was moved or deleted.
        """
        self.require_here()
        with naming(self.path):
            os.fsync(self._file)

    def require_here(self) -> None:
        """Refuse to go on if the file is no longer at its path.

        Raises:
            ValueError: saying so.
        """
        if identity(self.path) != self._identity:
            raise ValueError(
                f"{self.path} was moved, deleted or replaced while it was written: what was in it "
                "is where it was moved to; start again with another run_dir, or put it back"
            )

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
