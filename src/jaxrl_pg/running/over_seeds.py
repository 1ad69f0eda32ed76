"""What a run of several seeds says of all of them in one row, and which of them diverged."""

from __future__ import annotations

import numpy as np

from jaxrl_pg.ops.metric_names import is_watched

__all__ = ["first_diverged", "reduced"]


def reduced(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what a row says of all members: the mean of each metric, and its spread as `.../std`.

    Both are over the members that know the value: a mean over episodes is NaN where none ended. A
    loss that is not finite in one of them stays so.

    Args:
        metrics: from `training.members`, on the host.
    """
    found = {}
    for name, values in metrics.items():
        if name == "timesteps":  # the same for all
            found[name] = values[0]
            continue
        wide = np.asarray(values, np.float64)
        there = ~np.isnan(wide) if not is_watched(name) else np.ones(wide.shape, bool)
        count = there.sum(axis=0)
        mean = np.where(there, wide, 0.0).sum(axis=0) / np.where(count, count, np.nan)
        with np.errstate(all="ignore"):  # of what is infinite there is no spread
            squares = np.where(there, (wide - mean) ** 2, 0.0).sum(axis=0)
        found[name] = mean
        found[f"{name}/std"] = np.sqrt(squares / np.where(count, count, np.nan))
    return found


def first_diverged(metrics: dict[str, np.ndarray]) -> int | None:
    """Return the number of the member whose loss or gradient norm is the first not to be finite.

    Of several in the same iteration, the one of the lowest number.
    """
    watched = [np.asarray(values) for name, values in metrics.items() if is_watched(name)]
    bad = ~np.all(np.isfinite(watched), axis=0)  # [N, iterations]
    return int(np.argmax(bad[:, np.argmax(bad.any(axis=0))])) if bad.any() else None
