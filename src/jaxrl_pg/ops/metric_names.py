"""Rules about the names of metrics. Needs no array library, so that reports can use it."""

from typing import Literal

__all__ = ["is_watched", "reduction"]


def is_watched(metric: str) -> bool:
    """Say whether a metric must stay finite: a loss, or the norm of a gradient."""
    return metric.startswith("loss/") or metric == "grad_norm"


def reduction(metric: str) -> Literal["min", "max", "mean"]:
    """Return how values of a metric become one: by what its name ends with, else as their mean."""
    if metric.endswith("_min"):
        return "min"
    return "max" if metric.endswith("_max") else "mean"
