"""What a user hands to a run: loggers, which may fail, and a function, which may end it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_pg.running.loggers import Logger
from jaxrl_pg.running.rows import Row

__all__ = ["Callback", "Hooks", "Loggers", "OnRows", "require_hooks"]

OnRows = Callable[[list[Row]], bool | str | None]


class Hooks(NamedTuple):
    """What is called between the compiled chunks of a run, on the first process.

    Attributes:
        on_rows: is given the rows of each chunk, and ends the run by returning True or a reason.
        loggers: each is given the rows of each chunk.
    """

    on_rows: OnRows | None = None
    loggers: Sequence[Logger] = ()


def require_hooks(hooks: Hooks) -> None:
    """Refuse what could not be called.

    Raises:
        ValueError: naming the first such argument.
    """
    if hooks.on_rows is not None and not callable(hooks.on_rows):
        raise ValueError(f"on_rows={hooks.on_rows!r}: give a function of a list of rows")
    if not isinstance(hooks.loggers, Sequence):
        raise ValueError(f"loggers={hooks.loggers!r:.80}: give a list of loggers")
    for number, logger in enumerate(hooks.loggers):
        if isinstance(logger, type) or not isinstance(logger, Logger):
            raise ValueError(
                f"loggers[{number}]={logger!r}: give an object with the methods start, write and "
                "close, such as CSV()"
            )


class Loggers:
    """Passes everything on to loggers. One that raises is named once, and left out from then on."""

    def __init__(self, loggers: Sequence[Logger], warn: Callable[[str], None]) -> None:
        """Take the loggers, and a function that shows a line of text."""
        self._loggers, self._warn = list(loggers), warn

    def start(self, config: dict[str, Any], run_dir: Path, timesteps: int) -> None:
        """Start the loggers; see `Logger`."""
        self._loggers = [
            logger
            for logger in self._loggers
            if self._succeeds(logger, "start", config, run_dir, timesteps)
        ]

    def write(self, rows: list[Row]) -> None:
        """Give each logger a copy of the rows, and close those that raise."""
        kept = []
        for logger in self._loggers:
            if self._succeeds(logger, "write", [dict(row) for row in rows]):
                kept.append(logger)
            else:
                with contextlib.suppress(Exception):
                    logger.close()
        self._loggers = kept

    def close(self) -> None:
        """Close the loggers that are left."""
        while self._loggers:
            self._succeeds(self._loggers.pop(0), "close")

    def _succeeds(self, logger: Logger, method: str, *args: Any) -> bool:
        """Call a method; if it raises, say so in one line and return False."""
        try:
            getattr(logger, method)(*args)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            name = type(logger).__name__
            self._warn(f"logger {name} failed in {method} and is switched off ({reason})")
            return False
        return True


class Callback:
    """Calls the user's function of rows, and keeps what it returned or raised.

    Attributes:
        stop: whether the run is to end.
        reason: why, if the function returned a string.
        error: what the function raised, to be raised again once the run is saved.
    """

    def __init__(self, on_rows: OnRows | None) -> None:
        """Take the function, if there is one."""
        self._on_rows = on_rows
        self.stop, self.reason = False, ""
        self.error: Exception | None = None

    def __call__(self, rows: list[Row]) -> None:
        """Give the function a copy of the rows."""
        if self._on_rows is None:
            return
        try:
            answer = self._on_rows([dict(row) for row in rows])
            self.stop = bool(answer)
            self.reason = answer if isinstance(answer, str) else ""
        except Exception as error:
            self.stop, self.error = True, error
