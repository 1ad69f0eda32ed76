"""Stop a run as soon as it is good enough: a function that sees the rows as they come.

python examples/early_stopping.py
"""

import sys

import jaxrl_pg
from jaxrl_pg import ppo


def solved(rows):
    if any(row.get("eval/return_mean", 0.0) >= 475.0 for row in rows):
        return "CartPole is solved"  # True ends the run too; a text is shown as the reason
    return None


def main(total_timesteps=1_000_000):
    config = ppo.Config(env="CartPole-v1", total_timesteps=int(total_timesteps))
    result = jaxrl_pg.run(config, on_rows=solved, num_evals=40)
    print(
        f"{result.metrics['timesteps'][-1]:,} of {config.total_timesteps:,} steps: {result.run_dir}"
    )
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
