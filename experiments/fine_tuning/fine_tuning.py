"""Measure what an old policy is worth in a changed environment (`docs/how-to/fine-tune.md`).

Ten seeds of PPO learn CartPole-v1 for 100,000 steps. Each is then trained on in a changed CartPole,
and ten others are trained there from scratch by the same config. Prints the page's table, of
interquartile means of the seeds' returns, and writes the raw returns beside this file:

    python experiments/fine_tuning/fine_tuning.py
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrl_pg
from jaxrl_pg import analytical, ppo
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.report import statistics

SEEDS, NUM_EVALS, NUM_EPISODES = 10, 10, 128
SHOWN = (0, 10_000, 20_000, 30_000, 50_000, 100_000)
# The same names of parameters in all, so that one program trains in every environment.
CARTPOLE = {"gravity": 9.8, "length": 0.5, "polemass_length": 0.05, "tau": 0.02}
SIZES: dict[str, Any] = {"num_envs": 10, "num_steps": 100, "num_minibatches": 10}
BASE = ppo.Config(**SIZES, total_timesteps=100_000, env_params=CARTPOLE)
CLOSED = analytical.Config(**SIZES, total_timesteps=100_000)
CHANGES = {
    "gravity three times as strong": {"gravity": 30.0},
    "a pole of a fifth of the length": {"length": 0.1, "polemass_length": 0.01},
    "steps three times as long": {"tau": 0.06},
}
# By name: the config, and whether it starts from PPO's old policies.
WAYS: dict[str, tuple[BaseConfig, bool]] = {
    "PPO from scratch": (BASE, False),
    "PPO, fine-tuned": (BASE, True),
    "PPO, fine-tuned with `learning_rate=1e-4`": (BASE.replace(learning_rate=1e-4), True),
    "analytical, fine-tuned": (CLOSED, True),
    "analytical, fine-tuned with `prior_coef=0.1`": (CLOSED.replace(prior_coef=0.1), True),
}
RESULTS = Path(__file__).parent / "results.json"


def member(config: BaseConfig, key: jax.Array, old: Any) -> tuple[Any, jax.Array]:
    """Train one seed; return its learner, and returns at the start and at every evaluation."""
    start = jaxrl_pg.init(config, key, old)
    first = jaxrl_pg.evaluate(config, start, key, NUM_EPISODES).mean()
    state, metrics = jaxrl_pg.train(config, key, NUM_EVALS, NUM_EPISODES, initial_policy=old)
    return state.learner, jax.numpy.append(first, metrics["eval/return_mean"])


FROM_SCRATCH = jax.jit(jax.vmap(lambda config, key: member(config, key, None), (None, 0)))
FROM_OLD = jax.jit(jax.vmap(member, (None, 0, 0)))


def table(raw: dict[str, dict[str, list[list[float]]]]) -> str:
    """Write interquartile means over the seeds at the budgets shown, as Markdown."""
    budgets = [BASE.total_timesteps // NUM_EVALS * i for i in range(NUM_EVALS + 1)]
    lines = [
        "| environment | | " + " | ".join(f"{budget:,}" for budget in SHOWN) + " |",
        "|---|---|" + "---|" * len(SHOWN),
    ]
    for change, ways in raw.items():
        for i, (way, returns) in enumerate(ways.items()):
            scores = dict(zip(budgets, statistics.iqm([np.asarray(returns).T]), strict=True))
            cells = " | ".join(f"{scores[budget]:.0f}" for budget in SHOWN)
            lines.append(f"| {change if i == 0 else ''} | {way} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Train, print the table, and write the raw returns."""
    old, returns = FROM_SCRATCH(BASE, jax.random.split(jax.random.key(0), SEEDS))
    raw = {"CartPole-v1": {"PPO from scratch": np.asarray(returns).tolist()}}
    keys = jax.random.split(jax.random.key(1), SEEDS)
    for change, params in CHANGES.items():
        raw[change] = {}
        for way, (config, has_old) in WAYS.items():
            changed = config.replace(env_params={**CARTPOLE, **params})
            _, returns = FROM_OLD(changed, keys, old) if has_old else FROM_SCRATCH(changed, keys)
            raw[change][way] = np.asarray(returns).tolist()
            print(f"{change}: {way}", flush=True)
    print(table(raw))
    RESULTS.write_text(json.dumps(raw) + "\n")


if __name__ == "__main__":
    main()
