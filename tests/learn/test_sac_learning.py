"""Learning gates of agents with a replay: ten seeds, interquartile mean with bootstrap interval.

As in `test_learning.py`, whose statistics these are. Seeds run one after another in one compiled
program. `python tests/learn/test_sac_learning.py [environment ...]` prints the table of the README.

MountainCarContinuous pays only at the goal, and random actions one by one never reach it (0 of
128,000 steps measured). With noise that remembers (`noise_correlation=0.95`) random actions reach
it about 1.6 times in 1,000 steps; nothing else is needed.
"""

import sys
import time
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from test_learning import interval, iqm

import jaxrl_pg
from jaxrl_pg import analytical_replay, sac

NUM_SEEDS = 10


class Gate(NamedTuple):
    config: sac.Config | analytical_replay.Config
    level: float


GATES = {
    "Pendulum-v1": Gate(sac.Config(env="Pendulum-v1", total_timesteps=20_000), -170.0),
    "CartPole-v1": Gate(
        sac.Config(
            env="CartPole-v1",
            total_timesteps=100_000,
            num_updates=32,
            batch_size=64,
            tau=0.02,
            target_entropy_ratio=0.3,
        ),
        475.0,
    ),
    "MountainCarContinuous-v0": Gate(
        sac.Config(
            env="MountainCarContinuous-v0",
            total_timesteps=50_000,
            num_envs=4,
            num_steps=32,
            num_updates=64,
            batch_size=128,
            learning_starts=5_000,
            tau=0.01,
            alpha=0.1,
            noise_correlation=0.95,
        ),
        90.0,
    ),
    "CartPole-v1-analytical": Gate(
        analytical_replay.Config(
            env="CartPole-v1",
            total_timesteps=100_000,
            num_updates=32,
            batch_size=64,
            tau=0.02,
            policy_period=200,
            kl_target=0.2,
            ent_coef=0.03,
        ),
        475.0,
    ),
    "Pendulum-v1-analytical": Gate(
        analytical_replay.Config(
            env="Pendulum-v1",
            total_timesteps=12_000,
            batch_size=64,
            tau=0.01,
            policy_period=50,
            ent_coef=0.03,
        ),
        -170.0,
    ),
}


def final_return(config: sac.Config | analytical_replay.Config, key: jax.Array) -> jax.Array:
    return jaxrl_pg.train(config, key, num_evals=1)[1]["eval/return_mean"][-1]


def measured(config: sac.Config | analytical_replay.Config) -> tuple[np.ndarray, float]:
    """Mean evaluation return of each seed at the end, and the seconds that a seed took."""
    keys = jax.random.split(jax.random.key(2026), NUM_SEEDS)
    run = jax.jit(partial(jax.lax.map, partial(final_return, config))).lower(keys).compile()
    start = time.perf_counter()
    returns = np.asarray(run(keys))
    return returns, (time.perf_counter() - start) / NUM_SEEDS


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", GATES)
def test_interquartile_mean_reaches_the_level(name):
    returns, _ = measured(GATES[name].config)
    low, high = interval(returns)
    print(f"{name}: IQM {iqm(returns):.1f} [{low:.1f}, {high:.1f}], seeds {returns.round(1)}")
    assert iqm(returns) >= GATES[name].level


if __name__ == "__main__":
    print("| environment | steps | IQM of 10 seeds [95% interval] | worst seed | gate | s a seed |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:] or GATES:
        gate = GATES[name]
        returns, seconds = measured(gate.config)
        low, high = interval(returns)
        print(
            f"| {name} | {gate.config.total_timesteps:,} | {iqm(returns):.1f} "
            f"[{low:.1f}, {high:.1f}] | {returns.min():.1f} | {gate.level:g} | {seconds:.0f} |",
            flush=True,
        )
