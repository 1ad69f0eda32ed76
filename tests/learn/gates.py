"""What learning gates have in common: ten seeds, an interquartile mean, a bootstrap interval."""

import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

import jaxrl_pg

NUM_SEEDS = 10


class Gate(NamedTuple):
    config: Any
    level: float


def returns_of(config: Any) -> np.ndarray:
    """Mean evaluation return of each seed at the end of training."""
    keys = jax.random.split(jax.random.key(2026), NUM_SEEDS)
    return np.asarray(jax.jit(partial(jax.lax.map, partial(final_return, config)))(keys))


def final_return(config: Any, key: jax.Array) -> jax.Array:
    return jaxrl_pg.train(config, key, num_evals=1)[1]["eval/return_mean"][-1]


def iqm(returns: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile mean: the mean of the middle half."""
    return stats.trim_mean(returns, 0.25, axis=axis)


def row(name: str, gate: Gate, returns: np.ndarray) -> str:
    """A line of the README's table, with the bootstrap 95% interval over seeds."""
    found = stats.bootstrap(
        (returns,), iqm, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = found.confidence_interval
    return (
        f"| {name} | {gate.config.total_timesteps:,} | {iqm(returns):.1f} [{low:.1f}, {high:.1f}] "
        f"| {returns.min():.1f} | {gate.level:g} |"
    )


def measured(name: str, gate: Gate) -> float:
    """Train the seeds, print their row, and give their interquartile mean."""
    returns = returns_of(gate.config)
    print(row(name, gate, returns), returns.round(1))
    return float(iqm(returns))


def show(gates: dict[str, Gate]) -> None:
    """Print the table, or the rows named on the command line."""
    print("| environment | steps | IQM of 10 seeds [95% interval] | worst seed | gate |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or gates:
        print(row(name, gates[name], returns_of(gates[name].config)), flush=True)
