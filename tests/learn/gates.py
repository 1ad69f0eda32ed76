"""What learning gates have in common: ten seeds, an interquartile mean, a bootstrap interval."""

import sys
from typing import NamedTuple

import jax
import numpy as np
from scipy import stats

import jaxrl_pg
from jaxrl_pg.config import BaseConfig

NUM_SEEDS = 10


class Gate(NamedTuple):
    """An agent's config, and the interquartile mean that it must reach."""

    config: BaseConfig
    level: float


def returns_of(config: BaseConfig, options: dict[str, bool] | None = None) -> np.ndarray:
    """Return every seed's mean evaluation return at the end of training.

    Args:
        config: of the agent to train.
        options: the compiler's; the users' own if not given.
    """

    def final_return(key: jax.Array) -> jax.Array:
        return jaxrl_pg.train(config, key, num_evals=1)[1]["eval/return_mean"][-1]

    train_seeds = jax.jit(lambda keys: jax.lax.map(final_return, keys), compiler_options=options)
    return np.asarray(train_seeds(jax.random.split(jax.random.key(2026), NUM_SEEDS)))


def iqm(returns: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the interquartile mean, which is the mean of the middle half."""
    return stats.trim_mean(returns, 0.25, axis=axis)


def row(name: str, gate: Gate, returns: np.ndarray) -> str:
    """Return a line of the README's table, with the bootstrap 95% interval over seeds."""
    result = stats.bootstrap(
        (returns,), iqm, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = result.confidence_interval
    return (
        f"| {name} | {gate.config.total_timesteps:,} | {iqm(returns):.1f} [{low:.1f}, {high:.1f}] "
        f"| {returns.min():.1f} | {gate.level:g} |"
    )


def measured(name: str, gate: Gate, options: dict[str, bool]) -> float:
    """Train the seeds, print their row, and return their interquartile mean."""
    returns = returns_of(gate.config, options)
    print(row(name, gate, returns), returns.round(1))
    return float(iqm(returns))


def show(gates: dict[str, Gate]) -> None:
    """Print the table, or the rows named on the command line."""
    print("| environment | steps | IQM of 10 seeds [95% interval] | worst seed | gate |")
    print("|---|---|---|---|---|")
    for name in sys.argv[1:] or gates:
        print(row(name, gates[name], returns_of(gates[name].config)), flush=True)
