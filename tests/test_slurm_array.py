"""The script for Slurm, with stand-ins for both: what is started, told and queued again."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "slurm_array.sh"
# Says with what it was started, then trains until it is told to stop, or ends at once.
JAXRL_PG = """#!/bin/sh
trap 'echo saved >> calls; exit 143' TERM
mkdir -p runs/array/seed-3 && touch runs/array/seed-3/config.json
echo "jaxrl-pg $*" >> calls
[ -e finished ] && exit 0
while :; do sleep 0.02; done
"""
SCONTROL = """#!/bin/sh
echo "scontrol $*" >> calls
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def task(tmp_path):
    """Start the task, send it a signal once it trains; return its exit code and what happened."""
    for name, text in {"jaxrl-pg": JAXRL_PG, "scontrol": SCONTROL}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environ = {"PATH": path, "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    calls = tmp_path / "calls"

    def start(*args, told=None):
        calls.unlink(missing_ok=True)
        process = subprocess.Popen(["bash", SCRIPT, *args], cwd=tmp_path, env=environ)
        deadline = time.monotonic() + 30
        while not calls.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if told is not None:
            process.send_signal(told)
        code = process.wait(30)
        return code, calls.read_text().splitlines()

    return start


def test_a_task_out_of_time_is_queued_again_and_goes_on(task, tmp_path):
    code, calls = task(told=signal.SIGUSR1)
    assert code == 143
    assert calls == [
        "jaxrl-pg train ppo --env CartPole-v1 --total-timesteps 1000000 --seed 3"
        " --run-dir runs/array/seed-3",
        "saved",
        "scontrol requeue 77_3",
    ]
    (tmp_path / "finished").touch()
    assert task() == (0, ["jaxrl-pg resume runs/array/seed-3"])


def test_a_task_that_is_cancelled_saves_and_is_not_queued_again(task):
    code, calls = task("sac", "--env", "Pendulum-v1", told=signal.SIGTERM)
    assert code == 143
    first, *rest = calls
    assert first.startswith("jaxrl-pg train sac --env Pendulum-v1 --seed 3 ")
    assert rest == ["saved"]
