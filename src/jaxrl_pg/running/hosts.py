"""One run over several processes, of one machine or of many: to meet, to agree, to share.

Every process runs the same program on its share of the devices. The first alone touches files;
what it reads it gives to the others, and what is decided by a clock or a signal is agreed on.
With one process nothing is sent and nothing is done.
"""

from __future__ import annotations

import json
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl_pg.running.options import Processes

__all__ = [
    "alone",
    "from_first",
    "gather",
    "highest",
    "is_first",
    "require_agreement",
    "require_all_devices",
    "require_alone",
    "start",
]

T = TypeVar("T")

_PIECE = 1 << 26  # bytes sent at once
_STARTUP = 300  # seconds that processes wait for each other when they start
_PATIENCE = 60  # seconds that a process which ends waits for the others


def start(processes: Processes, num_devices: int | None) -> None:
    """Meet the other processes; to be called before JAX is used.

    Args:
        processes: where they meet, and which of them this is.
        num_devices: of all processes together, so that a CPU can be split into this process's
            share; None leaves it as it is.

    Raises:
        ValueError: if they cannot have equal shares, no cluster manager is there to ask, or
            the others cannot be met.
    """
    count = processes.num_processes
    if num_devices is not None and count is not None:
        if num_devices % count:
            raise ValueError(
                f"num_devices={num_devices} do not split over num_processes={count}: give a "
                "multiple (devices are counted over all processes)"
            )
        if num_devices > count:
            jax.config.update("jax_num_cpu_devices", num_devices // count)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # The run's own handlers see to SIGTERM: JAX's would swallow it.
    jax.config.update("jax_enable_preemption_service", False)
    automatic = processes.coordinator == "auto"
    if processes.coordinator and not automatic and processes.process_id:
        _wait_for_first(processes.coordinator)
    try:
        jax.distributed.initialize(
            None if automatic else processes.coordinator,
            count,
            processes.process_id,
            initialization_timeout=_STARTUP,
            shutdown_timeout_seconds=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        advice = "give HOST:PORT instead" if automatic else "is the port free, and JAX not in use?"
        raise ValueError(
            f"coordinator={processes.coordinator}: the processes did not meet ({reason}): {advice}"
        ) from error


def alone() -> bool:
    """Whether this process is the only one of the run."""
    return jax.process_count() == 1


def is_first() -> bool:
    """Whether this is the process that reads and writes the run folder, prints and plots."""
    return jax.process_index() == 0


def highest(*values: int) -> list[int]:
    """The largest of each value over all processes, in one message."""
    if alone():
        return list(values)
    everyone = multihost_utils.process_allgather(np.array(values, np.int32))
    return [int(value) for value in everyone.max(axis=0)]


def from_first(fn: Callable[..., T], *args: Any) -> T:
    """What `fn(*args)` gives on the first process, on all of them; what it raises there, too."""
    if alone():
        return fn(*args)
    value: Any = None
    error = None
    if is_first():
        try:
            value = fn(*args)
        except Exception as raised:
            error = raised
    data = _from_first(_pickled(value, error))
    if not is_first():
        value, error = pickle.loads(data)
    if error is not None:
        raise error
    return value


def require_agreement(check: Callable[[], None], given: dict[str, Any]) -> None:
    """Go on only if every process can, and was asked for the same.

    Args:
        check: raises `ValueError` if this process cannot.
        given: what this process was given, JSON values by name.

    Raises:
        ValueError: on all processes, naming what the first that cannot go on says.
    """
    if alone():
        check()
        return
    problem = ""
    try:
        check()
    except ValueError as error:
        problem = str(error)
    everyone = [json.loads(text) for text in _exchange(json.dumps([problem, given], default=str))]
    for number, (its_problem, its) in enumerate(everyone):
        if its_problem:
            raise ValueError(problem or f"process {number}: {its_problem}")
        ours = everyone[0][1]
        for name in {**ours, **its}:
            if its.get(name) != ours.get(name):
                raise ValueError(
                    f"process {number} was given {name}={its.get(name)!r}, process 0 "
                    f"{name}={ours.get(name)!r}: give the same to all"
                )


def require_all_devices(num_devices: int) -> None:
    """Refuse a run that would leave a process, or part of one, without work.

    Raises:
        ValueError: saying how many devices there are.
    """
    have, count = jax.device_count(), jax.process_count()
    if not alone() and num_devices != have:
        raise ValueError(
            f"num_devices={num_devices} but {count} processes have {have} devices: give "
            f"num_devices={have} (a run uses all devices of its processes)"
        )


def require_alone(what: str) -> None:
    """Refuse to do over several processes what one process does.

    Raises:
        ValueError: saying how to share the work out instead.
    """
    if not alone():
        raise ValueError(
            f"{what} runs in one process and there are {jax.process_count()}: leave the "
            "coordinator out, or use --launcher ray"
        )


def gather(tree: Any) -> Any:
    """The whole of every array, whose parts are on several processes, on this one.

    All processes must call it together; the leaves come one after the other, so that no more
    than one is held twice.
    """
    return tree if alone() else jax.tree.map(_whole, tree)


def _wait_for_first(address: str) -> None:
    """Until process 0 listens: JAX itself would end this process without a word to the user."""
    host, _, port = address.rpartition(":")
    give_up = time.monotonic() + _STARTUP
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise ValueError(
                    f"coordinator={address}: no answer in {_STARTUP} seconds ({error}): start "
                    "process 0, and give its HOST:PORT to all"
                ) from error
        time.sleep(0.5)


def _whole(leaf: jax.Array) -> Any:
    if not leaf.is_fully_replicated:
        assert isinstance(leaf.sharding, NamedSharding)
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        leaf = jax.jit(_same, out_shardings=everywhere)(leaf)
    here = leaf.addressable_data(0)
    return here if jax.dtypes.issubdtype(here.dtype, jax.dtypes.prng_key) else np.asarray(here)


def _same(x: jax.Array) -> jax.Array:
    return x


def _pickled(value: Any, error: Exception | None) -> bytes:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # some cannot be rebuilt from what they print
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return pickle.dumps((value, error))


def _from_first(data: bytes) -> bytes:
    """The first process's bytes, on all: as words, for adding up is how they are sent."""
    sizes = np.array(divmod(len(data), _PIECE), np.int32)
    pieces, rest = (int(size) for size in multihost_utils.broadcast_one_to_all(sizes))
    received = []
    for number, size in enumerate([_PIECE] * pieces + [rest]):
        words = np.zeros(-(-size // 4), np.uint32)
        if is_first():
            part = np.frombuffer(data, np.uint8)[number * _PIECE :][:size]
            words.view(np.uint8)[:size] = part
        received.append(multihost_utils.broadcast_one_to_all(words).tobytes()[:size])
    return b"".join(received)


def _exchange(text: str) -> list[str]:
    """Every process's text, on all of them, in order."""
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(data.size, np.int32))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]
