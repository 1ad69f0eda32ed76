"""`jaxrl-pg watch`: see a trained policy play."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

from jaxrl_pg.cli import arguments, exits, preparing

__all__ = ["WatchFlags", "run_watch"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchFlags:
    """Play whole episodes with a trained policy, and write them as a GIF."""

    out: str | None = None
    """the file to write, which ends in .gif or .html; unless given, play.gif in the run's
    folder, or for zoo:ENV/AGENT the file ENV-AGENT.gif here"""
    stochastic: bool = False
    """sample actions instead of taking the most probable"""
    step: str = "latest"
    """which checkpoint: latest, best, or its iteration"""


def run_watch(args: list[str]) -> int:
    """Play episodes of a run's or a saved policy, write them, and say what they earned."""
    sources: list[arguments.Source] = [WatchFlags, "jaxrl_pg.watch.settings:Settings"]
    (run,), (flags, settings) = arguments.read("jaxrl-pg watch", args, sources, arguments.POLICY)
    preparing.prepare(1)
    import jaxrl_pg
    from jaxrl_pg import files
    from jaxrl_pg.running import memory_estimate
    from jaxrl_pg.watch import movie, watching

    place = files.as_path(run)
    policy = jaxrl_pg.load(place, step=flags.step)
    out = movie.require_path(flags.out or _beside(place))
    ending = ", which was replaced" if out.exists() else ""
    memory_estimate.require_evaluation(policy.config, settings.num_episodes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        played = watching.watch(policy.config, policy.state, settings, not flags.stochastic)
    for warning in said:
        if warning.category is UserWarning:
            exits.show(f"jaxrl-pg: {warning.message}")
    played.save(out)
    for number, (total, length) in enumerate(zip(played.returns, played.lengths, strict=True), 1):
        earned = f"return {total:.2f}" if total == total else "not over, see --max-steps"
        print(f"episode {number}: {length} steps, {earned}")
    print(f"iteration {policy.step}: {len(played)} frames in {out}{ending}")
    return exits.DONE


def _beside(place: Path) -> Path:
    """Return where a movie goes: into a run's folder, beside that of a policy, or (zoo) here."""
    from jaxrl_pg.zoo.entries import PREFIX, find_policy

    if str(place).startswith(PREFIX):
        return Path(f"{find_policy(str(place)).file_name}.gif")
    is_run = (place / "config.json").is_file()
    return place / "play.gif" if is_run else place.with_name(f"{place.name}.gif")
