"""What `--tuned` does: the zoo's settings where a command line gives none."""

from __future__ import annotations

from typing import Any

__all__ = ["described", "filled"]


def filled(agent: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the values that a command line gives and, with `--tuned`, those of the zoo besides.

    Args:
        agent: the agent's name.
        given: values by field, which take precedence over the zoo's.

    Raises:
        ValueError: if the zoo has nothing for the agent on this environment.
    """
    if not given.get("tuned"):
        return given
    import jaxrl_pg
    from jaxrl_pg import zoo

    default = getattr(jaxrl_pg, agent).Config.env
    entry = zoo.find(given.get("env", default), agent)
    return {**entry.values, **given}


def described(agent: str, env: str) -> str:
    """Say in a line what the zoo's settings were measured to reach."""
    from jaxrl_pg import zoo
    from jaxrl_pg.zoo import listing

    entry = zoo.find(env, agent)
    recorded = entry.recorded
    return (
        f"tuned settings of the zoo: recorded {listing.score(entry)} after "
        f"{recorded['timesteps']:,} steps ({recorded['study']}, {len(recorded['seeds'])} seeds)"
    )
