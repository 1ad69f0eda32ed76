"""What messages tell the user to type: commands for a shell, ready to be pasted, and calls."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

__all__ = ["command", "go_on", "missing_object", "objects_in", "path_argument"]


def command(*words: str | os.PathLike[str]) -> str:
    """Return a call of `jaxrl-pg`, each word quoted as a shell needs it.

    Args:
        *words: the command and its arguments; a path is given as a `Path`, and is written such
            that it is not taken for an option.
    """
    texts = [word if isinstance(word, str) else path_argument(word) for word in words]
    return shlex.join(["jaxrl-pg", *texts])


def path_argument(path: str | os.PathLike[str]) -> str:
    """Return a path as an argument that is no option, though its name may begin with a dash."""
    text = os.fspath(path)
    return os.path.join(os.curdir, text) if text.startswith("-") else text


def objects_in(values: dict[str, Any]) -> list[str]:
    """Return the fields of a saved config that hold an object of the program, by its path only.

    Args:
        values: as `config.to_dict` gives them.
    """
    from jaxrl_pg import envs
    from jaxrl_pg.config import OBJECTS

    recorded = {name: values.get(name) for name in OBJECTS}
    paths = {name: x for name, x in recorded.items() if isinstance(x, str) and ":" in x}
    return [name for name, x in paths.items() if not (name == "env" and envs.is_name(x))]


def go_on(run: str | os.PathLike[str], values: dict[str, Any]) -> str:
    """Return what goes on with a run: a command, or in Python a call that passes its objects.

    Args:
        run: the run's folder.
        values: the run's config, as `config.to_dict` gives it.
    """
    objects = objects_in(values)
    if not objects:
        return command("resume", Path(run))
    given = "".join(f", {name}=..." for name in objects)
    return f"jaxrl_pg.resume({os.fspath(run)!r}{given})"


def missing_object(run: str | os.PathLike[str], field: str, recorded: str) -> str:
    """Say that a run was given an object that its folder does not hold, and what can be done."""
    module, _, name = recorded.partition(":")
    there = "module:Class" if module == "__main__" else f"{module}:{name}"
    shell = f" (given as env='python:{there}' it is found again, from a shell too)"
    return (
        f"{run} was given an object of {recorded}: in Python, pass {field}=..."
        f"{shell if field == 'env' else ''}"
    )
