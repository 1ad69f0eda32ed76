"""Sections whose every row is a program: a few are compiled together, and compute in turn.

On an accelerator compiling takes longer than measuring. So each program has a process of its own;
a few compile at the same time, and then each waits until it is the only one that computes. This
process itself leaves the accelerator alone.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import IO, Any, NamedTuple

from accelerator.job import Job
from accelerator.plan import SECTIONS
from accelerator.record import Record, plain

HERE = Path(__file__).resolve().parent
LATE = 20.0  # seconds after the end of their time at which processes are ended
CALLS = 4  # of a program: what its row needs at least
MOST = 0.25  # of the time that is left, for one program

Row = dict[str, Any]


class Task(NamedTuple):
    """A program to measure, or a row that needs none.

    Attributes:
        labels: what its row says of it before it is measured.
        command: of the process that says "compiled", waits for a line, and prints its row as JSON.
        folders: from which it imports before all others.
        steps: environment steps of a call.
        ladder: tasks of the same name grow; where one fails, larger ones are left out.
        flags: XLA's flags in its process, beside those that are set.
    """

    labels: Row
    command: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    steps: int = 0
    ladder: str = ""
    flags: str = ""


class Waiting(NamedTuple):
    """A process that compiles and then waits for its turn, and the file of its errors."""

    task: Task
    process: subprocess.Popen[str]
    errors: IO[str]

    def compiled(self) -> None:
        """Wait until it has compiled, or has ended."""
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def measured(self) -> Row:
        """Let it compute, and read its row."""
        said, _ = self.process.communicate("go\n")
        if self.process.returncode == 0:
            return dict(json.loads(said.splitlines()[-1]))
        if self.process.returncode == -signal.SIGKILL:
            return {"skipped": f"ended, {LATE:.0f} s after its time was over"}
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"ended with status {self.process.returncode}: {plain(last)}"}

    def end(self) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def rung_task(section: str, index: int, job: Job, labels: Row, **more: Any) -> Task:
    """The task of one rung of a section, which `turn.py` finds again by its index."""
    told = json.dumps({"section": section, "index": index, "tiny": job.tiny})
    return Task(labels, (str(HERE.parent / "turn.py"), told), **more)


def run(record: Record, names: Sequence[str], job: Job) -> None:
    """Measure all programs of some sections."""
    left: list[tuple[str, Task]] = []
    for name in names:
        record.start(name, job.end)
        try:
            module = importlib.import_module(f"accelerator.{SECTIONS[name].module}")
            left += [(name, task) for task in getattr(module, f"{name}_tasks")(job)]
        except Exception as error:
            record.end(name, "failed", why=plain(f"{type(error).__name__}: {error}"))
    known = Known()
    while left:
        wave, left = left[: job.processes], left[job.processes :]
        for (name, _), row in zip(
            wave, measured(job, [task for _, task in wave], known), strict=True
        ):
            record.add(name, row)
            print(name, row, flush=True)
        for name in {name for name, _ in wave} - {name for name, _ in left}:
            record.end(name, "done")


@dataclass
class Known:
    """What the rows so far say of later ones."""

    speed: dict[str, float] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def add(self, task: Task, row: Row) -> None:
        """Learn from a row of a ladder."""
        if not task.ladder:
            return
        if "error" in row:
            self.failed.add(task.ladder)
        self.speed[task.ladder] = row.get("steps_per_s") or self.speed.get(task.ladder, 0.0)

    def against(self, task: Task, seconds: float) -> str:
        """Why a task is not tried, with this much time; empty if it is."""
        if task.ladder in self.failed:
            return "a smaller one failed"
        if seconds <= 0:
            return "no time was left"
        speed = self.speed.get(task.ladder, 0.0)
        need = CALLS * task.steps / speed if speed else 0.0
        late = need > MOST * seconds
        return f"no time: it needs {need:.0f} s of the {seconds:.0f} that are left" * late


def measured(job: Job, tasks: Sequence[Task], known: Known) -> Iterator[Row]:
    """The rows of tasks that are compiled together."""
    waiting: dict[int, Waiting] = {}
    late = Timer(max(0.0, job.left()) + LATE, lambda: [x.process.kill() for x in waiting.values()])
    late.start()
    try:
        for i, task in enumerate(tasks):
            if task.command and not known.against(task, job.left()):
                waiting[i] = start(task)
        for one in waiting.values():
            one.compiled()
        for i, task in enumerate(tasks):
            row: Row = {}
            if i in waiting:  # it is compiled, and may be a little late
                why = known.against(task, job.left() + LATE / 2)
                row = {"skipped": why} if why else waiting[i].measured()
            elif task.command:
                row = {"skipped": known.against(task, job.left()) or "no time was left"}
            known.add(task, row)
            yield {**task.labels, **row}
    finally:
        late.cancel()
        for one in waiting.values():
            one.end()


def start(task: Task) -> Waiting:
    """Start a task's process on the accelerator, of whose memory it takes only what it needs."""
    env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    if "ACCELERATOR_PLATFORMS" in env:
        env["JAX_PLATFORMS"] = env.pop("ACCELERATOR_PLATFORMS")
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {task.flags}".strip()
    env["PYTHONPATH"] = os.pathsep.join([*task.folders, env.get("PYTHONPATH", "")])
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
    process = subprocess.Popen(
        [sys.executable, *task.command],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    return Waiting(task, process, errors)
