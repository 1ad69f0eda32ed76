"""What happens when process 0 of a run is lost: the others say so and end, instead of aborting.

JAX aborts a process that has lost its connection to process 0, from a thread of its own. Its answer
cannot be changed from Python, but the abort can be met.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

__all__ = ["EXIT_CODE", "end_instead_of_aborting"]

EXIT_CODE = 3  # as for every error of the system
_LINE = b"jaxrl-pg: process 0 of this run is gone: start all of them again with jaxrl-pg resume\n"


def _end(_: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, _LINE)
    os._exit(EXIT_CODE)


# Kept, since the system calls it. Python's own handlers would not do: they run after the signal has
# been dealt with, which for an abort is too late.
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end)


def end_instead_of_aborting() -> None:
    """End this process with one line and `EXIT_CODE` where a library would abort it."""
    if os.name == "posix":
        libc = ctypes.CDLL(None)
        libc.signal.restype = ctypes.c_void_p
        libc.signal(int(signal.SIGABRT), _HANDLER)
