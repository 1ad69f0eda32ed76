"""A sweep on a Ray cluster: one group a task, results in the shared folder.

A task that loses its worker is tried again, on another worker if there is one. It goes on from
the batch's newest checkpoint in the folder, so that what was trained is not trained again.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.sweeps.batch import SweepOptions
from jaxrl_pg.sweeps.experiment import Experiment, groups, parse
from jaxrl_pg.sweeps.folder import collect, folder_of, opened
from jaxrl_pg.sweeps.sweep import train_groups
from jaxrl_pg.training import devices

__all__ = ["run_with_ray", "train_group"]

_RETRIES = 3


def run_with_ray(
    experiment: Experiment,
    run_dir: str | os.PathLike[str] | None = None,
    options: SweepOptions | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Path:
    """Train what is missing of an experiment, as `sweep.sweep`, on a Ray cluster.

    The cluster is the one that `RAY_ADDRESS` names, or else this machine. Every worker must see
    the folder under the same path.

    Args:
        experiment: an experiment from `experiment.load`.
        run_dir: the sweep's folder.
        options: how to run each group.
        num_cpus: reserved for a task; JAX gets as many CPU devices.
        num_gpus: reserved for a task.

    Raises:
        ValueError: if Ray is not installed, or for what `sweep` refuses.
    """
    if find_spec("ray") is None:
        raise ValueError('launcher="ray" needs the extra: pip install "jaxrl-pg[ray]"')
    import ray

    folder = folder_of(experiment, run_dir)
    every_group = groups(experiment.points)
    began = time.monotonic()
    ours, quiet = not ray.is_initialized(), options is not None and options.quiet
    with opened(folder, experiment):
        if ours:
            ray.init(log_to_driver=False, logging_level="ERROR")
        try:
            task = ray.remote(train_group).options(
                num_cpus=num_cpus, num_gpus=num_gpus, max_retries=_RETRIES
            )
            named = (experiment.name, experiment.table)
            shared = (str(folder), options or SweepOptions(), max(1, int(num_cpus)))
            waiting = [task.remote(*named, group.id, *shared) for group in every_group]
            _wait(waiting, quiet)
        finally:
            if ours:
                ray.shutdown()
        collect(folder, experiment, time.monotonic() - began, quiet)
    return folder


def _wait(waiting: list[Any], quiet: bool) -> None:
    """Wait until every task is done; raise the first error of a task at once."""
    import ray

    total = len(waiting)
    while waiting:
        done, waiting = ray.wait(waiting)
        ray.get(done)
        if not quiet:
            print(f"{total - len(waiting)} of {total} groups are done", file=sys.stderr, flush=True)


def train_group(
    name: str, table: Any, group_id: str, folder: str, options: SweepOptions, num_devices: int
) -> None:
    """Train the runs of one group: the task of a worker, in a process of its own."""
    devices.prepare(num_devices)
    experiment = parse(name, table)
    its_groups = [group for group in groups(experiment.points) if group.id == group_id]
    with Interrupt() as interrupt:
        train_groups(experiment, its_groups, Path(folder), options, interrupt)
    interrupt.raise_if_received(f"saved; {group_id} can be gone on with")
