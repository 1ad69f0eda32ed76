"""Commands about many runs: `sweep` and `report`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from jaxrl_pg.cli import arguments, preparing, start_up, words

__all__ = ["ReportFlags", "SweepFlags", "run_report", "run_sweep"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepFlags:
    """Train every agent of an experiment that is not trained yet, then write the report."""

    run_dir: str | None = None
    """the sweep's folder; runs/<experiment> unless given"""
    num_devices: int | None = None
    """CPU devices to share the agents out over; one a core unless given"""
    launcher: Literal["local", "ray"] = "local"
    """local, or ray for a cluster with one group a task (extra: ray)"""
    dry_run: bool = False
    """say what would be done, and do nothing"""

    def __post_init__(self) -> None:
        """Refuse an unknown launcher."""
        if self.launcher not in ("local", "ray"):
            hint = words.did_you_mean(self.launcher, ["local", "ray"])
            raise ValueError(f"launcher={self.launcher!r}: {hint}give one of: local, ray")


def run_sweep(args: list[str]) -> int:
    """Train an experiment, and report."""
    experiment_file = arguments.Positional(
        "EXPERIMENT", "the name of a file in experiments/, or the path of one"
    )
    (path,), (flags, options) = arguments.read(
        "jaxrl-pg sweep", args, [SweepFlags, "jaxrl_pg.sweeps.batch:SweepOptions"], experiment_file
    )
    preparing.prepare(flags.num_devices or preparing.num_cores())
    from jaxrl_pg import report
    from jaxrl_pg.sweeps import launch_ray, sweep
    from jaxrl_pg.sweeps.experiment import load

    experiment = load(path)
    if flags.dry_run:
        print(sweep.dry_run(experiment, flags.run_dir, options))
        return 0
    if flags.launcher == "ray":
        num_cpus = flags.num_devices or 1
        start_up.raise_on_signals()  # Ray's own processes are to be ended, too
        folder = launch_ray.run_with_ray(experiment, flags.run_dir, options, num_cpus)
    else:
        folder = sweep.sweep(experiment, flags.run_dir, options)
    page = report.write([folder])
    if not options.quiet:
        print(f"results are in {folder / 'results.csv'}; report: {page}")
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlags:
    """Write figures, tables and a page about sweeps and runs."""

    out: str | None = None
    """the folder to write into; else `report` in the one RUN, or `reports/A_vs_B` of several"""
    jsonl: bool = False
    """write a file of rows for each agent as well"""
    tensorboard: bool = False
    """write a TensorBoard run for each agent as well (extra: tensorboard)"""


def run_report(args: list[str]) -> int:
    """Write a report."""
    folders = arguments.Positional("RUN", "folders, compared with each other", many=True)
    runs, (flags,) = arguments.read("jaxrl-pg report", args, [ReportFlags], folders)
    from jaxrl_pg import report

    print(report.write(runs, flags.out, flags.jsonl, flags.tensorboard))
    return 0
