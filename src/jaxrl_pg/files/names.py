"""Names of files: which text may become one, and which are those of unfinished writes."""

import os
import re
import secrets
import unicodedata
from pathlib import Path
from typing import Any

__all__ = ["MAX_BYTES", "as_path", "file_name", "is_leftover", "temporary_name"]

MAX_BYTES = 200  # of a name; file systems allow 255, and endings are added to it
_TEMPORARY = re.compile(r"\.jaxrl-pg-[0-9a-f]{32}\.tmp")


def as_path(given: Any, what: str = "path") -> Path:
    """Return a path that a user gave, with `~` replaced by the home directory.

    One with `..` in it is resolved: TensorStore, which reads and writes checkpoints, takes none.

    Args:
        given: a text or a path.
        what: names it in the message.

    Raises:
        ValueError: if it is neither.
    """
    if not isinstance(given, str | os.PathLike) or "\0" in os.fspath(given):
        raise ValueError(f"{what}={given!r:.80}: give a path")
    path = Path(given).expanduser()
    return path.resolve() if ".." in path.parts else path


def file_name(text: str, what: str = "name") -> str:
    """Return a text that came from outside, such as an id, if it may name a file of ours.

    Args:
        text: the name, without a folder.
        what: names the text in the message.

    Raises:
        ValueError: if it is empty, begins with a dot, is longer than 200 bytes, or holds a
            separator of folders or a character that is not printed.
    """
    why = _wrong(text)
    if why:
        raise ValueError(f"{what} {text[:80]!r} {why}: give a plain name for a file")
    return text


def _wrong(text: str) -> str:
    """Say what is wrong with a name, nothing if it is good."""
    if not text.strip():
        return "is empty"
    if text.startswith("."):
        return "begins with a dot"
    bad = next((c for c in text if c in '/\\:*?"<>|' or unicodedata.category(c)[0] == "C"), None)
    bad = bad or next((c for c in text if unicodedata.category(c) in ("Zl", "Zp")), None)
    if bad:
        return f"holds {bad!r}"
    size = len(text.encode())
    return f"is {size} bytes long, more than {MAX_BYTES}" if size > MAX_BYTES else ""


def temporary_name() -> str:
    """Return a name for a file that is being written, which nobody can foresee."""
    return f".jaxrl-pg-{secrets.token_hex(16)}.tmp"


def is_leftover(name: str) -> bool:
    """Return whether a name is that of an unfinished write of `write_atomic`."""
    return bool(_TEMPORARY.fullmatch(name))
