"""What training returns: the state, the metrics, and how a notebook shows them."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.running import curve
from jaxrl_pg.running.rows import Row
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import members
from jaxrl_pg.types import TrainState

__all__ = ["Result"]


class Result(NamedTuple):
    """What `run` and `resume` return.

    Attributes:
        state: the final train state; of several seeds, with an axis for them first (but for
            `iteration`).
        metrics: every row of the run so far by key: `[iterations]`, and `eval/...` `[evaluations]`.
        config: the agent's config.
        run_dir: the run's folder.
    """

    state: TrainState[Any]
    metrics: dict[str, np.ndarray]
    config: BaseConfig
    run_dir: Path

    def __repr__(self) -> str:
        """Say in a line what ran, what came of it, and where it is."""
        facts = [f"{name} {value}" for name, value in _facts(self.metrics).items()]
        return f"<{', '.join([repr(self.config), *facts, str(self.run_dir)])}>"

    def _repr_html_(self) -> str:
        """Show the result in a notebook: a few numbers over the learning curve."""
        facts = {**_facts(self.metrics), "folder": str(self.run_dir)}
        cells = "".join(
            f"<tr><th style='text-align: left'>{html.escape(name)}</th>"
            f"<td style='text-align: left'>{html.escape(value)}</td></tr>"
            for name, value in facts.items()
        )
        picture = base64.b64encode(self._repr_png_()).decode()
        return (
            f"<b>{html.escape(self._title())}</b><table>{cells}</table>"
            f'<img alt="learning curve" style="max-width: 44rem; width: 100%" '
            f'src="data:image/png;base64,{picture}">'
        )

    def _repr_png_(self) -> bytes:
        """Show the learning curve, as in the folder's curve.png."""
        agent = agent_of(self.config).name
        return curve.curve_png(_rows(self.metrics), self._title(), agent)

    def _title(self) -> str:
        env = self.config.env
        name = env if isinstance(env, str) else type(env).__name__
        return f"{agent_of(self.config).name} on {name}"

    @property
    def policy(self) -> Policy:
        """The trained policy: `action = result.policy(obs, key)`.

        Of a run of several seeds it is the first one's; `load(run_dir, seed=...)` gives the others.
        """
        state = self.state._replace(memory=())  # a policy replays nothing
        if jnp.ndim(state.key) == 1:
            state = members.member(state, 0)
        return Policy(self.config, state, int(self.state.iteration))


def _rows(metrics: Mapping[str, np.ndarray]) -> list[Row]:
    """Return the rows that `rows.columns` made these arrays of, as far as a curve needs them."""
    training = [name for name in metrics if name.startswith("train/") or name == "timesteps"]
    evaluations = [name for name in metrics if name.startswith("eval/")]
    rows = []
    for names in (training, evaluations):
        for values in zip(*(np.asarray(metrics[name]).tolist() for name in names), strict=True):
            row = dict(zip(names, values, strict=True))
            rows.append({**row, "timesteps": row.get("eval/timesteps", row.get("timesteps"))})
    return rows


def _facts(metrics: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return what a run came to, in a few words each."""
    steps = np.asarray(metrics.get("timesteps", []))
    shown = {"steps": f"{int(steps[-1]):,}"} if len(steps) else {}
    for kind, words in (("eval", "last evaluation"), ("train", "training, last iteration")):
        values = np.asarray(metrics.get(f"{kind}/return_mean", []), dtype=float)
        known = values[np.isfinite(values)]
        if len(known):
            shown[words] = f"{known[-1]:.4g}"
    return shown
