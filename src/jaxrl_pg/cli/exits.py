"""How a command ends: the exit code of an error, and the line that says it.

The user's mistakes, what the system refuses and lost processes are said in one line. Everything
else is a mistake of this library: it is shown whole, to be reported.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn, TextIO

__all__ = ["BUG", "DIVERGED", "DONE", "INTERRUPTED", "SYSTEM", "WRONG", "end_now", "report", "show"]

DONE = 0
DIVERGED = 1
WRONG = 2
SYSTEM = 3
BUG = 70
INTERRUPTED = 130

_LONGEST = 2000  # characters of a line; what is quoted from a file may be of any length
_SPACE = "free some space, or choose another folder"
_NO_RIGHT = "choose a folder that you may write to"
# What each error of the system asks for.
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    getattr(errno, "EDQUOT", errno.ENOSPC): _SPACE,
    errno.EFBIG: _SPACE,
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "links lead in a circle there, choose another path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs, the whole system has too many open files",
    errno.ENOMEM: "close other programs, or make the run smaller",
    errno.EAGAIN: "raise the limit of processes (ulimit -u)",
    errno.EIO: "check the disk",
    errno.ENOTCONN: "check the network file system",
    getattr(errno, "ESTALE", errno.EIO): "check the network file system",
    errno.ENOENT: "was it moved or deleted meanwhile?",
}
# Libraries that wrap an error of the system leave its words.
_WRAPPED = (
    *(errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
_SMALLER = "lower num_envs, num_steps, batch_size or buffer_size, or use more devices"
# What JAX reports of a function of Python that a compiled program called.
_IN_CALLBACK = re.compile(r"^(?:HostError: (.+)|KeyboardInterrupt.*)$", re.MULTILINE)
# Words by which JAX and its libraries say that another process is gone.
_LOST = ("gloo", "coordination service", "connection reset", "connection closed", "heartbeat")


def report(error: BaseException, verbose: bool = False) -> int:
    """Say on stderr how a command failed, and return its exit code.

    Args:
        error: what was raised.
        verbose: whether to show the traceback also where a line is enough.
    """
    code, line = _outcome(error)
    if isinstance(error, BrokenPipeError) and _raised_in(error, "jaxrl_pg.cli"):
        # A print: whoever reads stdout has read enough (`jaxrl-pg envs | head`), nothing is wrong.
        _flushes(sys.stdout)
        return code
    with contextlib.suppress(OSError):  # stderr may be on the same full disk: the code still counts
        if code == BUG or (verbose and code != INTERRUPTED):
            traceback.print_exception(error)
        show(line if code == INTERRUPTED else f"jaxrl-pg: {line}")
    _flushes(sys.stdout)
    return code


def _raised_in(error: BaseException, package: str) -> bool:
    """Whether the innermost function of Python that an error passed is of some package."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    name = str(frames[-1].f_globals.get("__name__", "")) if frames else ""
    return name.startswith(f"{package}.")


def _flushes(stream: TextIO | None) -> bool:
    """Write out what a stream holds; where that fails, drop it and return False.

    Python would try again when it ends, and say so in lines of its own.
    """
    try:
        if stream is not None:
            stream.flush()
        return True
    except OSError:
        assert stream is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False


def end_now(code: int) -> NoReturn:
    """End the process without Python's own ending.

    After an error of the system, libraries that could not finish would say so in many lines, and
    JAX would wait for processes that are gone. Whatever is ours has been closed by now.
    """
    with contextlib.suppress(OSError, AttributeError):  # it may be full, or not there
        sys.stderr.flush()
    os._exit(code)


def show(text: str) -> None:
    """Print text on stderr as one line of bounded length, in which nothing moves the cursor."""
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    if len(line) > _LONGEST:
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    print(line, file=sys.stderr)


def _outcome(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error, and what to say."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, f"interrupted: {error}" if str(error) else "interrupted"
    if isinstance(error, FloatingPointError):
        return DIVERGED, str(error)
    on_host = _IN_CALLBACK.search(str(error)) if isinstance(error, RuntimeError) else None
    if on_host is not None:  # in an environment on the host, which a compiled program called
        return (WRONG, on_host[1]) if on_host[1] else (INTERRUPTED, "interrupted")
    if isinstance(error, ValueError) and _is_deliberate(error):
        return (SYSTEM if _is_refusal(error.__cause__) else WRONG), str(error)
    line = next(filter(None, map(_system_line, _chain(error))), None)
    if line is not None:
        return SYSTEM, line
    return BUG, (
        f"{type(error).__name__}: {error}: this is a mistake in jaxrl_pg and not yours: please "
        "report it with the lines above"
    )


def _is_deliberate(error: BaseException) -> bool:
    """Whether a `raise` of this package made the error, and not something that it called."""
    import dis

    last = error.__traceback__
    if last is None:
        return False
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code.co_code
    ours = str(last.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "jaxrl_pg"
    return ours and code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _is_refusal(error: BaseException | None) -> bool:
    """Whether the system refused what was asked, rather than that it was not there."""
    nothing_there = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
    return isinstance(error, OSError) and not isinstance(error, nothing_there)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__  # not its context: a mistake of ours may follow any error


def _system_line(error: BaseException) -> str | None:
    """Return what to say of an error of the system, of memory or of a lost process, else None."""
    text, name = str(error), type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED: Out of memory" in text:
        return f"out of memory ({_first(text) or name}): {_SMALLER}"
    if isinstance(error, OSError):
        what = error.strerror or _first(text) or name
        where = f": {error.filename}" if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{what}{where}{f': {remedy}' if remedy else ''}"
    if not isinstance(error, RuntimeError | ImportError | ValueError):
        return None
    if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
        return f"out of memory ({_first(text)}): {_SMALLER}"
    for number in _WRAPPED:
        if os.strerror(number).lower() in text.lower():
            return f"{_first(text)}: {_REMEDIES[number]}"
    if "Symlink loop" in text:  # pathlib's own words
        return f"{_first(text)}: {_REMEDIES[errno.ELOOP]}"
    if "home directory" in text:
        return f"{_first(text)} Set HOME, or give every folder by its whole path"
    if isinstance(error, RuntimeError) and any(word in text.lower() for word in _LOST):
        return (
            f"another process of this run is gone ({_first(text)}): start all of them again with "
            "jaxrl-pg resume"
        )
    return None


def _first(text: str) -> str:
    """Return the first line of a library's message, shortened."""
    return (text.strip().splitlines() or [""])[0][:200]
