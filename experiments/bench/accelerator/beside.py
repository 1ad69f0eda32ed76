"""The section `beside`: this library, rejax and PureJaxRL on the same device, in turn."""

import json
import time
from pathlib import Path
from typing import Any

from rows import HYPER

from accelerator.job import Job
from accelerator.turns import HERE, Row, Task

EXECUTIONS = 3  # the first warms up, and is not counted
TASK = {"agent": "ppo", "num_envs": 64}
ROWS: tuple[Row, ...] = (
    {**TASK, "env": "CartPole-v1", "members": 1, "timesteps": 2**17},
    {**TASK, "env": "Breakout-MinAtar", "members": 1, "timesteps": 2**17},
    {**TASK, "env": "CartPole-v1", "members": 256, "timesteps": 2**15},
    {**TASK, "env": "Breakout-MinAtar", "members": 256, "timesteps": 2**15},
)
PRECISIONS = "highest", "default"
PEERS = {"rejax": "rejax", "purejaxrl": "purejaxrl/ppo.py"}  # what a folder has of each


def beside_tasks(job: Job) -> list[Task]:
    """All sides of each row, in the order in which they are timed."""
    peers = [name for name in PEERS if job.peers and (job.peers / PEERS[name]).exists()]
    if not peers:
        return [Task({"skipped": "no folder with rejax or PureJaxRL was given (--peers FOLDER)"})]
    return [task for row in ROWS for task in sides(row, peers, job.peers)]


def sides(row: Row, peers: list[str], folder: Path | None) -> list[Task]:
    """One row: this library in two precisions, then the others."""
    ours = {f"jaxrl-pg, {x}": ("ours", {"matmul_precision": x}) for x in PRECISIONS}
    others: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in peers}
    tasks = []
    for library, (name, more) in (ours | others).items():
        told = {"row": row, "hyper": HYPER["ppo"] | more, "devices": 1, "executions": EXECUTIONS}
        told |= {"wait": True, "launched": time.time()}
        labels = {"env": row["env"], "agents": row["members"], "envs": row["num_envs"]}
        folders = () if name == "ours" else (str(folder), str(folder and folder / "purejaxrl"))
        command = (str(HERE.parent / f"run_{name}.py"), json.dumps(told))
        tasks.append(Task({**labels, "library": library}, command, folders))
    return tasks
