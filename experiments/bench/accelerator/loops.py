"""The section `loops`: PPO with and without the loops in its rollout, and loops as CUDA graphs.

On a CPU new episodes are drawn, and what was cut off is valued, in loops that mostly have nothing
to do; on a GPU, where each round of a loop waits for the host, without them (`envs.episodes`).
"""

import json
import time

from rows import HYPER

from accelerator.job import Job
from accelerator.turns import HERE, Row, Task

EXECUTIONS = 4  # the first warms up, and is not counted
# Environment, agents, iterations of a call, and what else the config is given.
ROWS: tuple[tuple[str, int, int, Row], ...] = (
    ("CartPole-v1", 1, 8, {}),
    ("CartPole-v1", 256, 4, {}),
    ("Breakout-MinAtar", 10, 4, {"conv_features": 16}),
)
GRAPHS = (
    "--xla_gpu_enable_command_buffer="
    "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,WHILE,CONDITIONAL"
)
WAYS = {
    "with loops": (True, ""),
    "without": (False, ""),
    "with loops, all as CUDA graphs": (True, GRAPHS),
    "without, all as CUDA graphs": (False, GRAPHS),
}


def loops_tasks(job: Job) -> list[Task]:
    """Each program in all ways."""
    rows, ways = (ROWS[:1], list(WAYS)[:2]) if job.tiny else (ROWS, list(WAYS))
    return [_task(job, row, way) for row in rows for way in ways]


def _task(job: Job, row: tuple[str, int, int, Row], way: str) -> Task:
    env, agents, iterations, more = row
    envs, (loops, flags) = job.sizes.num_envs, WAYS[way]
    hyper = HYPER["ppo"] | {"num_steps": job.sizes.num_steps} | more
    timesteps = iterations * hyper["num_steps"] * envs
    what = {"agent": "ppo", "env": env, "num_envs": envs, "members": agents}
    told = {"row": {**what, "timesteps": timesteps}, "hyper": hyper, "loops": loops, "devices": 1}
    told |= {"executions": EXECUTIONS, "wait": True, "launched": time.time()}
    command = (str(HERE.parent / "run_ours.py"), json.dumps(told))
    labels = {"env": env, "agents": agents, "envs": envs, "rollout": way}
    return Task(labels, command, flags=flags)
