"""The journal of a run over several processes: the first writes, and all go on or stop together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

from jaxrl_pg.config import BaseConfig
from jaxrl_pg.running import hosts
from jaxrl_pg.running.divergence import Search, diverged
from jaxrl_pg.running.hooks import Hooks
from jaxrl_pg.running.journal import Decision, Journal
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.rows import Row, first_not_finite
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.types import TrainState

__all__ = ["SharedJournal", "journal_of"]


class SharedJournal(AbstractContextManager["SharedJournal"]):
    """A `Journal` with the same methods, which all processes call and the first one carries out.

    What goes wrong in writing is raised at the next `agree`, on all processes, so that none is
    left waiting for the others.
    """

    def __init__(self, journal: Journal | None) -> None:
        """Wrap the first process's journal; the other processes have none."""
        self._journal = journal
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        """Open the journal on the first process; what fails there is raised on all."""

        def enter() -> None:
            if self._journal is not None:
                self._journal.__enter__()

        hosts.from_first(enter)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the save in progress, and close."""
        if self._journal is not None:
            self._journal.__exit__()

    def require_finite(
        self, rows: list[Row], state: TrainState[Any] | None = None, search: Search | None = None
    ) -> None:
        """Go on only while every loss and every gradient norm is finite; see `Journal`.

        The metrics are the same on all processes, so all raise at once, and gather first what the
        cause is looked for in.
        """
        bad = first_not_finite(rows)
        if bad is None:
            return
        if state is not None:
            state = hosts.gather(
                state._replace(memory=(), actor=state.actor._replace(env_state=()))
            )
        if self._journal is not None:
            self._journal.require_finite(rows, state, search)
        raise diverged(rows, *bad, "see process 0 for the last good checkpoint", state, search)

    def compiles(self) -> None:
        """Show that a program is being compiled; `waited` ends it."""
        self._attempt(lambda journal: journal.compiles())

    def waited(self, seconds: float) -> None:
        """Leave time that went into compiling out of the speed that is shown."""
        self._attempt(lambda journal: journal.waited(seconds))

    def report(self, rows: list[Row]) -> None:
        """Keep and show the rows of a chunk."""
        self._attempt(lambda journal: journal.report(rows))

    def agree(self, signal: int) -> Decision:
        """Decide, on all processes alike, whether to save and whether to stop.

        Args:
            signal: the signal that this process was sent, 0 if none.

        Returns:
            Whether a save is due by the first process's clock; the signal that some process was
            sent, 0 if none; whether the user's function, called on the first, ends the run.

        Raises:
            Exception: what went wrong in writing.
        """
        own = (
            Decision(False, signal, False) if self._journal is None else self._journal.agree(signal)
        )
        save, signal, stop, failed = hosts.highest(*own, self._failure is not None)
        if failed:
            raise self._failure or hosts.PeerError("process 0 could not write: see what it says")
        return Decision(bool(save), signal, bool(stop))

    def save(self, state: TrainState, seconds: float, score: float | None = None) -> None:
        """Gather the state from all processes and save it; see `Journal`."""
        whole = hosts.gather(state)
        self._attempt(lambda journal: journal.save(whole, seconds, score))

    def finish(self) -> list[Row]:
        """Finish the journal; to be called on the first process, which has it."""
        assert self._journal is not None
        if self._failure is not None:
            raise self._failure
        return self._journal.finish()

    def _attempt(self, action: Callable[[Journal], Any]) -> None:
        """Carry out what the first process has to do, unless something has failed before."""
        if self._journal is None or self._failure is not None:
            return
        try:
            action(self._journal)
        except Exception as error:
            self._failure = error


def journal_of(
    config: BaseConfig, folder: RunFolder, options: Options, iteration: int, hooks: Hooks
) -> Journal | SharedJournal:
    """Return the journal of a run, over however many processes; see `Journal`."""
    first = hosts.is_first()
    journal = Journal(config, folder, options, iteration, hooks) if first else None
    return journal if journal is not None and hosts.alone() else SharedJournal(journal)
