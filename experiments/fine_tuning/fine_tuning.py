"""Measure what an old policy is worth in a changed environment (`docs/how-to/fine-tune.md`).

Ten seeds of PPO learn CartPole-v1 for 100,000 steps. Each is then trained on in a changed CartPole,
and ten others are trained there from scratch by the same config. Prints the page's table and
writes the raw returns beside this file:

    python experiments/fine_tuning/fine_tuning.py
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrl_pg
from jaxrl_pg import ppo
from jaxrl_pg.report import statistics

SEEDS, NUM_EVALS, NUM_EPISODES = 10, 10, 128
SHOWN = (0, 10_000, 20_000, 30_000, 50_000, 100_000)
BASE = ppo.Config(num_envs=10, num_steps=100, num_minibatches=10, total_timesteps=100_000)
CHANGES = {
    "gravity 9.8 to 30": {"gravity": 30.0},
    "pole three times as long": {"length": 1.5, "polemass_length": 0.15},
    "push 10 to 3": {"force_mag": 3.0},
}
RESULTS = Path(__file__).parent / "results.json"

evaluate = jax.jit(
    jax.vmap(
        lambda config, state, key: jaxrl_pg.evaluate(config, state, key, NUM_EPISODES).mean(),
        (None, 0, 0),
    )
)


def train(config: ppo.Config, keys: jax.Array, initial_policy: Any = None) -> tuple[Any, Any]:
    """Train a member for each key; return the states, and mean returns `[SEEDS, evaluations]`.

    The first evaluation is of the policy that a member starts from.
    """
    has_old = None if initial_policy is None else 0

    @jax.jit
    def run(config: ppo.Config, keys: jax.Array, old: Any) -> Any:
        def member(key: jax.Array, old: Any) -> Any:
            return jaxrl_pg.train(config, key, NUM_EVALS, NUM_EPISODES, initial_policy=old)

        return jax.vmap(member, (0, has_old))(keys, old)

    states, metrics = run(config, keys, initial_policy)
    init = jax.vmap(lambda key, old: jaxrl_pg.init(config, key, old), (0, has_old))
    first = evaluate(config, jax.jit(init)(keys, initial_policy), keys)
    return states, np.concatenate([first[:, None], metrics["eval/return_mean"]], axis=1)


def row(name: str, returns: np.ndarray) -> str:
    """Write interquartile means over the seeds at the budgets shown."""
    budgets = [BASE.total_timesteps // NUM_EVALS * i for i in range(NUM_EVALS + 1)]
    scores = dict(zip(budgets, statistics.iqm([returns.T]), strict=True))
    return f"| {name} | {' | '.join(f'{scores[budget]:.0f}' for budget in SHOWN)} |"


def main() -> None:
    """Train, print the table, and write the raw returns."""
    old, returns = train(BASE, jax.random.split(jax.random.key(0), SEEDS))
    raw = {"CartPole-v1": {"from scratch": returns.tolist()}}
    print("| | " + " | ".join(f"{budget:,}" for budget in SHOWN) + " |")
    print("|---|" + "---|" * len(SHOWN))
    print(row("CartPole-v1, from scratch", returns))
    keys = jax.random.split(jax.random.key(1), SEEDS)
    for name, params in CHANGES.items():
        config = BASE.replace(env_params=params)
        raw[name] = {}
        for how, initial_policy in (("from scratch", None), ("fine-tuned", old.learner)):
            _, returns = train(config, keys, initial_policy)
            raw[name][how] = returns.tolist()
            print(row(f"{name}, {how}", returns), flush=True)
    RESULTS.write_text(json.dumps(raw) + "\n")


if __name__ == "__main__":
    main()
