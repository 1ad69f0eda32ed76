"""How the processes of one run, on one machine or on many, meet, agree and share values.

Every process runs the same program on its share of the devices. Only the first touches files; it
sends the others what it reads, and all agree on what a clock or a signal decides. With a single
process nothing is sent, and every function here returns at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxrl_pg.running import lost_process, rendezvous, sizes
from jaxrl_pg.running.messages import PeerError, pack, unpack
from jaxrl_pg.running.options import Processes

__all__ = [
    "PeerError",
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

_MESSAGE_BYTES = 1 << 26  # sent at once
_CONNECT_SECONDS = 60  # for JAX to connect processes that have met
_SHUTDOWN_SECONDS = 60  # how long a process that ends waits for the others


def start(processes: Processes, num_devices: int | None) -> None:
    """Connect to the other processes; call it before JAX is used.

    Args:
        processes: where they meet, and which of them this is.
        num_devices: number of devices of all processes together, so that a CPU can be split
            into this process's share; None leaves it as it is.

    Raises:
        ValueError: if the processes cannot have equal shares, two have one id, or no cluster
            manager is there to ask.
        PeerError: if the others do not come in time.
    """
    count = processes.num_processes
    if num_devices is not None and count is not None:
        if num_devices % count:
            raise ValueError(
                f"num_devices={num_devices} do not split over num_processes={count}: give a "
                "multiple (devices are counted over all processes)"
            )
        if num_devices > count:
            sizes.require_cpu_devices(num_devices // count)
            jax.config.update("jax_num_cpu_devices", num_devices // count)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # The run handles SIGTERM itself; JAX's handler would swallow it.
    jax.config.update("jax_enable_preemption_service", False)
    automatic = processes.coordinator == "auto"
    seconds: float = processes.join_seconds
    if processes.coordinator and not automatic:
        assert count is not None
        assert processes.process_id is not None
        rendezvous.meet(processes.coordinator, count, processes.process_id, seconds)
        seconds = _CONNECT_SECONDS
        if processes.process_id:
            rendezvous.wait_for_port(processes.coordinator, seconds)
    try:
        jax.distributed.initialize(
            None if automatic else processes.coordinator,
            count,
            processes.process_id,
            initialization_timeout=int(seconds),
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        advice = "give HOST:PORT instead" if automatic else "is the port free, and JAX not in use?"
        raise ValueError(
            f"coordinator={processes.coordinator}: the processes did not meet ({reason}): {advice}"
        ) from error
    if processes.process_id != 0:
        lost_process.end_instead_of_aborting()


def alone() -> bool:
    """Return whether this process is the only one of the run."""
    return jax.process_count() == 1


def is_first() -> bool:
    """Return whether this process is the one that uses files and prints: process 0."""
    return jax.process_index() == 0


def highest(*values: int) -> list[int]:
    """Return the largest of each value over all processes, in one message."""
    if alone():
        return list(values)
    everyone = multihost_utils.process_allgather(np.array(values, np.int32))
    return [int(value) for value in everyone.max(axis=0)]


def from_first(fn: Callable[..., T], *args: Any) -> T:
    """Call `fn(*args)` on process 0, and return or raise the outcome on all processes."""
    if alone():
        return fn(*args)
    value: Any = None
    error = None
    if is_first():
        try:
            value = fn(*args)
        except Exception as raised:
            error = raised
    try:
        data = pack(value, error)
    except TypeError as raised:  # so that no process waits for what cannot be sent
        error = raised
        data = pack(None, error)
    data = _from_first(data)
    if not is_first():
        value, error = unpack(data)
    if error is not None:
        raise error
    return value


def require_agreement(check: Callable[[], None], given: dict[str, Any]) -> None:
    """Go on only if every process can, and all were given the same arguments.

    Args:
        check: raises `ValueError` if this process cannot go on.
        given: this process's arguments, JSON values by name.

    Raises:
        ValueError: on all processes, with the message of the first that cannot go on.
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
    _, first = everyone[0]
    for number, (its_problem, other) in enumerate(everyone):
        if its_problem:
            raise ValueError(problem or f"process {number}: {its_problem}")
        for name in {**first, **other}:
            if other.get(name) != first.get(name):
                raise ValueError(
                    f"process {number} was given {name}={other.get(name)!r}, process 0 "
                    f"{name}={first.get(name)!r}: give the same to all"
                )


def require_all_devices(num_devices: int) -> None:
    """Refuse a run that would leave some devices of its processes without work.

    Raises:
        ValueError: saying how many devices there are.
    """
    available, count = jax.device_count(), jax.process_count()
    if not alone() and num_devices != available:
        raise ValueError(
            f"num_devices={num_devices} but {count} processes have {available} devices: give "
            f"num_devices={available} (a run uses all devices of its processes)"
        )


def require_alone(what: str) -> None:
    """Refuse work that one process must do alone.

    Args:
        what: names the work in the message.

    Raises:
        ValueError: saying how to distribute it instead.
    """
    if not alone():
        raise ValueError(
            f"{what} runs in one process and there are {jax.process_count()}: leave the "
            "coordinator out, or use --launcher ray"
        )


def gather(tree: Any) -> Any:
    """Return whole arrays on this process, whose parts are on several processes.

    All processes must call it together. Leaves are gathered one after the other, so that no more
    than one is held twice.
    """

    def whole(leaf: jax.Array) -> Any:
        if not leaf.is_fully_replicated:
            assert isinstance(leaf.sharding, NamedSharding)
            replicated = NamedSharding(leaf.sharding.mesh, PartitionSpec())
            leaf = jax.jit(_identity, out_shardings=replicated)(leaf)
        local = leaf.addressable_data(0)
        is_key = jax.dtypes.issubdtype(local.dtype, jax.dtypes.prng_key)
        return local if is_key else np.asarray(local)

    return tree if alone() else jax.tree.map(whole, tree)


def _identity(x: jax.Array) -> jax.Array:
    """Return x. A function of the module, so that a save compiles nothing that the last one did."""
    return x


def _from_first(data: bytes) -> bytes:
    """Return the first process's bytes on all: as 32-bit words, since JAX sends them by adding."""
    lengths = np.array(divmod(len(data), _MESSAGE_BYTES), np.int32)
    full, rest = (int(size) for size in multihost_utils.broadcast_one_to_all(lengths))
    received = []
    for number, size in enumerate([_MESSAGE_BYTES] * full + [rest]):
        words = np.zeros(-(-size // 4), np.uint32)
        if is_first():
            part = np.frombuffer(data, np.uint8)[number * _MESSAGE_BYTES :][:size]
            words.view(np.uint8)[:size] = part
        received.append(multihost_utils.broadcast_one_to_all(words).tobytes()[:size])
    return b"".join(received)


def _exchange(text: str) -> list[str]:
    """Return every process's text on all of them, in order."""
    data = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(data.size, np.int32))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: data.size] = data
    rows = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(rows, lengths, strict=True)]
