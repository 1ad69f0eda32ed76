"""Commands that use a trained policy: `evaluate`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jaxrl_pg.cli import arguments, options, preparing

__all__ = ["EvaluateFlags", "run_evaluate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Play whole episodes with a trained policy."""

    num_episodes: Annotated[int, options.AtLeast(1)] = 128
    """number of episodes"""
    seed: int = 0
    """seed of the episodes"""
    stochastic: bool = False
    """sample actions instead of taking the most probable"""
    step: str = "latest"
    """which checkpoint: latest, best, or its iteration"""

    def __post_init__(self) -> None:
        """Refuse to play no episode."""
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes={self.num_episodes}: give a whole number >= 1")


def run_evaluate(args: list[str]) -> int:
    """Evaluate a trained policy."""
    (run,), (flags,) = arguments.read("jaxrl-pg evaluate", args, [EvaluateFlags], arguments.POLICY)
    from jaxrl_pg import files
    from jaxrl_pg.running.run_folder import RunFolder

    seeds: list[int | None] = [None]
    if (files.as_path(run) / "config.json").is_file():  # of a run, which may have several
        first, num_seeds = RunFolder.open(run).seeds
        seeds = list(range(first, first + num_seeds))
    import numpy as np

    import jaxrl_pg
    from jaxrl_pg.running import memory_estimate
    from jaxrl_pg.training import seeding

    preparing.prepare(1)
    key = seeding.key_of_seed(flags.seed)
    means = []
    for trained in seeds:
        policy = jaxrl_pg.load(run, step=flags.step, seed=trained)
        memory_estimate.require_evaluation(policy.config, flags.num_episodes)
        returns = np.asarray(
            jaxrl_pg.evaluate(
                policy.config, policy.state, key, flags.num_episodes, not flags.stochastic
            )
        )
        means.append(returns.mean())
        which = f"seed {trained}, " if len(seeds) > 1 else ""
        print(
            f"{which}iteration {policy.step}: return {returns.mean():.2f} +- {returns.std():.2f} "
            f"over {flags.num_episodes} episodes (lowest {returns.min():.2f}, highest "
            f"{returns.max():.2f})"
        )
    if len(seeds) > 1:
        print(
            f"{len(seeds)} seeds: return {np.mean(means):.2f} +- {np.std(means):.2f} between them"
        )
    return 0
