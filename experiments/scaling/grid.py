"""What is measured: a point for every size along each axis, around one base.

The base is PPO on CartPole-v1 with 64 environments, 32 steps a rollout, 4 epochs of 4 minibatches
and two layers of 64 units; it is the point `envs-64`. SAC on Pendulum-v1 stands for what learns
from a replay.
"""

from typing import Any

__all__ = ["AXES", "COMPILED_ONLY", "POINTS"]

BASE = {"num_envs": 64, "num_steps": 32, "num_minibatches": 4}
ENVS = [2**i for i in range(4, 15)]
MEMBERS = [4, 16, 64, 256]
WIDTHS = [32, 128, 256, 512, 1024]
REPLAYS = [10**i for i in range(3, 7)]
HELD = [2**i for i in (6, 9, 12, 14, 16, 17)]
ON_TWO = [64, 256, 1024, 4096, 16384]
# About as many environment steps in one execution, so that each lasts long enough to be timed.
STEPS = {"ppo": 2**16, "sac": 2**9}


def _point(axis: str, value: int, devices: int = 1, **changes: Any) -> dict[str, Any]:
    """Return one point: what is trained, how much of it in one execution, and on what."""
    agent = changes.pop("agent", "ppo")
    point = {"axis": axis, "value": value, "devices": devices, "agent": agent, "members": 1}
    point |= {"env": "CartPole-v1", **BASE} if agent == "ppo" else {"env": "Pendulum-v1"}
    point |= changes
    steps = point.get("num_envs", 8) * point.get("num_steps", 8) * point["members"]
    point["iterations"] = max(1, STEPS[agent] // steps)
    return point


def _name(point: dict[str, Any]) -> str:
    devices = f"-{point['devices']}-devices" if point["devices"] > 1 else ""
    return f"{point['axis']}-{point['value']}{devices}"


AXES = {
    "envs": [_point("envs", n, num_envs=n) for n in ENVS]
    + [_point("envs", n, devices=2, num_envs=n) for n in ON_TWO],
    # The same where the C library keeps large blocks of memory instead of giving them back.
    "kept": [_point("kept", n, num_envs=n, kept=True) for n in ENVS[-2:]],
    "vmap": [_point("vmap", n, members=n, layout="vmap") for n in MEMBERS],
    "map": [_point("map", n, members=n, layout="map") for n in MEMBERS]
    + [_point("map", n, devices=2, members=n, layout="map") for n in MEMBERS],
    "width": [_point("width", n, hidden_sizes=(n, n)) for n in WIDTHS]
    + [_point("width", n, devices=2, hidden_sizes=(n, n)) for n in (256, 1024)],
    "replay": [_point("replay", n, agent="sac", buffer_size=n) for n in REPLAYS],
    "rates": [{"axis": "rates", "value": 0, "devices": n} for n in (1, 2)],
    "beyond": [_point("beyond", 2**17, num_envs=2**17)],
    # What accelerators were measured with: 128 steps a rollout.
    "held": [_point("held", n, num_envs=n, num_steps=128) for n in HELD],
}
POINTS = {_name(point): point for points in AXES.values() for point in points}
"""all points by name, in the order in which they are measured"""
COMPILED_ONLY = [name for name, point in POINTS.items() if point["axis"] in ("beyond", "held")]
"""what is for accelerators, and is counted but not timed here"""
