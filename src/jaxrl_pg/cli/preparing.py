"""What a command does to its process before JAX is used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxrl_pg.running.options import Processes

__all__ = ["num_cores", "prepare"]


def prepare(num_devices: int | None, processes: Processes | None = None) -> None:
    """Prepare JAX for so many devices, counted over all processes of the run."""
    from jaxrl_pg.running import sizes
    from jaxrl_pg.training import devices

    if processes is None or processes.coordinator is None:
        sizes.require_cpu_devices(num_devices or 1)
        devices.prepare(num_devices or 1)
        return
    from jaxrl_pg.running import hosts

    devices.prepare(1)
    hosts.start(processes, num_devices)


def num_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # only where the system can confine a process
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
