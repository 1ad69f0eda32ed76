"""Ctrl-C and SIGTERM as a request: the loop saves first, then the process ends as asked."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

__all__ = ["Interrupt"]


class Interrupt:
    """Turns the first SIGINT or SIGTERM into a request; a second one acts at once.

    Attributes:
        received: the number of the signal that arrived inside `with`, or None.
    """

    def __init__(self) -> None:
        """Start without a request; the handlers are installed by `with`."""
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}  # those that were installed before ours

    def __enter__(self) -> Self:
        """Install the handlers; in another thread than the main one, which may not, do nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def raise_if_received(self, message: str) -> None:
        """End the process as the signal asked, with a message for the user if there is one.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: with status 143, after SIGTERM.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt(message)
        if self.received == signal.SIGTERM:
            if message:
                print(message, flush=True)
            raise SystemExit(128 + signal.SIGTERM)

    def _request(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self.__exit__()
