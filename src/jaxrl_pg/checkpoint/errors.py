"""What can be wrong with a checkpoint, and how errors are put into a line."""

__all__ = ["DamagedError", "reason"]


class DamagedError(Exception):
    """A checkpoint that cannot be trusted; the message says why."""


def reason(error: BaseException) -> str:
    """Return the root of a chain of errors in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
