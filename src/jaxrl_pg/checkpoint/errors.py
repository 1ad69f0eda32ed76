"""What can be wrong with a checkpoint, and how errors are put into a line."""

import errno

__all__ = ["DamagedError", "ForeignError", "is_missing", "reason"]

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ESTALE}


class DamagedError(Exception):
    """A checkpoint that cannot be trusted; the message says why."""


class ForeignError(DamagedError):
    """A checkpoint that is good, but not the one that its place says."""


def is_missing(error: OSError) -> bool:
    """Return whether the system says that a file is not there, rather than that it cannot tell.

    A file that is missing is damage. One that cannot be read, for lack of permission or of
    descriptors say, may be good.
    """
    return error.errno in _MISSING


def reason(error: BaseException) -> str:
    """Return the root of a chain of errors in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return "".join(c if c.isprintable() else "?" for c in line)
