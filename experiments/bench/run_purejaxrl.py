"""One process of the benchmark: PureJaxRL's PPO, from a checkout of its repository.

It is no package but a folder of scripts, which stands on the path. Its `wrappers.py` imports brax
and navix at the top, for wrappers that PPO does not use; stand-ins for the two make it run with any
JAX.
"""

import math
import sys
from typing import Any
from unittest.mock import MagicMock

import gymnax
import jax
import jax.numpy as jnp
import timing

UNUSED = ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix")
sys.modules.update({name: MagicMock() for name in UNUSED})
import ppo  # noqa: E402  (after the stand-ins)


def train(row: dict[str, Any], hyper: dict[str, Any], executions: int) -> None:
    """Time a row of the benchmark; metrics of every step are part of its results."""
    members, key, rate = row["members"], jax.random.PRNGKey(0), hyper["learning_rate"]
    shapes = jax.eval_shape(trained(row, hyper), key, rate)["runner_state"]
    per_iteration = row["num_envs"] * hyper["num_steps"]
    fn, args = trained(row, hyper), (key, rate)
    if members > 1:
        rates = jnp.array(row.get("rates", [rate]))
        args = (jax.random.split(key, members), jnp.tile(rates, members // len(rates)))
        fn = jax.vmap(fn)
    timing.report(
        "purejaxrl",
        fn,
        args,
        executions,
        timesteps=row["timesteps"] // per_iteration * per_iteration * members,
        num_params=timing.count(shapes[0].params),
        obs_size=math.prod(shapes[2].shape[1:]),
        num_actions=gymnax.make(row["env"])[0].num_actions,
    )


def trained(row: dict[str, Any], hyper: dict[str, Any]) -> Any:
    """Return the function `(key, learning rate) -> results` of a row."""
    settings = {
        "ENV_NAME": row["env"],
        "NUM_ENVS": row["num_envs"],
        "TOTAL_TIMESTEPS": row["timesteps"],
        "NUM_STEPS": hyper["num_steps"],
        "UPDATE_EPOCHS": hyper["num_epochs"],
        "NUM_MINIBATCHES": hyper["num_minibatches"],
        "GAMMA": hyper["gamma"],
        "GAE_LAMBDA": hyper["gae_lambda"],
        "CLIP_EPS": hyper["clip_eps"],
        "ENT_COEF": hyper["ent_coef"],
        "VF_COEF": hyper["vf_coef"],
        "MAX_GRAD_NORM": hyper["max_grad_norm"],
        "ACTIVATION": "tanh",
        "ANNEAL_LR": False,
    }
    return lambda key, rate: ppo.make_train({**settings, "LR": rate})(key)


if __name__ == "__main__":
    told = timing.task()
    train(told["row"], told["hyper"], told["executions"])
