"""The command line: arguments in, calls of the Python API, exit codes out."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.cli import arguments

if TYPE_CHECKING:
    from jaxrl_pg.running.loop import Result
    from jaxrl_pg.running.options import Processes

__all__ = ["main"]

_HELP = """\
usage: jaxrl-pg COMMAND ...

Policy-gradient agents in JAX, compiled end to end.

commands:
  train [AGENT] [--env ID] [--run-dir DIR] [--seed N] ... train from scratch (agents: {agents})
  resume RUN [--total-timesteps N] ...                    go on with a stopped run, or go further
  evaluate RUN [--num-episodes N] ...                     whole episodes of a trained policy
  sweep EXPERIMENT [--dry-run] ...                        train every agent of an experiment file
  report RUN ...                                          figures, tables and a page of sweeps

`jaxrl-pg COMMAND --help` (`jaxrl-pg train ppo --help`) lists every option.

  jaxrl-pg train ppo --env CartPole-v1 --num-envs 1024 --total-timesteps 1000000
"""


_RUN = arguments.Positional("RUN", "the run folder")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 diverged, 2 wrong arguments, 130 interrupted.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    commands = {
        "train": _train,
        "resume": _resume,
        "evaluate": _evaluate,
        "sweep": _sweep,
        "report": _report,
    }
    if not args or args[0] in ("-h", "--help", "help"):
        print(_HELP.format(agents=", ".join(AGENT_NAMES)))
        return 0
    if args[0] not in commands:
        return _refuse(f"unknown command {args[0]!r}: give one of: {', '.join(commands)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return commands[args[0]](args[1:])
    except arguments.Help as shown:
        print(shown)
        return 0
    except ValueError as error:
        return _refuse(str(error))
    except FloatingPointError as error:
        print(f"jaxrl-pg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainFlags:
    """Train from scratch."""

    run_dir: str | None = None
    """a folder that is absent or empty; one under runs/ unless given"""
    seed: int = 0
    """the run's seed"""


def _train(args: list[str]) -> int:
    if not args or args[0].startswith("-"):
        args = [AGENT_NAMES[0], *args]
    agent, *args = args
    if agent not in AGENT_NAMES:
        return _refuse(f"unknown agent {agent!r}: give one of: {', '.join(AGENT_NAMES)}")
    import jaxrl_pg
    from jaxrl_pg.running.options import Options, Processes

    config_class = getattr(jaxrl_pg, agent).Config
    sources = [_TrainFlags, config_class, Options, Processes]
    _, (flags, config, options, processes) = arguments.read(
        f"jaxrl-pg train {agent}", args, sources
    )
    _prepare(config.num_devices, processes)
    return _done(jaxrl_pg.run(config, flags.run_dir, flags.seed, options))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ResumeFlags:
    """Go on with a run from its newest good checkpoint."""

    total_timesteps: int | None = None
    """train up to here instead of where the run was to end"""
    tensorboard: bool | None = None
    """write TensorBoard files as well; as before unless given"""
    quiet: bool | None = None
    """print nothing; as before unless given"""


def _resume(args: list[str]) -> int:
    from jaxrl_pg.running.options import Processes

    (run,), (flags, processes) = arguments.read(
        "jaxrl-pg resume", args, [_ResumeFlags, Processes], _RUN
    )
    import jaxrl_pg

    _prepare(_saved_num_devices(run, processes.coordinator is not None), processes)
    changes = {"tensorboard": flags.tensorboard, "quiet": flags.quiet}
    given = {name: x for name, x in changes.items() if x is not None}
    return _done(jaxrl_pg.resume(run, flags.total_timesteps, **given))


def _saved_num_devices(run: str, may_be_elsewhere: bool) -> int | None:
    """Return the run's number of devices.

    It is None if the run's folder is not here: where a run has several hosts, not all need see it.
    """
    from jaxrl_pg.running.run_folder import RunFolder

    try:
        saved = RunFolder.open(run).config.get("config")
    except ValueError:
        if may_be_elsewhere:
            return None
        raise
    return saved.get("num_devices", 1) if isinstance(saved, dict) else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EvaluateFlags:
    """Play whole episodes with a trained policy."""

    num_episodes: int = 128
    """number of episodes"""
    seed: int = 0
    """seed of the episodes"""
    stochastic: bool = False
    """sample actions instead of taking the most probable"""
    checkpoint: int | None = None
    """iteration of the checkpoint; the newest good one unless given"""

    def __post_init__(self) -> None:
        """Refuse to play no episode."""
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes={self.num_episodes}: give a whole number >= 1")


def _evaluate(args: list[str]) -> int:
    (run,), (flags,) = arguments.read("jaxrl-pg evaluate", args, [_EvaluateFlags], _RUN)
    from jaxrl_pg.running.run_folder import RunFolder

    RunFolder.open(run)
    import numpy as np

    import jaxrl_pg
    from jaxrl_pg.training import seeding

    _prepare(1)
    key = seeding.key_of_seed(flags.seed)
    policy = jaxrl_pg.load(run, step=flags.checkpoint)
    returns = np.asarray(
        jaxrl_pg.evaluate(
            policy.config, policy.state, key, flags.num_episodes, not flags.stochastic
        )
    )
    print(
        f"iteration {policy.step}: return {returns.mean():.2f} +- {returns.std():.2f} over "
        f"{flags.num_episodes} episodes (lowest {returns.min():.2f}, highest {returns.max():.2f})"
    )
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SweepFlags:
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
            raise ValueError(f"launcher={self.launcher!r}: give one of: local, ray")


def _sweep(args: list[str]) -> int:
    from jaxrl_pg.sweeps.batch import SweepOptions

    experiment_file = arguments.Positional(
        "EXPERIMENT", "the name of a file in experiments/, or the path of one"
    )
    (path,), (flags, options) = arguments.read(
        "jaxrl-pg sweep", args, [_SweepFlags, SweepOptions], experiment_file
    )
    _prepare(flags.num_devices or len(os.sched_getaffinity(0)))
    from jaxrl_pg import report
    from jaxrl_pg.sweeps import launch_ray, sweep
    from jaxrl_pg.sweeps.experiment import load

    experiment = load(path)
    if flags.dry_run:
        print(sweep.dry_run(experiment, flags.run_dir, options))
        return 0
    if flags.launcher == "ray":
        num_cpus = flags.num_devices or 1
        folder = launch_ray.run_with_ray(experiment, flags.run_dir, options, num_cpus)
    else:
        folder = sweep.sweep(experiment, flags.run_dir, options)
    print(f"results are in {folder / 'results.csv'}; report: {report.write([folder])}")
    return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReportFlags:
    """Write figures, tables and a page about sweeps and runs."""

    out: str | None = None
    """the folder to write into; `report` in the first one unless given"""
    jsonl: bool = False
    """write a file of rows for each agent as well"""
    tensorboard: bool = False
    """write a TensorBoard run for each agent as well (extra: tensorboard)"""


def _report(args: list[str]) -> int:
    folders = arguments.Positional("RUN", "folders, compared with each other", many=True)
    runs, (flags,) = arguments.read("jaxrl-pg report", args, [_ReportFlags], folders)
    from jaxrl_pg import report

    print(report.write(runs, flags.out, flags.jsonl, flags.tensorboard))
    return 0


def _prepare(num_devices: int | None, processes: Processes | None = None) -> None:
    """Prepare JAX for so many devices, counted over all processes of the run."""
    from jaxrl_pg.training import devices

    if processes is None or processes.coordinator is None:
        devices.prepare(num_devices or 1)
        return
    from jaxrl_pg.running import hosts

    devices.prepare(1)
    hosts.start(processes, num_devices)


def _done(result: Result) -> int:
    from jaxrl_pg.running import hosts

    if not hosts.is_first():
        return 0
    score = result.metrics.get("eval/return_mean")
    if score is not None and len(score):
        print(f"return {score[-1]:.2f} after {result.metrics['timesteps'][-1]:,} steps; ", end="")
    print(f"everything is in {result.run_dir}")
    return 0


def _refuse(message: str) -> int:
    print(f"jaxrl-pg: {message}", file=sys.stderr)
    return 2
