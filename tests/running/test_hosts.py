"""Two processes, one run: what they learn, keep and share, and how they end together.

What needs two processes is a `check_...` function here and runs in both, on one CPU device each;
the test of the same name looks at what came of it in either.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxrl_pg
from jaxrl_pg import checkpoint
from jaxrl_pg.running import hosts, loop, rendezvous, run_folder
from jaxrl_pg.running.options import Processes
from jaxrl_pg.training import devices
from two_devices import CLI, CONFIG, OPTIONS, assert_same_state

NUM = 4  # iterations, in chunks of two
TOGETHER = """
import pathlib, sys, test_hosts
test_hosts.main(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""


def rows_of(run_dir):
    """Every row without its wall-clock time."""
    rows = run_folder.RunFolder.open(run_dir).rows()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_run(run_dir, reference):
    left, right = jaxrl_pg.load(run_dir), jaxrl_pg.load(reference)
    assert left.step == right.step == NUM
    assert_same_state(left.state, right.state)
    assert rows_of(run_dir) == rows_of(reference)


# --- in both processes ----------------------------------------------------------------------------


def check_they_agree(folder, monkeypatch):
    me = jax.process_index()
    assert (jax.process_count(), hosts.alone(), hosts.is_first()) == (2, False, me == 0)
    assert hosts.highest([3, 0][me], [0, 15][me], -1) == [3, 15, -1]


def check_what_the_first_reads_all_have(folder, monkeypatch):
    # Several messages, the last of odd size.
    monkeypatch.setattr(hosts, "_MESSAGE_BYTES", 1000)
    given = {"bytes": np.arange(4321, dtype=np.uint16), "text": "\u2713", "minus zero": -0.0}
    received = hosts.from_first(lambda: given if jax.process_index() == 0 else 1 / 0)
    np.testing.assert_array_equal(received["bytes"], given["bytes"], strict=True)
    assert received["text"] == given["text"]
    assert np.signbit(received["minus zero"])
    with pytest.raises(ValueError, match="no run in nowhere"):
        hosts.from_first(lambda: run_folder.RunFolder.open("nowhere"))
    with pytest.raises([OddError, RuntimeError][jax.process_index()], match="one and two"):
        hosts.from_first(odd)


class OddError(Exception):
    """Cannot be rebuilt from what it prints, so only its text reaches the others."""

    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")


def odd():
    raise OddError("one", "two")


def check_what_differs_is_named(folder, monkeypatch):
    me = jax.process_index()
    same = {"seed": 3, "config": {"gamma": 0.5}}
    hosts.require_agreement(lambda: None, same)
    differing = r"process 1 was given seed=1, process 0 seed=0: give the same to all"
    with pytest.raises(ValueError, match=differing):
        hosts.require_agreement(lambda: None, {**same, "seed": me})
    message = ["process 1: does not fit", "does not fit"][me]
    with pytest.raises(ValueError, match=f"^{message}$"):
        hosts.require_agreement([int, refuse][me], same)


def refuse():
    raise ValueError("does not fit")


def check_the_parts_are_gathered_and_placed_again(folder, monkeypatch):
    mesh = jax.make_mesh((2,), ("devices",))
    split = NamedSharding(mesh, PartitionSpec("devices"))
    shardings = {"rows": split, "keys": split, "same": NamedSharding(mesh, PartitionSpec())}
    made = jax.jit(make_leaves, out_shardings=shardings)(jax.random.key(0))
    assert not made["rows"].is_fully_replicated
    whole = hosts.gather(made)
    here = make_leaves(jax.random.key(0))
    assert_same_state(whole, here)
    if hosts.is_first():
        with checkpoint.Checkpoints(folder / "saved") as saves:
            saves.save(1, whole, {})
    found = hosts.from_first(checkpoint.find, folder / "saved", made)
    again = checkpoint.place(found, made)
    for name, leaf in again.items():
        assert leaf.sharding == shardings[name]
    assert_same_state(hosts.gather(again), here)


def make_leaves(key):
    rows = jax.random.normal(key, (4, 3)).at[0].set(-0.0)
    return {"rows": rows, "keys": jax.random.split(key, 6), "same": jnp.arange(3)}


def check_a_run(folder, monkeypatch):
    result = jaxrl_pg.run(CONFIG, folder / "whole", 3, **OPTIONS)
    for leaf in jax.tree.leaves(result.state.actor):
        assert [len(shard.data) for shard in leaf.addressable_shards] == [4]
    assert result.run_dir == folder / "whole"
    np.testing.assert_array_equal(result.metrics["timesteps"], 64 * np.arange(1, NUM + 1))
    assert result.metrics["eval/return_mean"].shape == (2,)


def check_sigterm_to_one_stops_both_after_the_same_chunk(folder, monkeypatch):
    stop_at_half(monkeypatch, process=1, number=signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        jaxrl_pg.run(CONFIG, folder / "half", 3, **OPTIONS)
    assert stopped.value.code == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert hosts.from_first(checkpoint.steps, folder / "half" / "checkpoints")[-1] == NUM // 2
    if hosts.is_first():
        copy_half(folder)
    result = jaxrl_pg.resume(folder / "half")
    np.testing.assert_array_equal(result.metrics["timesteps"], 64 * np.arange(1, NUM + 1))


def stop_at_half(monkeypatch, process, number):
    """Send this process a signal after the chunk that ends halfway."""
    advance = loop.Session.advance

    def advance_and_signal(session, state):
        state, score = advance(session, state)
        if int(state.iteration) == NUM // 2 and jax.process_index() == process:
            os.kill(os.getpid(), number)
        return state, score

    monkeypatch.setattr(loop.Session, "advance", advance_and_signal)


def copy_half(folder):
    subprocess.run(["cp", "-r", folder / "half", folder / "half_for_one"], check=True)


def check_a_full_disk_ends_both(folder, monkeypatch):
    append = run_folder.RunFolder.append

    def no_space(run, rows):
        append(run, rows)
        raise OSError("No space left on device")

    monkeypatch.setattr(run_folder.RunFolder, "append", no_space)
    error, message = [(OSError, "No space left"), (RuntimeError, "process 0 could not write")][
        jax.process_index()
    ]
    with pytest.raises(error, match=message):
        jaxrl_pg.run(CONFIG, folder / "full", 3, **OPTIONS)


def check_divergence_ends_both(folder, monkeypatch):
    config = CONFIG.replace(learning_rate=1e30)
    last = ["none was saved yet", "see process 0 for the last good checkpoint"]
    with pytest.raises(loop.DivergedError, match=last[jax.process_index()]):
        jaxrl_pg.run(config, folder / "diverged", 3, **OPTIONS)


def check_what_cannot_run_is_refused_on_both(folder, monkeypatch):
    message = "num_devices=1 but 2 processes have 2 devices: give num_devices=2"
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG.replace(num_devices=1), folder / "never", 3, **OPTIONS)
    with pytest.raises(ValueError, match="was given seed=1, process 0 seed=0"):
        jaxrl_pg.run(CONFIG, folder / "never", jax.process_index(), **OPTIONS)
    with pytest.raises(ValueError, match=r"whole already holds a run \(ppo on CartPole-v1\)"):
        jaxrl_pg.run(CONFIG, folder / "whole", 3, **OPTIONS)
    with pytest.raises(ValueError, match=r"no run in .*nothing: expected"):
        jaxrl_pg.resume(folder / "nothing")
    assert not (folder / "never").exists()


CHECKS = {name.removeprefix("check_"): fn for name, fn in globals().items() if "check_" in name}


def main(folder, address, process_id):
    """Meet, run every check, and write down what went wrong."""
    hosts.start(Processes(coordinator=address, num_processes=2, process_id=process_id), 2)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    outcomes = {}
    for name, check in CHECKS.items():
        try:
            with pytest.MonkeyPatch.context() as monkeypatch:
                check(folder, monkeypatch)
            outcomes[name] = ""
        except BaseException:
            outcomes[name] = traceback.format_exc()
            break  # the other process may be waiting in it
    (folder / f"outcomes_{process_id}.json").write_text(json.dumps(outcomes))


def free_address():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return f"localhost:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def environ():
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
        "JAX_NUM_CPU_DEVICES": "1",
    }


@pytest.fixture(scope="module")
def folder(environ, tmp_path_factory):
    """Where two processes left their runs and outcomes, and one process its own."""
    folder, address = tmp_path_factory.mktemp("hosts"), free_address()
    together = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(folder), address, str(process_id)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process_id in range(2)
    ]
    printed = ended(together, seconds=240)
    assert [process.returncode for process in together] == [0, 0], printed
    said = [line for text in printed for line in text.splitlines() if "[Gloo]" not in line]
    (folder / "said.txt").write_text("\n".join(said))
    if any("".join(outcomes_of(folder, number).values()) for number in range(2)):
        return folder  # the tests of the checks will say what went wrong
    # The same run in one process with two devices, and the rest of the half that two left.
    jaxrl_pg.run(CONFIG, folder / "alone", 3, **OPTIONS)
    jaxrl_pg.resume(folder / "half_for_one")
    return folder


def ended(processes, seconds):
    """What each printed; all are killed if one has not ended in time."""
    deadline = time.monotonic() + seconds
    try:
        return [p.communicate(timeout=deadline - time.monotonic())[0] for p in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def outcomes_of(folder, number):
    return json.loads((folder / f"outcomes_{number}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_in_two_processes(folder, name):
    for number in range(2):
        outcome = outcomes_of(folder, number).get(name, "not reached")
        assert not outcome, f"process {number}: {outcome}"


@pytest.mark.slow
def test_only_the_first_speaks_and_only_when_stopped(folder):
    said = (folder / "said.txt").read_text()
    assert said == f"saved; go on with: jaxrl-pg resume {folder / 'half'}"


# --- what two processes left, and one ------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_learn_what_one_with_two_devices_learns_bit_for_bit(folder):
    assert_same_run(folder / "whole", folder / "alone")


@pytest.mark.slow
def test_only_the_number_of_processes_differs_on_disk(folder):
    names = {path.name for path in (folder / "whole").iterdir()}
    files = {"config.json", "metrics.jsonl", "history.jsonl", "curve.png", "lock"}
    assert names == {*files, "checkpoints"}
    both = [json.loads((folder / run / "config.json").read_text()) for run in ("whole", "alone")]
    assert both[0].pop("run") != both[1].pop("run")  # each run's own
    assert both[0] == both[1]
    both = [checkpoint.steps(folder / run / "checkpoints") for run in ("whole", "alone")]
    assert both[0] == both[1]


@pytest.mark.slow
def test_stopped_and_resumed_by_two_they_end_as_if_never_stopped(folder):
    assert_same_run(folder / "half", folder / "whole")


@pytest.mark.slow
def test_stopped_in_two_processes_one_goes_on_bit_for_bit(folder):
    assert_same_run(folder / "half_for_one", folder / "whole")


# --- killed --------------------------------------------------------------------------------------


SHORT = ("256", "2")  # timesteps and evaluations
LONG = ("6400000", "1000")


def start_cli(environ, *command):
    """The same command in two processes."""
    address = free_address()
    return [
        subprocess.Popen(
            [
                *(*CLI, *command, "--coordinator", address),
                *("--num-processes", "2", "--process-id", str(process_id)),
            ],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process_id in range(2)
    ]


def train_command(run_dir, length=SHORT):
    return [
        *("train", "ppo", "--num-envs", "8", "--num-steps", "8", "--num-epochs", "2"),
        *("--num-minibatches", "2", "--hidden-sizes", "8", "8", "--learning-rate", "0.01"),
        *(
            "--normalize-obs",
            "--normalize-reward",
            "--no-anneal-lr",
            "--num-devices",
            "2",
            "--seed",
            "3",
        ),
        *("--total-timesteps", length[0], "--num-evals", length[1], "--num-eval-episodes", "2"),
        *("--quiet", "--run-dir", str(run_dir)),
    ]


def wait_for_checkpoint(run_dir, processes):
    while all(process.poll() is None for process in processes):
        if checkpoint.steps(run_dir / "checkpoints"):
            return
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_and_resumed_from_the_command_line(folder, environ, tmp_path):
    processes = start_cli(environ, *train_command(tmp_path / "run"))
    wait_for_checkpoint(tmp_path / "run", processes)
    for process in processes:
        process.kill()
    ended(processes, seconds=60)
    saved = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert saved
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2
    processes = start_cli(environ, "resume", str(tmp_path / "run"), "--no-quiet")
    printed = ended(processes, seconds=240)
    assert [process.returncode for process in processes] == [0, 0], printed
    assert f"after 256 steps; everything is in {tmp_path / 'run'}" in printed[0]
    assert "everything is in" not in printed[1]
    assert_same_run(tmp_path / "run", folder / "whole")


@pytest.mark.slow
def test_one_killed_process_does_not_leave_the_other_waiting(environ, tmp_path):
    processes = start_cli(environ, *train_command(tmp_path / "run", LONG))
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[1].kill()
    ended(processes, seconds=300)
    assert processes[0].returncode not in (0, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process_id", "number", "status"), [(0, signal.SIGINT, 130), (1, signal.SIGTERM, 143)]
)
def test_a_signal_to_one_ends_both_in_order(environ, tmp_path, process_id, number, status):
    processes = start_cli(environ, *train_command(tmp_path / "run", LONG))
    wait_for_checkpoint(tmp_path / "run", processes)
    processes[process_id].send_signal(number)
    printed = ended(processes, seconds=120)
    assert [process.returncode for process in processes] == [status] * 2, printed
    assert f"saved; go on with: jaxrl-pg resume {tmp_path / 'run'}" in printed[0]
    assert "saved" not in printed[1]
    saved = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert rows_of(tmp_path / "run")[-1]["iteration"] == saved[-1]


# --- one process ---------------------------------------------------------------------------------


def test_alone_nothing_is_sent():
    tree = {"a": jnp.ones(3)}
    assert hosts.alone()
    assert hosts.is_first()
    assert hosts.gather(tree) is tree
    assert hosts.highest(3, 0) == [3, 0]
    assert hosts.from_first(int, "7") == 7
    hosts.require_all_devices(1)
    hosts.require_alone("a sweep")
    hosts.require_agreement(lambda: None, {"what JSON cannot hold": object()})
    with pytest.raises(ValueError, match="does not fit"):
        hosts.require_agreement(refuse, {})
    assert devices.on_every_process(1) is None


def test_what_one_process_does_is_refused_to_several(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match=r"a sweep runs in one process and there are 2: leave"):
        hosts.require_alone("a sweep")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_processes": 2}, "num_processes=2 without coordinator: give HOST:PORT"),
        ({"process_id": 0}, "process_id=0 without coordinator"),
        ({"coordinator": "here"}, "coordinator='here': give HOST:PORT of process 0"),
        ({"coordinator": ":5000"}, "coordinator=':5000': give HOST:PORT"),
        ({"coordinator": "here:0"}, "coordinator='here:0': give HOST:PORT"),
        ({"coordinator": "here:65536"}, "give HOST:PORT"),
        ({"coordinator": "here:x"}, "give HOST:PORT"),
        ({"coordinator": "here:1"}, "coordinator=here:1 needs num_processes: give it as well"),
        ({"coordinator": "here:1", "num_processes": 2}, "coordinator=here:1 needs process_id"),
        (
            {"coordinator": "here:1", "num_processes": 2, "process_id": 2},
            r"process_id=2: give a whole number from 0 to 1 \(num_processes=2\)",
        ),
        ({"coordinator": "auto", "process_id": -1}, "process_id=-1: give a whole number >= 0"),
        (
            {"coordinator": "auto", "num_processes": 0},
            "num_processes=0: give a whole number >= 1",
        ),
    ],
)
def test_processes_that_cannot_meet_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Processes(**given)


@pytest.fixture
def initialized(monkeypatch):
    """What JAX was asked to start with, and set to."""
    asked = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *a, **k: asked.update(given=a))
    monkeypatch.setattr(jax.config, "update", asked.__setitem__)
    monkeypatch.setattr(rendezvous, "meet", lambda *given: asked.update(met=given))
    return asked


def test_devices_are_counted_over_all_processes(initialized):
    given = Processes(coordinator="here:5000", num_processes=2, process_id=0)
    with pytest.raises(ValueError, match="num_devices=3 do not split over num_processes=2: give"):
        hosts.start(given, 3)
    assert not initialized
    hosts.start(given, 4)
    assert initialized["met"] == ("here:5000", 2, 0, 300)
    assert initialized["given"] == ("here:5000", 2, 0)
    assert initialized["jax_num_cpu_devices"] == 2
    assert initialized["jax_cpu_collectives_implementation"] == "gloo"


def test_a_cluster_manager_is_asked_only_if_that_is_wanted(initialized):
    hosts.start(Processes(coordinator="auto"), 4)
    assert initialized["given"] == (None, None, None)
    assert "jax_num_cpu_devices" not in initialized  # how many processes there are is not known


def test_what_jax_says_is_put_into_a_line(monkeypatch, initialized):
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match=r"did not meet \(no port\): is the port free"):
        hosts.start(Processes(coordinator=free_address(), num_processes=2, process_id=0), 2)


def fail(*_, **__):
    raise RuntimeError("no port")
