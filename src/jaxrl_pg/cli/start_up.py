"""Ctrl-C and SIGTERM while nothing has to be saved: the process ends at once.

Python's own handler raises KeyboardInterrupt wherever the program happens to be. Inside an import,
a callback of the compiler or a `__del__` it is swallowed, becomes another error, or leaves a
library half initialised. Before a run begins there is nothing to close, so the process just ends.
A run has handlers of its own, see `jaxrl_pg.running.interrupt`.
"""

# What the module signal wraps. That one imports enum, which takes longer than all of this.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["end_on_signals", "raise_on_signals"]

_WORDS = {int(_signal.SIGINT): b"interrupted\n", int(_signal.SIGTERM): b"terminated\n"}
_SHOW_CURSOR = b"\r\n\x1b[?25h"  # a live progress line hides it


def end_on_signals() -> None:
    """End the process on SIGINT with status 130, on SIGTERM with status 143, and one word."""
    for number in _WORDS:
        _signal.signal(number, _end)


def raise_on_signals() -> None:
    """Give SIGINT and SIGTERM back to Python, for work that has to be undone."""
    if _signal.getsignal(_signal.SIGINT) is not _end:
        return
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)


def _end(number: int, _: "FrameType | None") -> None:
    try:
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + _WORDS[number])
    finally:  # even where stderr is closed
        os._exit(128 + number)
