"""The command line: arguments in, calls of the Python API, exit codes out."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Literal

from jaxrl_pg import AGENT_NAMES

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
    except ValueError as error:
        return _refuse(str(error))
    except FloatingPointError as error:
        print(f"jaxrl-pg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted: {error}" if str(error) else "interrupted", file=sys.stderr)
        return 130


def _train(args: list[str]) -> int:
    if not args or args[0].startswith("-"):
        args = [AGENT_NAMES[0], *args]
    if args[0] not in AGENT_NAMES:
        return _refuse(f"unknown agent {args[0]!r}: give one of: {', '.join(AGENT_NAMES)}")
    import jaxrl_pg
    from jaxrl_pg.running.options import Options, Processes

    # The agent named on the command line decides what the options are.
    config_type = getattr(jaxrl_pg, args[0]).Config
    _train_agent.__annotations__.update(config=config_type, options=Options, processes=Processes)
    return _call(_train_agent, f"jaxrl-pg train {args[0]}", args[1:])


def _train_agent(
    config: Any, options: Any, processes: Any, run_dir: str | None = None, seed: int = 0
) -> int:
    """Train from scratch.

    Args:
        config: the agent's.
        options: how to watch and keep the run.
        processes: of one run over several.
        run_dir: a folder that is absent or empty; one under runs/ unless given.
        seed: of the run.
    """
    import jaxrl_pg

    _prepare(config.num_devices, processes)
    return _done(jaxrl_pg.run(config, run_dir, seed, options))


def _resume(args: list[str]) -> int:
    from jaxrl_pg.running.options import Processes

    _resume_run.__annotations__.update(processes=Processes)
    return _call(_resume_run, "jaxrl-pg resume", args)


def _resume_run(
    run: str,
    /,
    processes: Any,
    total_timesteps: int | None = None,
    tensorboard: bool | None = None,
    quiet: bool | None = None,
) -> int:
    """Go on with a run from its newest good checkpoint.

    Args:
        run: the run folder.
        processes: of one run over several, as many as before or not.
        total_timesteps: train up to here instead of where the run was to end.
        tensorboard: write TensorBoard files as well; as before unless given.
        quiet: print nothing; as before unless given.
    """
    import jaxrl_pg

    _prepare(_saved_num_devices(run, processes.coordinator is not None), processes)
    changes: dict[str, Any] = {"tensorboard": tensorboard, "quiet": quiet}
    given = {name: x for name, x in changes.items() if x is not None}
    return _done(jaxrl_pg.resume(run, total_timesteps, **given))


def _saved_num_devices(run: str, may_be_elsewhere: bool) -> int | None:
    """Of the run; None if its folder is not here, as it need not be for all of several hosts."""
    from jaxrl_pg.running.run_folder import RunFolder

    try:
        saved = RunFolder.open(run).config.get("config")
    except ValueError:
        if may_be_elsewhere:
            return None
        raise
    return saved.get("num_devices", 1) if isinstance(saved, dict) else 1


def _evaluate(args: list[str]) -> int:
    return _call(_evaluate_run, "jaxrl-pg evaluate", args)


def _evaluate_run(
    run: str,
    /,
    num_episodes: int = 128,
    seed: int = 0,
    stochastic: bool = False,
    checkpoint: int | None = None,
) -> int:
    """Whole episodes of a trained policy.

    Args:
        run: the run folder.
        num_episodes: how many.
        seed: of the episodes.
        stochastic: sample actions instead of taking the most probable.
        checkpoint: its iteration; the newest good one unless given.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes={num_episodes}: give a whole number >= 1")
    from jaxrl_pg.running.run_folder import RunFolder

    RunFolder.open(run)
    import jax
    import numpy as np

    import jaxrl_pg

    _prepare(1)
    policy = jaxrl_pg.load(run, step=checkpoint)
    key = jax.random.key(seed)
    returns = np.asarray(
        jaxrl_pg.evaluate(policy.config, policy.state, key, num_episodes, not stochastic)
    )
    print(
        f"iteration {policy.step}: return {returns.mean():.2f} +- {returns.std():.2f} over "
        f"{num_episodes} episodes (lowest {returns.min():.2f}, highest {returns.max():.2f})"
    )
    return 0


def _sweep(args: list[str]) -> int:
    from jaxrl_pg.sweeps.batch import SweepOptions

    _sweep_experiment.__annotations__.update(options=SweepOptions)
    return _call(_sweep_experiment, "jaxrl-pg sweep", args)


def _sweep_experiment(
    experiment: str,
    /,
    options: Any,
    run_dir: str | None = None,
    num_devices: int | None = None,
    launcher: Literal["local", "ray"] = "local",
    dry_run: bool = False,
) -> int:
    """Train every agent of an experiment that is not trained yet, then write the report.

    Args:
        experiment: the name of a file in experiments/, or the path of one.
        options: how to run it.
        run_dir: the sweep's folder; runs/<experiment> unless given.
        num_devices: CPU devices to share the agents out over; one a core unless given.
        launcher: local, or ray for a cluster with one group a task (extra: ray).
        dry_run: say what would be done, and do nothing.
    """
    _prepare(num_devices or len(os.sched_getaffinity(0)))
    from jaxrl_pg import report
    from jaxrl_pg.sweeps import experiment as experiments
    from jaxrl_pg.sweeps import launch_ray, sweep

    wanted = experiments.load(experiment)
    if dry_run:
        print(sweep.dry_run(wanted, run_dir, options))
        return 0
    if launcher == "ray":
        folder = launch_ray.run_with_ray(wanted, run_dir, options, num_devices or 1)
    else:
        folder = sweep.sweep(wanted, run_dir, options)
    print(f"results are in {folder / 'results.csv'}; report: {report.write([folder])}")
    return 0


def _report(args: list[str]) -> int:
    return _call(_report_runs, "jaxrl-pg report", args)


def _report_runs(
    runs: list[str], /, out: str | None = None, jsonl: bool = False, tensorboard: bool = False
) -> int:
    """Write figures, tables and a page about sweeps and runs.

    Args:
        runs: folders, compared with each other.
        out: the folder to write into; `report` in the first one unless given.
        jsonl: write a file of rows an agent as well.
        tensorboard: write a TensorBoard run an agent as well (extra: tensorboard).
    """
    from jaxrl_pg import report

    print(report.write(runs, out, jsonl, tensorboard))
    return 0


def _call(command: Any, prog: str, args: list[str]) -> int:
    from jaxrl_pg.cli import arguments

    return arguments.call(command, prog, args)


def _prepare(num_devices: int | None, processes: Any = None) -> None:
    """Ready JAX for so many devices, of all the run's processes together if there are more."""
    from jaxrl_pg.training import devices

    if processes is None or processes.coordinator is None:
        devices.prepare(num_devices or 1)
        return
    from jaxrl_pg.running import hosts

    devices.prepare(1)
    hosts.start(processes, num_devices)


def _done(result: Any) -> int:
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
