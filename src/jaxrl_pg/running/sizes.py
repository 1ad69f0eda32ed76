"""Sizes that are given from outside, refused before anything of that size is made.

What only takes memory is refused by `memory_estimate`. Here are the sizes that a program cannot
even be traced with, or whose counting would overflow.
"""

from __future__ import annotations

import dataclasses

from jaxrl_pg.config import BaseConfig

__all__ = [
    "LARGEST",
    "MAX_CPU_DEVICES",
    "MAX_EVALS",
    "MAX_LAYERS",
    "MAX_PROCESSES",
    "require",
    "require_cpu_devices",
]

LARGEST = 2**31 - 1  # iterations, rows and indices are int32 in the compiled program
MAX_CPU_DEVICES = 1024  # each has threads of its own: with 2,000 JAX ends the process
MAX_EVALS = 100_000  # each is planned before the run, and saves a checkpoint
MAX_LAYERS = 100  # each is traced and compiled for itself
MAX_PROCESSES = 10_000  # process 0 keeps a connection to each


def require(config: BaseConfig) -> None:
    """Refuse a config with sizes that cannot be counted or compiled.

    Raises:
        ValueError: naming the field, its size, the limit and what to give instead.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, tuple) and len(value) > MAX_LAYERS:
            raise ValueError(
                f"{field.name} has {len(value):,} entries: give at most {MAX_LAYERS} (each is "
                "compiled for itself)"
            )
        for number in value if isinstance(value, tuple) else (value,):
            if type(number) is int and number > LARGEST and field.name != "total_timesteps":
                raise ValueError(
                    f"{field.name}={number}: give at most {LARGEST:,} (indices are 32-bit numbers)"
                )
    steps = config.steps_per_iteration
    if steps > LARGEST:
        raise ValueError(
            f"num_envs={config.num_envs} x num_steps={config.num_steps} are {steps:,} steps an "
            f"iteration: lower one of them to reach at most {LARGEST:,}"
        )
    if config.num_iterations > LARGEST:
        raise ValueError(
            f"total_timesteps={config.total_timesteps} are {config.num_iterations:,} iterations of "
            f"{steps:,} steps: give at most {LARGEST * steps:,}, or raise num_envs or num_steps "
            f"(at most {LARGEST:,} iterations are counted)"
        )


def require_cpu_devices(num_devices: int) -> None:
    """Refuse to split a CPU into more devices than JAX can start.

    Raises:
        ValueError: naming both numbers.
    """
    if num_devices > MAX_CPU_DEVICES:
        raise ValueError(
            f"num_devices={num_devices}: give at most {MAX_CPU_DEVICES:,} for one process (on a "
            "CPU one a core is enough)"
        )
