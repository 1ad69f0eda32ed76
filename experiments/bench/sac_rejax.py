"""One process of `sac.py`: rejax's soft actor-critic, in its own virtual environment."""

import json
import sys

import jax
import rejax
import timing
from sac import EXECUTIONS, HYPER


def main():
    """Time a row of the table: training alone, without any evaluation."""
    row = json.loads(sys.argv[1])
    steps = row.pop("steps")
    algo = rejax.SAC.create(
        **row,
        **HYPER,
        num_epochs=8,
        fill_buffer=256,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        agent_kwargs={"activation": "relu"},
        hidden_layer_sizes=(64, 64),
    ).replace(eval_callback=lambda *_: ())
    key = jax.random.key(0)
    timing.report("rejax", lambda algo, key: algo.train(key), (algo, key), EXECUTIONS)


if __name__ == "__main__":
    main()
