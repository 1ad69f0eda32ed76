"""The section `beside`: this library, rejax and PureJaxRL on the same device, in the same minutes.

Every program has a process of its own. Those of a row are compiled at the same time; then each
waits for its turn, so that only one of them computes while it is timed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from threading import Timer
from typing import IO, Any, NamedTuple

from accelerator.job import Job
from accelerator.record import plain

BENCH = Path(__file__).resolve().parents[1]
EXECUTIONS = 4  # the first warms up
TASK = {"agent": "ppo", "num_envs": 64}
ROWS = (
    {**TASK, "env": "CartPole-v1", "members": 1, "timesteps": 2**17},
    {**TASK, "env": "Breakout-MinAtar", "members": 1, "timesteps": 2**17},
    {**TASK, "env": "CartPole-v1", "members": 256, "timesteps": 2**15},
    {**TASK, "env": "Breakout-MinAtar", "members": 256, "timesteps": 2**15},
)
TINY = {"num_envs": 4, "timesteps": 2**10, "members": 1}
PRECISIONS = "highest", "default"
LATE = 25.0  # seconds after the end of its time at which a row's processes are ended


class Side(NamedTuple):
    """A process that compiles and then waits for its turn, and what it says of errors."""

    library: str
    process: subprocess.Popen[str]
    errors: IO[str]

    def compiled(self) -> None:
        """Wait until it has compiled, or has ended."""
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def timed(self) -> dict[str, Any]:
        """Let it compute, and read what it reports."""
        said, _ = self.process.communicate("go\n")
        if self.process.returncode:
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["it said nothing"])[-1]
            return {"error": f"ended with status {self.process.returncode}: {plain(last)}"}
        record = json.loads(said.splitlines()[-1])
        seconds = record["run_s"][1:]
        return {
            "steps_per_s": round(record["timesteps"] / median(seconds)),
            "seconds": [float(f"{s:.4g}") for s in seconds],
            "lower_s": round(record["lower_s"], 2),
            "compile_s": round(record["compile_s"], 2),
            "num_params": record["num_params"],
            "with": record["versions"],
        }


def beside_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Steps a second of all sides of each row, in the order in which they are timed."""
    peers = [name for name in ("rejax", "purejaxrl") if job.peers and found(job.peers, name)]
    if not peers:
        yield {"skipped": "no folder with rejax or PureJaxRL was given (--peers FOLDER)"}
        return
    for part, row in zip(job.parts(len(ROWS)), ROWS, strict=True):
        yield from compared(part, {**row, **TINY} if job.tiny else row, peers)


def found(folder: Path, name: str) -> bool:
    """Whether a folder of packages has a peer; PureJaxRL is the folder of its scripts."""
    return (folder / {"rejax": "rejax", "purejaxrl": "purejaxrl/ppo.py"}[name]).exists()


def compared(job: Job, row: dict[str, Any], peers: list[str]) -> Iterator[dict[str, Any]]:
    """One row: compile all sides at the same time, then time one after the other."""
    labels = {"env": row["env"], "agents": row["members"], "envs": row["num_envs"]}
    if job.left() < 1:
        yield {**labels, "skipped": "no time was left"}
        return
    ours = [(f"jaxrl-pg, {x}", "ours", {"matmul_precision": x}) for x in PRECISIONS]
    sides = [start(job, *side, row) for side in [*ours, *((name, name, {}) for name in peers)]]
    end = Timer(job.left() + LATE, lambda: [side.process.kill() for side in sides])
    end.start()
    try:
        for side in sides:
            side.compiled()
        for side in sides:
            yield {**labels, "library": side.library, **side.timed()}
    finally:
        end.cancel()
        for side in sides:
            side.process.kill()
            side.process.wait()


def start(job: Job, library: str, name: str, hyper: dict[str, Any], row: dict[str, Any]) -> Side:
    """The process of one side."""
    from rows import HYPER  # beside the script, and on the path only when that runs

    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if job.peers and name != "ours":
        paths = [str(job.peers), str(job.peers / "purejaxrl"), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(paths)
    task = {"row": row, "hyper": HYPER["ppo"] | hyper, "devices": 1, "executions": EXECUTIONS}
    told = json.dumps({**task, "wait": True, "launched": time.time()})
    errors = tempfile.TemporaryFile("w+")
    process = subprocess.Popen(
        [sys.executable, str(BENCH / f"run_{name}.py"), told],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    return Side(library, process, errors)
