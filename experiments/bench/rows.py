"""What is trained: the rows of the benchmark, equal for every library.

`timesteps` are those of one execution and of each member: a few seconds on two cores, and two
iterations at least. `rates` are learning rates that the members share out among them.
"""

from typing import Any

__all__ = ["HYPER", "ROWS", "describe"]

Row = dict[str, Any]
HYPER: dict[str, Row] = {
    "ppo": {
        "num_steps": 128,
        "num_epochs": 4,
        "num_minibatches": 4,
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_eps": 0.2,
        "ent_coef": 0.01,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
    },
    # 8 environments are stepped once between 8 gradient steps.
    "sac": {
        "batch_size": 256,
        "learning_rate": 1e-3,
        "gamma": 0.99,
        "num_updates": 8,
        "learning_starts": 256,
    },
}


def _ppo(env: str, num_envs: int, timesteps: int, members: int = 1, **more: Any) -> Row:
    task = {"agent": "ppo", "env": env, "num_envs": num_envs, "members": members}
    return {**task, "timesteps": timesteps, **more}


def _sac(env: str, buffer_size: int, timesteps: int) -> Row:
    task = {"agent": "sac", "env": env, "num_envs": 8, "members": 1}
    return {**task, "timesteps": timesteps, "buffer_size": buffer_size}


ROWS = {
    "cartpole-4": _ppo("CartPole-v1", 4, 2**16),
    "cartpole-64": _ppo("CartPole-v1", 64, 2**17),
    "cartpole-1024": _ppo("CartPole-v1", 1024, 2**18),
    "breakout-64": _ppo("Breakout-MinAtar", 64, 2**16),
    "breakout-1024": _ppo("Breakout-MinAtar", 1024, 2**18),
    "cartpole-64x16": _ppo("CartPole-v1", 64, 2**14, members=16),
    "cartpole-64x64": _ppo(
        "CartPole-v1", 64, 2**14, members=64, rates=[1e-4 * 2.0**i for i in range(8)]
    ),
    "pendulum-10k": _sac("Pendulum-v1", 10_000, 8192),
    "pendulum-100k": _sac("Pendulum-v1", 100_000, 8192),
    "pendulum-1m": _sac("Pendulum-v1", 1_000_000, 1024),
    "cartpole-sac": _sac("CartPole-v1", 100_000, 8192),
}


def describe(row: Row) -> list[str]:
    """Return the cells of a row of a table: what is trained, environments, members."""
    replay = f", {row['buffer_size']:,} rows" if "buffer_size" in row else ""
    rates = f" ({len(row['rates'])} rates)" if "rates" in row else ""
    members = f"{row['members']}{rates}"
    return [f"{row['agent'].upper()}, {row['env']}{replay}", f"{row['num_envs']:,}", members]
