"""How the processes of a run find each other, before JAX connects them.

JAX ends a process, in twenty lines of its own, where another one does not come. So they meet here
first: process 0 listens, every other one says who it is, and waits for the word to go on. Then
process 0 gives the port free for JAX.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import time
from typing import Any, NoReturn

from jaxrl_pg.running.messages import PeerError

__all__ = ["meet", "wait_for_port"]

_LINE_BYTES = 4096
_PAUSE = 0.2  # seconds between two looks at a clock, and at Ctrl-C
_LINE_SECONDS = 5.0  # for a process that has connected to say who it is

Json = dict[str, Any]


def meet(address: str, num_processes: int, process_id: int, seconds: float) -> None:
    """Wait until all processes of a run are there.

    Args:
        address: HOST:PORT of process 0.
        num_processes: how many there are.
        process_id: which of them this is.
        seconds: how long to wait.

    Raises:
        PeerError: if the others do not come in time, or one ends.
        ValueError: if two have one id or another number of processes, or the port is in use.
    """
    deadline = time.monotonic() + seconds
    if process_id == 0:
        _receive(address, num_processes, deadline)
    else:
        _join(address, num_processes, process_id, deadline)


def wait_for_port(address: str, seconds: float) -> None:
    """Wait until something listens at an address.

    Raises:
        PeerError: if nothing does in time.
    """
    _connect(address, time.monotonic() + seconds).close()


def _receive(address: str, num_processes: int, deadline: float) -> None:
    """Meet the others, as process 0."""
    joined: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        with _listen(address) as listener:
            while len(joined) < num_processes - 1:
                missing = sorted(set(range(1, num_processes)) - joined.keys())
                if time.monotonic() > deadline:
                    named = ", ".join(map(str, missing[:5])) + ", ..." * (len(missing) > 5)
                    _refuse(
                        joined,
                        PeerError(
                            f"coordinator={address}: of {num_processes} processes these did not "
                            f"join in time (--join-seconds): {named}"
                        ),
                    )
                for number, connection in joined.items():
                    if _has_ended(connection):
                        error = PeerError(f"process {number} ended before all had met")
                        _refuse({k: x for k, x in joined.items() if k != number}, error)
                if not select.select([listener], [], [], _PAUSE)[0]:
                    continue
                connection = stack.enter_context(listener.accept()[0])
                new = _introduced(connection, num_processes, joined)
                if new is not None:
                    joined[new] = connection
        # The port is free before the others look for JAX there.
        for connection in joined.values():
            _send(connection, {"go": True})
        for connection in joined.values():  # who closes first keeps the port for a while
            connection.settimeout(_LINE_SECONDS)
            with contextlib.suppress(OSError):
                connection.recv(1)


def _introduced(
    connection: socket.socket, num_processes: int, joined: dict[int, socket.socket]
) -> int | None:
    """Return which process has connected; None if it is none of ours."""
    said = _read(connection, time.monotonic() + _LINE_SECONDS)
    number, count = (said or {}).get("process_id"), (said or {}).get("num_processes")
    if type(number) is not int or type(count) is not int:
        return None
    everyone = {**joined, -1: connection}
    if count != num_processes:
        text = f"process {number} was given num_processes={count}, process 0 {num_processes}"
        _refuse(everyone, ValueError(f"{text}: give the same to all"))
    if number in joined or not 0 < number < num_processes:
        text = f"process_id={number} was given to two processes: give each its own"
        _refuse(everyone, ValueError(f"{text}, from 0 to {num_processes - 1}"))
    return number


def _join(address: str, num_processes: int, process_id: int, deadline: float) -> None:
    """Meet the others, as another process than 0."""
    with _connect(address, deadline) as connection:
        _send(connection, {"process_id": process_id, "num_processes": num_processes})
        answer = _read(connection, deadline + _LINE_SECONDS)
    if answer is None:
        raise PeerError(
            f"coordinator={address}: process 0 ended, or has begun without this process: is "
            f"process_id={process_id} given once only?"
        )
    if "error" in answer:
        kind = ValueError if answer.get("kind") == "ValueError" else PeerError
        raise kind(str(answer["error"]))


def _listen(address: str) -> socket.socket:
    """Listen at the port of an address, on every interface."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        why = os.strerror(error.errno)
        raise ValueError(
            f"coordinator={address}: the port cannot be used ({why}): give another one to all "
            "processes, and process_id=0 to one only"
        ) from None


def _connect(address: str, deadline: float) -> socket.socket:
    """Connect to process 0, which may not listen yet."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=_LINE_SECONDS)
        except OSError as error:
            if time.monotonic() > deadline:
                raise PeerError(
                    f"coordinator={address}: no answer in time ({error.strerror or error}): start "
                    "process 0, give its HOST:PORT to all, or wait longer (--join-seconds)"
                ) from None
        time.sleep(_PAUSE)


def _has_ended(connection: socket.socket) -> bool:
    """Whether the process at the other end, which has nothing to say, has closed it."""
    return bool(select.select([connection], [], [], 0)[0])


def _send(connection: socket.socket, message: Json) -> None:
    with contextlib.suppress(OSError):  # JAX will find out that it is gone
        connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection: socket.socket, deadline: float) -> Json | None:
    """Return what the other end says; None if it ends, is late, or speaks another language."""
    line = b""
    with contextlib.suppress(OSError, ValueError):
        while not line.endswith(b"\n") and len(line) < _LINE_BYTES:
            if time.monotonic() > deadline:
                return None
            if select.select([connection], [], [], _PAUSE)[0]:
                part = connection.recv(_LINE_BYTES)
                if not part:
                    return None
                line += part
        message = json.loads(line)
        return message if isinstance(message, dict) else None
    return None


def _refuse(everyone: dict[int, socket.socket], error: Exception) -> NoReturn:
    """Tell all who have come, and raise."""
    for connection in everyone.values():
        _send(connection, {"error": str(error), "kind": type(error).__name__})
    raise error
