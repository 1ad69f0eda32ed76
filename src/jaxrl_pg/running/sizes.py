"""Sizes that are given from outside, refused before anything of that size is made.

What only takes memory is refused by `memory_estimate`, and sizes in a config by the config itself.
"""

from __future__ import annotations

__all__ = [
    "LARGEST",
    "MAX_CPU_DEVICES",
    "MAX_EVALS",
    "MAX_PROCESSES",
    "MAX_SEEDS",
    "require_cpu_devices",
]

LARGEST = 2**31 - 1  # iterations, rows and indices are int32 in the compiled program
MAX_CPU_DEVICES = 1024  # each has threads of its own: with 2,000 JAX ends the process
MAX_EVALS = 100_000  # each is planned before the run, and saves a checkpoint
MAX_SEEDS = 10_000  # of one run: each has a value in every row of an evaluation
MAX_PROCESSES = 10_000  # process 0 keeps a connection to each


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
