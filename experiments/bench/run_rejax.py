"""One process of the benchmark: rejax's PPO, in its own virtual environment."""

import json
import math
import sys
from typing import Any

import jax
import rejax
import timing


def train(row: dict[str, Any], hyper: dict[str, Any], executions: int) -> None:
    """Time a row of the benchmark: one round of training, without any evaluation."""
    algo = rejax.PPO.create(
        env=row["env"],
        num_envs=row["num_envs"],
        total_timesteps=row["timesteps"],
        eval_freq=row["timesteps"],
        skip_initial_evaluation=True,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        **hyper,
    ).replace(eval_callback=lambda *_: ())
    seeds, key = row["seeds"], jax.random.key(0)
    state = jax.eval_shape(algo.init_state, key)
    per_iteration = row["num_envs"] * hyper["num_steps"]
    timing.report(
        "rejax",
        jax.vmap(_train, (None, 0)) if seeds > 1 else _train,
        (algo, jax.random.split(key, seeds) if seeds > 1 else key),
        executions,
        timesteps=math.ceil(row["timesteps"] / per_iteration) * per_iteration * seeds,
        num_params=timing.count((state.actor_ts.params, state.critic_ts.params)),
        obs_size=math.prod(algo.obs_space.shape),
        num_actions=int(algo.action_dim),
    )


def _train(algo: rejax.PPO, key: jax.Array) -> Any:
    return algo.train(key)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    train(task["row"], task["hyper"], task["executions"])
