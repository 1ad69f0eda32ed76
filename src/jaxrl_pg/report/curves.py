"""Learning curves of the metrics that `train` returns, to be looked at in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.report.axes import draw_curves
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.report.summary import Summary
from jaxrl_pg.sweeps.results import Setting

__all__ = ["Curves"]

_SIZE = 6.4, 4.0  # inches
_MAX_POINTS = 200  # of a curve; of more every n-th is drawn, counted from the last
_KINDS = ("eval", "train")


class Curves:
    """The returns of one or several trainings against environment steps.

        state, metrics = jax.jit(jaxrl_pg.train)(config, key)
        report.Curves(metrics)

        report.Curves({"ppo": metrics, "analytical": others}, title="CartPole-v1")

    A notebook shows it as a picture. Where metrics have an axis of members in front, as after
    `jax.vmap` over keys, a curve is the interquartile mean over the members with its 95%
    stratified-bootstrap interval. An agent's name as a label gives the curve the agent's colour.
    """

    def __init__(self, metrics: Mapping[str, Any], title: str = "") -> None:
        """Take the metrics of one training, or several by label.

        Args:
            metrics: `train`'s metrics or a `Result`'s, each `[..., iterations]`; or a dict of such
                dicts. The evaluations are drawn if there are some, else the training episodes.
            title: the text above the curves.

        Raises:
            ValueError: if there is no return in the metrics, or no training.
        """
        several = all(isinstance(value, Mapping) for value in metrics.values())
        by_label = metrics if several else {"": metrics}
        if not by_label:
            raise ValueError("no metrics given: give those of `train`, or a dict of some by label")
        self.title = title
        self.summaries = [_summary(str(label), one) for label, one in by_label.items()]

    def png(self, dpi: int = 150) -> bytes:
        """Return the picture as PNG."""
        return canvas.png(self._figure(), dpi)

    def pdf(self) -> bytes:
        """Return the picture as PDF, for a paper."""
        return canvas.pdf(self._figure())

    def _repr_png_(self) -> bytes:
        return self.png(110)

    def __repr__(self) -> str:
        """Say what is drawn, and where each curve ends."""
        ends = ", ".join(
            f"{one.label or 'return'} {float(one.iqm.value):.4g} ({len(one.scores)} seeds)"
            for one in self.summaries
        )
        return f"<Curves {self.title!r}: {ends}>"

    def _figure(self) -> Any:
        with canvas.style():
            figure = canvas.new(size=_SIZE)
            styles = looks.assign({one.label: one.label for one in self.summaries})
            draw_curves(self.summaries, self.title, styles, figure.add_subplot())
            canvas.add_legend(figure)
        return figure


def _summary(label: str, metrics: Mapping[str, Any]) -> Summary:
    kind = next((kind for kind in _KINDS if f"{kind}/return_mean" in metrics), None)
    if kind is None:
        raise ValueError(
            f"no return in the metrics (they have {', '.join(list(metrics)[:4])}): give those "
            "that `train` returns"
        )
    returns = np.asarray(metrics[f"{kind}/return_mean"], dtype=float)
    returns = returns.reshape(-1, returns.shape[-1])
    steps = np.asarray(metrics.get(f"{kind}/timesteps", metrics["timesteps"]), dtype=float)
    steps = steps.reshape(-1, steps.shape[-1])[0]
    # An iteration in which no episode ended has no return, nor has one without an evaluation.
    known = np.flatnonzero(np.isfinite(returns).any(axis=0))
    every = max(1, -(-len(known) // _MAX_POINTS))
    shown = known[(len(known) - 1) % every :: every]  # the last is among them
    returns, steps, seeds = returns[:, shown], steps[shown], np.arange(len(returns))
    setting = Setting(
        "", label, "", {}, "", seeds, steps, returns, np.zeros(len(returns), dtype=bool)
    )
    last = returns[:, -1] if len(steps) else np.full(len(returns), np.nan)
    scores = last[np.isfinite(last)]
    end = np.asarray(scores.mean() if len(scores) else np.nan)
    return Summary(setting, label, scores, Interval(end, end, end), 0.0, 0)
