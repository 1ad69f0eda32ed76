"""One line below a notebook's cell, replaced while the cell runs.

IPython is not imported: where a notebook runs, it is there already.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Line", "in_notebook"]

_SECONDS = 0.25  # between two pictures of the line


def in_notebook() -> bool:
    """Say whether this is a notebook's kernel, and not a script or IPython on a terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class Line:
    """A line below a cell, replaced as often as it changes; to `Progress` it is a rich `Live`."""

    def __init__(self, text: Callable[[], str], share: Callable[[], float]) -> None:
        """Show nothing yet.

        Args:
            text: says the line.
            share: says how much is done, from 0 to 1, for the bar.
        """
        self.text, self.share = text, share
        self.console = self  # to which messages are printed
        self._handle: Any = None
        self._drawn = 0.0

    def start(self, refresh: bool = False) -> None:
        """Show the line for the first time."""
        ipython: Any = sys.modules["IPython"]
        self._handle = ipython.display.display(self._bundle(), raw=True, display_id=True)

    def refresh(self) -> None:
        """Show the line as it is now, if the last time is long enough ago."""
        if time.monotonic() - self._drawn >= _SECONDS:
            self._draw()

    def stop(self) -> None:
        """Show the line a last time."""
        self._draw()

    def print(self, text: str, **_: Any) -> None:
        """Write a message, which stays."""
        print(text, file=sys.stderr, flush=True)

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        line, share = self.text().strip(), min(max(self.share(), 0.0), 1.0)
        bar = f'<progress value="{share:.4f}" style="vertical-align: middle"></progress>'
        return {"text/plain": line, "text/html": f"{bar} <code>{html.escape(line)}</code>"}
