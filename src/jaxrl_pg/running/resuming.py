"""What `resume` does to a run's folder: all is looked at first, and only then is anything cut."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypedDict

from jaxrl_pg import checkpoint, envs
from jaxrl_pg.config import BaseConfig, to_dict
from jaxrl_pg.files import schema
from jaxrl_pg.running import hints
from jaxrl_pg.running.options import Options, saved_options
from jaxrl_pg.running.rows import Row
from jaxrl_pg.running.run_folder import RunFolder

__all__ = [
    "after_interrupt",
    "cut",
    "prepare",
    "require_possible",
    "saved_options_of",
    "seconds_of",
    "show",
]


_REMEDY = "load or evaluate what it has learned, or train again with another run_dir"


class _Host(TypedDict):
    """What `Journal.save` keeps beside a state."""

    seconds: float


def require_possible(config: BaseConfig, folder: RunFolder) -> None:
    """Refuse a run whose environments were lost with its process.

    Raises:
        ValueError: saying what can be done with the run.
    """
    if envs.on_host(config.env):
        raise ValueError(
            f"{folder.path} was trained in {_name(config)}, which lives on the host and is not in "
            f"its checkpoints, so that it cannot go on: {_REMEDY}"
        )


def after_interrupt(config: BaseConfig, folder: RunFolder) -> str:
    """Say what can be done with a run that was interrupted and saved."""
    if envs.on_host(config.env):
        return f"saved, but {_name(config)} lives on the host, so that it cannot go on: {_REMEDY}"
    return f"saved; go on with: {hints.go_on(folder.path, to_dict(config))}"


def saved_options_of(folder: RunFolder, saved: Row) -> Options:
    """Return the options that a run has.

    Args:
        folder: the run's folder, for messages.
        saved: the content of its config.json.

    Raises:
        ValueError: for an unknown name or a bad value.
    """
    path = folder.path / "config.json"
    schema.check(saved["options"], Options, path, "options")
    try:
        return saved_options(saved["options"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def seconds_of(restored: checkpoint.Restored, folder: RunFolder) -> float:
    """Return the wall-clock time that the run had taken when the checkpoint was saved.

    Raises:
        ValueError: if the checkpoint does not say, or holds the state of another iteration than
            its own.
    """
    there = int(restored.state.iteration)
    if there != restored.step:
        raise ValueError(
            f"checkpoint {restored.step} in {folder.checkpoints_dir} holds the state of iteration "
            f"{there}: move it away"
        )
    place = f"checkpoint {restored.step}"
    host: _Host = schema.check(restored.host, _Host, folder.checkpoints_dir, place)
    return host["seconds"]


def prepare(folder: RunFolder, iteration: int) -> list[str]:
    """Refuse a folder in which the run could not go on.

    Args:
        folder: the run's folder, locked.
        iteration: of the restored checkpoint.

    Returns:
        What is wrong with the rows though the run can go on, a line each.

    Raises:
        ValueError: if its rows cannot be read, or its checkpoints not written.
        OSError: if the system refuses.
    """
    lines = folder.require_rows(iteration)
    checkpoint.prepare(folder.checkpoints_dir)
    return lines


def cut(folder: RunFolder, iteration: int, skipped: Sequence[str]) -> list[str]:
    """Drop the rows that come again, and set aside the checkpoints that were passed over.

    Args:
        folder: the run's folder, locked.
        iteration: of the restored checkpoint.
        skipped: a line about each checkpoint that was passed over.

    Returns:
        The lines about those that were set aside, with what they are called now.
    """
    folder.drop_after(iteration)
    lines = []
    for name in checkpoint.set_aside(folder.checkpoints_dir, iteration):
        begin = f"checkpoint {name.partition('.')[0]} "
        for line in skipped:
            if line.startswith(begin):
                lines.append(line.replace("; restored", f", set aside as {name}; restored"))
    return lines


def show(lines: Sequence[str], skipped: Sequence[str], quiet: bool) -> None:
    """Print what went wrong, on stderr if the run is quiet, and what else was found if it is not.

    Args:
        lines: what `prepare` and `cut` returned.
        skipped: what `restore` said; a checkpoint of which `cut` has said it is not said twice.
        quiet: print nothing but what goes wrong.
    """
    said = {" ".join(line.split()[:2]) for line in lines}
    others = [line for line in skipped if " ".join(line.split()[:2]) not in said]
    for line in [*lines, *([] if quiet else others)]:
        print(line, file=sys.stderr if quiet else sys.stdout)


def _name(config: BaseConfig) -> str:
    return str(getattr(config.env, "name", config.env))
