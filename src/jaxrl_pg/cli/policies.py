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
    checkpoint: int | None = None
    """iteration of the checkpoint; the newest good one unless given"""

    def __post_init__(self) -> None:
        """Refuse to play no episode."""
        if self.num_episodes < 1:
            raise ValueError(f"num_episodes={self.num_episodes}: give a whole number >= 1")


def run_evaluate(args: list[str]) -> int:
    """Evaluate a trained policy."""
    (run,), (flags,) = arguments.read("jaxrl-pg evaluate", args, [EvaluateFlags], arguments.RUN)
    from jaxrl_pg.running.run_folder import RunFolder

    if not run.startswith("zoo:"):  # else `load` says what is wrong
        RunFolder.open(run)
    import numpy as np

    import jaxrl_pg
    from jaxrl_pg.running import memory_estimate
    from jaxrl_pg.training import seeding

    preparing.prepare(1)
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
