"""One process of the benchmark: rejax's PPO or SAC, in its own virtual environment."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import rejax
import timing


def train(row: dict[str, Any], hyper: dict[str, Any], executions: int) -> None:
    """Time a row of the benchmark: one round of training, without any evaluation."""
    kind, settings, per_iteration = {"ppo": _ppo, "sac": _sac}[row["agent"]](row, hyper)
    algo = kind.create(
        env=row["env"],
        num_envs=row["num_envs"],
        total_timesteps=row["timesteps"],
        eval_freq=row["timesteps"],
        skip_initial_evaluation=True,
        **settings,
    ).replace(eval_callback=lambda *_: ())
    members, key, fn = row["members"], jax.random.key(0), _train
    state = jax.eval_shape(algo.init_state, key)
    facts = {
        "timesteps": math.ceil(row["timesteps"] / per_iteration) * per_iteration * members,
        "num_params": timing.count((state.actor_ts.params, state.critic_ts.params)),
        "obs_size": math.prod(algo.obs_space.shape),
        "num_actions": int(algo.action_dim),
    }
    if members > 1:
        key = jax.random.split(key, members)
        rates = jnp.array(row.get("rates", [hyper["learning_rate"]]))
        rates = jnp.tile(rates, members // len(rates))
        algo = jax.vmap(lambda rate: algo.replace(learning_rate=rate))(rates)
        fn = jax.vmap(_train)
    timing.report("rejax", fn, (algo, key), executions, **facts)


def _ppo(row: dict[str, Any], hyper: dict[str, Any]) -> Any:
    network = {"hidden_layer_sizes": (64, 64), "activation": "tanh"}
    per_iteration = row["num_envs"] * hyper["num_steps"]
    return rejax.PPO, {"agent_kwargs": network, **hyper}, per_iteration


def _sac(row: dict[str, Any], hyper: dict[str, Any]) -> Any:
    settings = {
        "buffer_size": row["buffer_size"],
        "batch_size": hyper["batch_size"],
        "learning_rate": hyper["learning_rate"],
        "gamma": hyper["gamma"],
        "num_epochs": hyper["num_updates"],
        "fill_buffer": hyper["learning_starts"],
        "agent_kwargs": {"activation": "relu"},
        "hidden_layer_sizes": (64, 64),
    }
    return rejax.SAC, settings, row["num_envs"]


def _train(algo: Any, key: jax.Array) -> Any:
    return algo.train(key)


if __name__ == "__main__":
    told = timing.task()
    train(told["row"], told["hyper"], told["executions"])
