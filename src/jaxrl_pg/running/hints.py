"""Commands that messages tell the user to type: ready to be pasted into a shell."""

from __future__ import annotations

import os
import shlex

__all__ = ["command", "path_argument"]


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
