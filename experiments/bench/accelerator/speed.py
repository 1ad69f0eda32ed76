"""The sections `ppo`, `sac`, `brax` and `throughput`: environment steps a second."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from accelerator.job import Job
from accelerator.ladder import climb
from accelerator.programs import Rung
from jaxrl_pg import ppo, sac

PPO = {"num_epochs": 4, "num_minibatches": 4, "total_timesteps": 10_000_000}
ENVIRONMENTS = ("CartPole-v1", "Breakout-MinAtar")
BRAX = "brax:ant?backend=spring"


def ppo_config(job: Job, env: str, **changes: Any) -> ppo.Config:
    """PPO's settings in all sections: two towers of 64 and 64, a convolution for images."""
    sizes = {"num_envs": job.sizes.num_envs, "num_steps": job.sizes.num_steps}
    return ppo.Config(env=env, **{**PPO, **sizes, **changes})


def sac_config(job: Job, **changes: Any) -> sac.Config:
    """SAC with one gradient step for each of its 8 environments' steps."""
    loop = {"num_envs": 8, "num_steps": 1, "num_updates": 8}
    begin = {"learning_starts": 0, "buffer_size": job.sizes.replay, "total_timesteps": 1_000_000}
    return sac.Config(env="Pendulum-v1", **{**loop, **begin, **changes})


def ppo_rungs(job: Job, env: str) -> list[Rung]:
    """Members of one environment, few to many."""
    config = ppo_config(job, env)
    return [
        Rung({"env": env, "agents": n, "envs": config.num_envs}, config, n)
        for n in job.sizes.members
    ]


def sac_rungs(job: Job) -> list[Rung]:
    """Members with a replay of their own."""
    config = sac_config(job)
    labels = {"env": config.env, "rows": config.buffer_size, "envs": config.num_envs}
    return [Rung({**labels, "agents": n}, config, n) for n in job.sizes.replay_members]


def throughput_rungs(job: Job, env: str) -> list[Rung]:
    """One member with few to many environments."""
    return [
        Rung({"env": env, "agents": 1, "envs": n}, ppo_config(job, env, num_envs=n))
        for n in job.sizes.envs
    ]


def brax_rungs(job: Job) -> list[Rung]:
    """PPO on Brax's ant."""
    return [
        Rung(
            {"env": BRAX, "agents": 1, "envs": n},
            ppo_config(job, BRAX, num_envs=n, num_steps=16, num_minibatches=2),
        )
        for n in job.sizes.brax_envs
    ]


def ppo_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Agents side by side, each with its own environments, as far as memory goes."""
    for part, env in zip(job.parts(len(ENVIRONMENTS)), ENVIRONMENTS, strict=True):
        yield from climb(part, ppo_rungs(job, env))


def sac_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Agents side by side, each with its own large replay."""
    yield from climb(job, sac_rungs(job))


def brax_rows(job: Job) -> Iterator[dict[str, Any]]:
    """PPO on Brax, if it is installed."""
    if find_spec("brax") is None:
        yield {"env": BRAX, "skipped": "brax is not installed"}
        return
    yield from climb(job, brax_rungs(job))


def throughput_rows(job: Job) -> Iterator[dict[str, Any]]:
    """One agent with more and more environments."""
    for part, env in zip(job.parts(len(ENVIRONMENTS)), ENVIRONMENTS, strict=True):
        yield from climb(part, throughput_rungs(job, env))
