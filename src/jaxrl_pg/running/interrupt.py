"""Ctrl-C and SIGTERM as a request: the loop saves first, then the process ends as asked."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupt"]


class Interrupt:
    """While open, the first SIGINT or SIGTERM only sets `wanted`; a second acts at once."""

    def __init__(self) -> None:
        """Nothing is asked for yet."""
        self.wanted: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers; signals are the main thread's, elsewhere nothing is done."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handlers back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def raise_if_wanted(self, message: str) -> None:
        """End as the signal asked, with a message for the user if there is one.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: with status 143, after SIGTERM.
        """
        if self.wanted == signal.SIGINT:
            raise KeyboardInterrupt(message)
        if self.wanted == signal.SIGTERM:
            if message:
                print(message, flush=True)
            raise SystemExit(128 + signal.SIGTERM)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.wanted = number
        self.__exit__()
