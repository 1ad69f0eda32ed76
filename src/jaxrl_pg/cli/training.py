"""Commands that train one run: `train` and `resume`."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.cli import arguments, options, preparing, tuning, words

if TYPE_CHECKING:
    from jaxrl_pg.running.loop import Result

__all__ = ["ResumeFlags", "TrainFlags", "run_resume", "run_train"]

_OPTIONS = "jaxrl_pg.running.options:Options"
_PROCESSES = "jaxrl_pg.running.options:Processes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Train from scratch, or from an old policy."""

    run_dir: str | None = None
    """a folder that is absent or empty; one under runs/ unless given"""
    init_from: str | None = None
    """folder of a run or of a saved policy, or zoo:ENV/AGENT, whose policy to start from"""
    seed: int = 0
    """the run's seed"""
    seeds: Annotated[int, options.AtLeast(1)] = 1
    """seeds to train side by side in one run, from seed on"""
    tuned: bool = False
    """the zoo's settings for the environment instead of the defaults (`jaxrl-pg zoo`)"""


def run_train(args: list[str]) -> int:
    """Train a new run."""
    if not args or args[0].startswith("-"):
        args = [AGENT_NAMES[0], *args]
    agent, *args = args
    if agent not in AGENT_NAMES:
        hint = words.did_you_mean(agent, AGENT_NAMES)
        raise ValueError(f"unknown agent {agent!r}: {hint}give one of: {', '.join(AGENT_NAMES)}")
    _, (flags, config, run_options, processes) = arguments.read(
        f"jaxrl-pg train {agent}",
        args,
        [TrainFlags, f"jaxrl_pg.agents.{agent}:Config", _OPTIONS, _PROCESSES],
        fill=lambda given: tuning.filled(agent, given),
    )
    if flags.tuned and not run_options.quiet:
        print(tuning.described(agent, config.env), file=sys.stderr)
    import jaxrl_pg
    from jaxrl_pg import envs

    config = config.replace(env=envs.spelled_out(config.env))
    preparing.prepare(config.num_devices, processes)
    result = jaxrl_pg.run(
        config,
        flags.run_dir,
        flags.seed,
        run_options,
        num_seeds=flags.seeds,
        initial_policy=flags.init_from,
    )
    return _done(result, run_options.quiet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResumeFlags:
    """Go on with a run from its newest good checkpoint."""

    total_timesteps: Annotated[int | None, options.AtLeast(1)] = None
    """train up to here instead of where the run was to end"""
    tensorboard: bool | None = None
    """write TensorBoard files as well; as before unless given"""
    quiet: bool | None = None
    """print nothing; as before unless given"""


def run_resume(args: list[str]) -> int:
    """Go on with a run."""
    (run,), (flags, processes) = arguments.read(
        "jaxrl-pg resume", args, [ResumeFlags, _PROCESSES], arguments.RUN
    )
    import jaxrl_pg

    num_devices, saved_quiet = _saved(run, processes.coordinator is not None)
    preparing.prepare(num_devices, processes)
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
    config, kept = (part if isinstance(part, dict) else {} for part in parts)
    num_devices = config.get("num_devices", 1)
    return num_devices if type(num_devices) is int else 1, kept.get("quiet") is True


def _done(result: Result, quiet: bool) -> int:
    from jaxrl_pg.running import hosts

    if quiet or not hosts.is_first():
        return 0
    score = result.metrics.get("eval/return_mean")
    if score is not None and len(score):
        spread = result.metrics.get("eval/return_mean/std")
        between = "" if spread is None else f" +- {spread[-1]:.2f} between seeds"
        print(
            f"return {score[-1]:.2f}{between} after {result.metrics['timesteps'][-1]:,} steps; ",
            end="",
        )
    print(f"everything is in {result.run_dir}")
    return 0
