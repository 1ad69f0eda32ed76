"""Ctrl-C and SIGTERM while nothing has to be saved: the process ends at once.

Python's own handler raises KeyboardInterrupt wherever the program happens to be. Inside an import,
a callback of the compiler or a `__del__` it is swallowed, becomes another error, or leaves a
library half initialised. Before a run begins there is nothing to close, so the process just ends.
A run has handlers of its own, see `jaxrl_pg.running.interrupt`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

__all__ = ["end_on_signals", "raise_on_signals"]

_WORDS = {signal.SIGINT: b"interrupted\n", signal.SIGTERM: b"terminated\n"}
_SHOW_CURSOR = b"\r\n\x1b[?25h"  # a live progress line hides it


def end_on_signals() -> None:
    """End the process on SIGINT with status 130, on SIGTERM with status 143, and one word."""
    for number in _WORDS:
        signal.signal(number, _end)


def raise_on_signals() -> None:
    """Give SIGINT and SIGTERM back to Python, for work that has to be undone."""
    if signal.getsignal(signal.SIGINT) is not _end:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, _: FrameType | None) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + _WORDS[signal.Signals(number)])
    os._exit(128 + number)
