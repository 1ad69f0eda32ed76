"""Rules about the names of metrics. Needs no array library, so that reports can use it."""

__all__ = ["is_watched"]


def is_watched(metric: str) -> bool:
    """Say whether a metric must stay finite: a loss, or the norm of a gradient."""
    return metric.startswith("loss/") or metric == "grad_norm"
