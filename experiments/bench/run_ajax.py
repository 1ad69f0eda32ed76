"""One process of the benchmark: Ajax's PPO, in a virtual environment that has both libraries."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import timing
from ajax.agents.PPO.PPO import PPO

LAYERS = ("64", "tanh", "64", "tanh")
# The settings that Ajax calls as the benchmark does.
SAME_NAMES = ("num_minibatches", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm")


def train(row: dict[str, Any], hyper: dict[str, Any], executions: int) -> None:
    """Time a row of the benchmark: what `PPO.train` does, without any evaluation."""
    agent = PPO(
        row["env"],
        n_envs=row["num_envs"],
        n_steps=hyper["num_steps"],
        n_epochs=hyper["num_epochs"],
        actor_learning_rate=hyper["learning_rate"],
        critic_learning_rate=hyper["learning_rate"],
        clip_range=hyper["clip_eps"],
        actor_architecture=LAYERS,
        critic_architecture=LAYERS,
        **{name: hyper[name] for name in SAME_NAMES},
    )
    make = partial(
        agent.get_make_train(),
        env_args=agent.env_args,
        actor_optimizer_args=agent.actor_optimizer_args,
        critic_optimizer_args=agent.critic_optimizer_args,
        network_args=agent.network_args,
        agent_config=agent.agent_config,
        num_episode_test=1,
        run_ids=[],
        logging_config=None,
    )
    index = jnp.arange(row["members"])
    keys = jax.vmap(jax.random.PRNGKey)(index)
    # It takes one rollout more than fit into what is asked for.
    rollout = row["num_envs"] * hyper["num_steps"]
    trained = jax.vmap(make(total_timesteps=row["timesteps"] - rollout))
    state = jax.eval_shape(trained, keys, index)[0]
    params = timing.count((state.actor_state.params, state.critic_state.params))
    timing.report(
        "ajax-rl",
        trained,
        (keys, index),
        executions,
        timesteps=row["timesteps"] * row["members"],
        num_params=params // row["members"],
    )


if __name__ == "__main__":
    told = timing.task()
    train(told["row"], told["hyper"], told["executions"])
