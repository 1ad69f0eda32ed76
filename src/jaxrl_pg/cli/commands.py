"""The commands: arguments in, calls of the Python API, exit codes out."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.cli import arguments, exits, start_up

if TYPE_CHECKING:
    from jaxrl_pg.running.loop import Result
    from jaxrl_pg.running.options import Processes

__all__ = ["main"]

_HELP = """\
usage: jaxrl-pg COMMAND ...

Policy-gradient agents in JAX, compiled end to end.

commands:
  train [AGENT] [--env ID] [--run-dir DIR] [--seed N] ... train from scratch (agents: {agents}),
                                                          or with --init-from RUN an old policy
  resume RUN [--total-timesteps N] ...                    go on with a stopped run, or go further
  evaluate RUN [--num-episodes N] ...                     whole episodes of a trained policy
  sweep EXPERIMENT [--dry-run] ...                        train every agent of an experiment file
  report RUN ...                                          figures, tables and a page of sweeps
  envs                                                    list the names that --env takes

`jaxrl-pg COMMAND --help` (`jaxrl-pg train ppo --help`) lists every option.
-v or --verbose shows where in the program an error arises; --version says the version.

exit codes: 0 done, 1 diverged, 2 wrong arguments or input, 3 refused by the system (disk,
permission, memory) or another process lost, 70 a mistake in jaxrl_pg, 130 interrupted (Ctrl-C),
143 terminated (SIGTERM)

  jaxrl-pg train ppo --env CartPole-v1 --num-envs 1024 --total-timesteps 1000000
"""


_RUN = arguments.Positional("RUN", "the run folder")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    What goes wrong is said in one line on stderr. Only a mistake in this package, or `--verbose`,
    shows a traceback.

    Returns:
        The exit code: 0 done; 1 diverged; 2 wrong arguments or input; 3 refused by the system
        (full disk, permission, out of memory and the like) or another process of the run lost; 70
        a mistake in this package; 130 interrupted. SIGTERM ends the process with 143.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    verbose = bool({"-v", "--verbose"} & set(args))
    _print_everything()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not verbose:  # or it would show the traceback of what an environment on the host raises
        logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)
    try:
        code = _run(args)
        if sys.stdout is not None:  # it is None where the process was started without one
            sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return exits.report(error, verbose)


def _run(args: list[str]) -> int:
    while args and args[0] in ("-v", "--verbose"):
        args = args[1:]
    commands = {
        "train": _train,
        "resume": _resume,
        "evaluate": _evaluate,
        "sweep": _sweep,
        "report": _report,
        "envs": _envs,
    }
    if not args or args[0] in ("-h", "--help", "help"):
        print(_HELP.format(agents=", ".join(AGENT_NAMES)))
        return exits.DONE
    if args[0] == "--version":
        import importlib.metadata

        print(f"jaxrl-pg {importlib.metadata.version('jaxrl-pg')}")
        return exits.DONE
    if args[0] not in commands:
        hint = arguments.did_you_mean(args[0], list(commands))
        raise ValueError(f"unknown command {args[0]!r}: {hint}give one of: {', '.join(commands)}")
    try:
        return commands[args[0]](args[1:])
    except arguments.Help as shown:
        print(shown)
        return exits.DONE


def _print_everything() -> None:
    """Print with escapes what a terminal's encoding lacks, such as an umlaut in a folder's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TrainFlags:
    """Train from scratch, or from an old policy."""

    run_dir: str | None = None
    """a folder that is absent or empty; one under runs/ unless given"""
    init_from: str | None = None
    """folder of a run, or of a saved policy, whose policy to start from"""
    seed: int = 0
    """the run's seed"""


def _train(args: list[str]) -> int:
    if not args or args[0].startswith("-"):
        args = [AGENT_NAMES[0], *args]
    agent, *args = args
    if agent not in AGENT_NAMES:
        hint = arguments.did_you_mean(agent, AGENT_NAMES)
        raise ValueError(f"unknown agent {agent!r}: {hint}give one of: {', '.join(AGENT_NAMES)}")
    import jaxrl_pg
    from jaxrl_pg.running.options import Options, Processes

    config_class = getattr(jaxrl_pg, agent).Config
    sources = [_TrainFlags, config_class, Options, Processes]
    _, (flags, config, options, processes) = arguments.read(
        f"jaxrl-pg train {agent}", args, sources
    )
    _prepare(config.num_devices, processes)
    result = jaxrl_pg.run(
        config, flags.run_dir, flags.seed, options, initial_policy=flags.init_from
    )
    return _done(result, options.quiet)


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

    num_devices, saved_quiet = _saved(run, processes.coordinator is not None)
    _prepare(num_devices, processes)
    changes = {"tensorboard": flags.tensorboard, "quiet": flags.quiet}
    given = {name: x for name, x in changes.items() if x is not None}
    result = jaxrl_pg.resume(run, flags.total_timesteps, **given)
    return _done(result, bool(given.get("quiet", saved_quiet)))


def _saved(run: str, may_be_elsewhere: bool) -> tuple[int | None, bool]:
    """Return the run's number of devices, and whether it is quiet.

    The number is None if the run's folder is not here: where a run has several hosts, not all need
    see it. What is no number or no truth is refused by `resume`, in words.
    """
    from jaxrl_pg.running.run_folder import RunFolder

    try:
        saved = RunFolder.open(run).config
    except ValueError:
        if may_be_elsewhere:
            return None, False
        raise
    parts = [saved.get(part) for part in ("config", "options")]
    config, options = (part if isinstance(part, dict) else {} for part in parts)
    num_devices = config.get("num_devices", 1)
    return num_devices if type(num_devices) is int else 1, options.get("quiet") is True


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
    from jaxrl_pg.running import memory_estimate
    from jaxrl_pg.training import seeding

    _prepare(1)
    key = seeding.key_of_seed(flags.seed)
    policy = jaxrl_pg.load(run, step=flags.checkpoint)
    memory_estimate.require_evaluation(policy.config, flags.num_episodes)
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
    _prepare(flags.num_devices or _num_cores())
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


def _num_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # only where the system can confine a process
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReportFlags:
    """Write figures, tables and a page about sweeps and runs."""

    out: str | None = None
    """the folder to write into; else `report` in the one RUN, or `reports/A_vs_B` of several"""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EnvsFlags:
    """List the environments that --env takes, one a line; suites not installed come last."""


def _envs(args: list[str]) -> int:
    arguments.read("jaxrl-pg envs", args, [_EnvsFlags])
    from jaxrl_pg import envs

    print(*envs.listing(), sep="\n")
    return 0


def _prepare(num_devices: int | None, processes: Processes | None = None) -> None:
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


def _done(result: Result, quiet: bool) -> int:
    from jaxrl_pg.running import hosts

    if quiet or not hosts.is_first():
        return 0
    score = result.metrics.get("eval/return_mean")
    if score is not None and len(score):
        print(f"return {score[-1]:.2f} after {result.metrics['timesteps'][-1]:,} steps; ", end="")
    print(f"everything is in {result.run_dir}")
    return 0
