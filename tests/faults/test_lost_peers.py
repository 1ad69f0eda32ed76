"""Processes of one run that do not come, come twice, go, or send what is no message."""

import errno
import json
import math
import pickle
import socket
import threading
import time

import numpy as np
import pytest

from jaxrl_pg.checkpoint import Found
from jaxrl_pg.checkpoint.errors import DamagedError
from jaxrl_pg.running import rendezvous
from jaxrl_pg.running.journal import DivergedError
from jaxrl_pg.running.messages import PeerError, pack, unpack


def free_address():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return f"localhost:{listener.getsockname()[1]}"


def meet(address, *processes, seconds=10.0):
    """Let processes `(id, number of processes)` meet, each in a thread; return what each raised."""
    outcomes = [None] * len(processes)

    def run(place, process_id, count):
        try:
            rendezvous.meet(address, count, process_id, seconds)
        except Exception as error:
            outcomes[place] = error

    threads = [
        threading.Thread(target=run, args=(place, *process))
        for place, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# --- meeting --------------------------------------------------------------------------------------


def test_all_meet_and_leave_the_port_free():
    address = free_address()
    assert meet(address, (0, 4), (2, 4), (1, 4), (3, 4)) == [None] * 4
    assert meet(address, (0, 1)) == [None]
    with socket.create_server(("", int(address.rpartition(":")[2]))):
        pass


def test_who_does_not_come_is_named_in_time():
    began = time.monotonic()
    (alone, other) = meet(free_address(), (0, 3), (2, 3), seconds=1.0)
    assert time.monotonic() - began < 8
    for error in (alone, other):
        assert isinstance(error, PeerError)
        assert str(error).endswith("these did not join in time (--join-seconds): 1")
    (late,) = meet(free_address(), (1, 2), seconds=0.5)
    assert isinstance(late, PeerError)
    assert "no answer in time (Connection refused): start process 0" in str(late)


def test_one_id_given_twice_ends_all():
    outcomes = meet(free_address(), (0, 4), (2, 4), (2, 4))
    for error in outcomes:
        assert isinstance(error, ValueError)
        assert str(error).startswith("process_id=2 was given to two processes: give each its own")


def test_who_comes_twice_after_the_beginning_is_refused_at_once():
    with socket.create_server(("localhost", 0)) as begun:  # as JAX's own server does
        threading.Thread(target=lambda: begun.accept()[0].close()).start()
        (error,) = meet(f"localhost:{begun.getsockname()[1]}", (1, 2))
    assert isinstance(error, PeerError)
    assert "is process_id=1 given once only?" in str(error)
    with socket.create_server(("", 0)) as taken:
        (error,) = meet(f"localhost:{taken.getsockname()[1]}", (0, 2))
    assert isinstance(error, ValueError)
    assert "the port cannot be used (Address already in use): give another one" in str(error)


def test_another_number_of_processes_is_refused():
    outcomes = meet(free_address(), (0, 3), (1, 2))
    for error in outcomes:
        assert str(error).startswith("process 1 was given num_processes=2, process 0 3: give the")


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x80\x04\n", b"5\n", b'{"process_id": "1"}\n', b"x" * 9000],
)
def test_a_stranger_at_the_port_is_ignored(said):
    address = free_address()

    def intrude():
        host, _, port = address.rpartition(":")
        while True:
            try:
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(said)
                return
            except ConnectionRefusedError:
                time.sleep(0.01)

    outcomes = []
    first = threading.Thread(target=lambda: outcomes.append(meet(address, (0, 2))))
    first.start()
    intrude()
    assert meet(address, (1, 2)) == [None]
    first.join()
    assert outcomes == [[None]]


def test_one_that_ends_while_it_waits_ends_the_others():
    address = free_address()
    outcomes = []
    others = threading.Thread(target=lambda: outcomes.extend(meet(address, (0, 3))))
    others.start()
    rendezvous.wait_for_port(address, 5)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(json.dumps({"process_id": 2, "num_processes": 3}).encode() + b"\n")
        time.sleep(0.3)
    others.join()
    assert isinstance(outcomes[0], PeerError)
    assert str(outcomes[0]) == "process 2 ended before all had met"


# --- what is sent ---------------------------------------------------------------------------------


def same(left, right):
    if isinstance(left, np.ndarray | np.generic):
        np.testing.assert_array_equal(left, right, strict=True)
        return type(left) is type(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and all(map(same, left, right))
    if isinstance(left, float):
        return math.isnan(left) == math.isnan(right) and (math.isnan(left) or left == right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize(
    "value",
    [
        None,
        [True, 7, 2**70, -0.0, math.inf, math.nan, "\u2713\udc80"],
        {"a": (1, [2, ()]), "b": {}, 3: "a key that is no text"},
        [{"iteration": 1, "loss": math.nan}],
        np.arange(12, dtype=np.uint16).reshape(3, 4)[:, ::2],
        [np.float32(1.5), np.zeros((0, 3)), np.array(3), np.array([True])],
        np.ones(2, "bfloat16"),
        Found(3, {"x": {"dtype": "float32"}}, {"x": np.ones(3, np.float32)}, {"s": 1.5}, ("a",)),
        ["array", "float32", [10**12], 0],
        ["list", ["Found"]],
    ],
)
def test_what_is_sent_arrives(value):
    received, error = unpack(pack(value))
    assert error is None
    assert same(value, received)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", np.array([object()]), int, len])
def test_what_is_no_data_is_not_sent(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        pack(value)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("gamma=2"), ValueError, "gamma=2"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ValueError, "'utf-8' codec can't"),
        (DivergedError("loss is nan"), FloatingPointError, "loss is nan"),
        (DamagedError("checksum differs"), DamagedError, "checksum differs"),
        (OSError(errno.ENOSPC, "No space", "/runs/a"), OSError, "[Errno 28] No space: '/runs/a'"),
        (FileNotFoundError(errno.ENOENT, "gone"), FileNotFoundError, "[Errno 2] gone"),
        (OSError("no number"), OSError, "no number"),
        (KeyError("gamma"), PeerError, "process 0 failed (KeyError: 'gamma')"),
        (PeerError("process 2 ended"), PeerError, "process 2 ended"),
    ],
)
def test_what_is_raised_arrives_as_the_nearest_that_all_know(error, kind, text):
    value, received = unpack(pack(None, error))
    assert value is None
    assert type(received) is kind
    assert str(received).startswith(text)


class Intruder:
    """Runs code where it is unpickled."""

    called = False

    def __reduce__(self):
        return setattr, (Intruder, "called", True)


def test_no_message_runs_code():
    for data in (pickle.dumps(Intruder()), pickle.dumps((Intruder(), None))):
        with pytest.raises(ValueError):
            unpack(data)
    header = json.dumps([["Intruder", []], ["SystemExit", "x"]]).encode()
    with pytest.raises(ValueError, match="is every process of the same version"):
        unpack(len(header).to_bytes(8, "little") + header)
    header = json.dumps([None, ["SystemExit", "x"]]).encode()
    assert type(unpack(len(header).to_bytes(8, "little") + header)[1]) is PeerError
    assert not Intruder.called
