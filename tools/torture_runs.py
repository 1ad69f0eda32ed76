"""Runs of `tools/torture.py`: the commands that train them, and in what two of them differ."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
from orbax.checkpoint import v1 as ocp

COMMAND = [sys.executable, "-m", "jaxrl_pg.cli"]
RUN = "--num-envs 4 --num-steps 8 --hidden-sizes 16 --total-timesteps 3200 --num-evals 25"
SAVES = "--num-eval-episodes 2 --checkpoint-seconds 0 --keep-last 2 --quiet"
PASSES = "--num-epochs 2 --num-minibatches 2"
REPLAY = "--buffer-size 500 --batch-size 32 --learning-starts 64 --num-updates 2"
AGENTS = {
    "ppo": f"--env CartPole-v1 {PASSES} --normalize-obs",
    "actor_critic": "--env Pendulum-v1 --normalize-reward",
    "reinforce": "--env CartPole-v1",
    "natural_gradient": "--env CartPole-v1",
    "off_policy_actor_critic": "--env Pendulum-v1 --buffer-size 500 --replay-ratio 2",
    "analytical": f"--env Pendulum-v1 {PASSES}",
    "analytical_replay": f"--env CartPole-v1 {REPLAY}",
    "reps": f"--env CartPole-v1 {PASSES}",
    "multi_agent": f"--env Climbing-matrix --factors 3 3 {PASSES}",
    "sac": f"--env Pendulum-v1 {REPLAY}",
    "soft_q_learning": f"--env CartPole-v1 {REPLAY}",
    "td3": f"--env Pendulum-v1 {REPLAY}",
    "ddpg": f"--env Pendulum-v1 {REPLAY}",
    "pqn": f"--env CartPole-v1 {PASSES} --normalize-obs",
    "dqn": f"--env CartPole-v1 {REPLAY} --target-period 3",
}
PATIENCE = 600.0  # seconds until a process is given up


class Run:
    """One run's folder, and the commands that train it."""

    def __init__(self, agent: str, folder: Path, cache: Path) -> None:
        """Name the folder; nothing is made yet."""
        self.agent, self.folder, self.log = agent, folder, folder.with_suffix(".log")
        self.words = ["train", agent, *f"{RUN} {SAVES} {AGENTS.get(agent, '')}".split()]
        self.words += ["--run-dir", str(folder)]
        self.cache = cache

    def start(self, words: list[str]) -> subprocess.Popen[bytes]:
        """Start a command."""
        with self._log_of(words) as log:
            return subprocess.Popen(
                [*COMMAND, *words], stdout=log, stderr=log, env=self._environment()
            )

    def first(self) -> subprocess.Popen[bytes]:
        """Train from the start."""
        return self.start(self.words)

    def first_limited(self, blocks: int) -> int:
        """Train where no file may grow beyond so many blocks of 512 bytes; the exit code.

        What it prints goes through a pipe, since the limit would hold for the log as well.
        """
        limited = ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh", *COMMAND, *self.words]
        done = subprocess.run(
            limited,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            timeout=PATIENCE,
        )
        with self._log_of(self.words) as log:
            log.write(done.stdout)
        return done.returncode

    def again(self) -> subprocess.Popen[bytes]:
        """Do what the user does next: resume, or train where no run was begun yet."""
        begun = (self.folder / "config.json").exists()
        return self.start(["resume", str(self.folder)] if begun else self.words)

    def said(self) -> list[str]:
        """What the last command printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return text.rpartition("$ ")[2].splitlines()[1:]

    def num_rows(self) -> int:
        """Whole rows of metrics.jsonl."""
        path = self.folder / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def names(self) -> list[str]:
        """What lies in the folder of checkpoints."""
        try:
            return os.listdir(self.folder / "checkpoints")
        except OSError:
            return []

    def state(self) -> dict[str, np.ndarray]:
        """Every array of the newest checkpoint, and its step."""
        step = max(int(name) for name in self.names() if name.isdecimal())
        tree = ocp.load((self.folder / "checkpoints" / str(step)).absolute())
        named: dict[str, np.ndarray] = {"step": np.array(step)}
        todo = [("", tree)]
        while todo:
            path, node = todo.pop()
            if isinstance(node, dict):
                todo += [(f"{path}/{key}", child) for key, child in node.items()]
            else:
                named[path] = np.asarray(node)
        return named

    def rows(self) -> list[dict[str, object]]:
        """The rows without their wall-clock time."""
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [{k: x for k, x in json.loads(line).items() if k != "seconds"} for line in lines]

    def difference(self, other: "Run") -> str:
        """Say in what the runs ended differently; empty if in nothing."""
        ours, theirs = self.state(), other.state()
        for name in sorted({*ours, *theirs}):
            a, b = ours.get(name), theirs.get(name)
            if a is None or b is None or a.dtype != b.dtype or a.tobytes() != b.tobytes():
                return f"{name} of the last checkpoint differs"
        mine, yours = self.rows(), other.rows()
        if len(mine) != len(yours):
            return f"{len(mine)} rows instead of {len(yours)}"
        return next((f"row {i} differs" for i, a in enumerate(mine) if a != yours[i]), "")

    def _log_of(self, words: list[str]) -> IO[bytes]:
        """Open the log after noting a command in it."""
        log = self.log.open("ab")
        log.write(f"$ {' '.join(words)}\n".encode())
        log.flush()
        return log

    def _environment(self) -> dict[str, str]:
        """No process that may be killed writes to the cache of compiled programs."""
        seconds = "0" if self.folder.name.startswith("reference") else "1e9"
        return {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": seconds,
        }


def wait_until(
    process: subprocess.Popen[bytes], happens: Callable[[], bool], seconds: float = PATIENCE
) -> bool:
    """Wait until something happens, looking again and again; False if the process ends first."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        if happens():
            return True
        time.sleep(0.0003)  # a deletion is over in a few milliseconds
    return False


def at_row(run: Run, process: subprocess.Popen[bytes], rng: random.Random, last: int) -> bool:
    """Wait until there are some rows, at random, and a moment longer."""
    number = rng.randrange(1, last)
    seen = wait_until(process, lambda: run.num_rows() >= number)
    time.sleep(rng.uniform(0, 0.05))
    return seen


def at_name(run: Run, process: subprocess.Popen[bytes], rng: random.Random, mark: str) -> bool:
    """Wait until a name with a mark in it is in the checkpoints' folder for the k-th time."""
    seen: set[str] = set()
    number = rng.randrange(1, 20)

    def happens() -> bool:
        seen.update(name for name in run.names() if mark in name)
        return len(seen) >= number

    return wait_until(process, happens)


def end(process: subprocess.Popen[bytes], number: int) -> int:
    """Send a signal, and return the exit code; killed if it does not end."""
    process.send_signal(number)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return 999
