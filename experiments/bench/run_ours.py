"""One process of the benchmark: this library's PPO, or the machine's matrix products.

With several seeds, they are shared out over the devices and each device trains its own
one after the other; on one device they are vmapped. With one seed, devices share its environments.
"""

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import timing

import jaxrl_pg
from jaxrl_pg import envs, ppo
from jaxrl_pg.training import devices


def train(row: dict[str, Any], hyper: dict[str, Any], num_devices: int, executions: int) -> None:
    """Time a row of the benchmark."""
    seeds = row["seeds"]
    config = ppo.Config(
        env=row["env"],
        num_envs=row["num_envs"],
        total_timesteps=row["timesteps"],
        num_devices=1 if seeds > 1 else num_devices,
        conv_features=0,
        anneal_lr=False,
        clip_eps_vf=hyper["clip_eps"],
        **hyper,
    )
    spec = envs.make(config.env).spec
    key, fn = jax.random.key(0), jaxrl_pg.train
    shapes = jax.eval_shape(ppo.init, config, key)
    if seeds > 1:
        key = jax.random.split(key, seeds)
        fn = devices.over_members(_one_by_one, (None, 0)) if num_devices > 1 else _together
    timing.report(
        "jaxrl-pg",
        fn,
        (config, key),
        executions,
        timesteps=config.num_iterations * config.steps_per_iteration * seeds,
        num_params=timing.count(shapes.learner.params),
        obs_size=int(jnp.prod(jnp.array(spec.obs_shape))),
        num_actions=spec.num_actions,
    )


def products(num_devices: int, executions: int, loops: int = 4000) -> None:
    """Time `loops` products `[2048, 64] @ [64, 64]` on every device at once."""
    x = jnp.ones((num_devices * 2048, 64))
    fn = devices.over_members(_multiply, (0, None, None))
    flops = num_devices * loops * 2 * 2048 * 64 * 64
    timing.report("jaxrl-pg", fn, (x, jnp.eye(64), loops), executions, flops=flops)


def _one_by_one(config: ppo.Config, keys: jax.Array) -> Any:
    return jax.lax.map(lambda key: jaxrl_pg.train(config, key), keys)


def _together(config: ppo.Config, keys: jax.Array) -> Any:
    return jax.vmap(jaxrl_pg.train, (None, 0))(config, keys)


def _multiply(x: jax.Array, w: jax.Array, loops: int) -> jax.Array:
    return jax.lax.fori_loop(0, loops, lambda _, x: x @ w, x)


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    jax.config.update("jax_num_cpu_devices", task["devices"])
    if task["row"] is None:
        products(task["devices"], task["executions"])
    else:
        train(task["row"], task["hyper"], task["devices"], task["executions"])
