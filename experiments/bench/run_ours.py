"""One process of the benchmark: this library, or the machine's matrix products.

Several members are shared out over the devices and each device trains its own one after the other;
on one device they are vmapped. With one member, devices share its environments.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import timing

import jaxrl_pg
from jaxrl_pg import envs, ppo, sac
from jaxrl_pg.training import devices


def train(row: dict[str, Any], hyper: dict[str, Any], num_devices: int, executions: int) -> None:
    """Time a row of the benchmark."""
    members = row["members"]
    config = {"ppo": _ppo, "sac": _sac}[row["agent"]](row, hyper, num_devices)
    agent = {"ppo": ppo, "sac": sac}[row["agent"]]
    spec = envs.make(config.env).spec
    key, fn = jax.random.key(0), jaxrl_pg.train
    shapes = jax.eval_shape(agent.init, config, key)
    timesteps = config.num_iterations * config.steps_per_iteration * members
    if members > 1:
        key = jax.random.split(key, members)
        rates = jnp.array(row.get("rates", [hyper["learning_rate"]]))
        config = jax.tree.map(lambda x: jnp.full(members, x), config)
        config = config.replace(learning_rate=jnp.tile(rates, members // len(rates)))
        fn = devices.over_members(_one_by_one, (0, 0)) if num_devices > 1 else _together
    timing.report(
        "jaxrl-pg",
        fn,
        (config, key),
        executions,
        timesteps=timesteps,
        num_params=timing.count(shapes.learner.params),
        obs_size=math.prod(spec.obs_shape),
        num_actions=spec.num_actions,
    )


def products(num_devices: int, executions: int, loops: int = 4000) -> None:
    """Time `loops` products `[2048, 64] @ [64, 64]` on every device at once."""
    x = jnp.ones((num_devices * 2048, 64))
    fn = devices.over_members(_multiply, (0, None, None))
    flops = num_devices * loops * 2 * 2048 * 64 * 64
    timing.report("jaxrl-pg", fn, (x, jnp.eye(64), loops), executions, flops=flops)


def _ppo(row: dict[str, Any], hyper: dict[str, Any], num_devices: int) -> ppo.Config:
    return ppo.Config(
        env=row["env"],
        num_envs=row["num_envs"],
        total_timesteps=row["timesteps"],
        num_devices=1 if row["members"] > 1 else num_devices,
        anneal_lr=False,
        clip_eps_vf=hyper["clip_eps"],
        **({"conv_features": 0} | hyper),
    )


def _sac(row: dict[str, Any], hyper: dict[str, Any], num_devices: int) -> sac.Config:
    return sac.Config(
        env=row["env"],
        num_envs=row["num_envs"],
        total_timesteps=row["timesteps"],
        buffer_size=row["buffer_size"],
        num_devices=num_devices,
        num_steps=1,
        **hyper,
    )


def _one_by_one(configs: Any, keys: jax.Array) -> Any:
    return jax.lax.map(lambda member: jaxrl_pg.train(*member), (configs, keys))


def _together(configs: Any, keys: jax.Array) -> Any:
    return jax.vmap(jaxrl_pg.train)(configs, keys)


def _multiply(x: jax.Array, w: jax.Array, loops: int) -> jax.Array:
    return jax.lax.fori_loop(0, loops, lambda _, x: x @ w, x)


if __name__ == "__main__":
    told = timing.task()
    jax.config.update("jax_num_cpu_devices", told["devices"])
    if "loops" in told:  # else as this kind of device has it
        envs.episodes.loops_wait = lambda: not told["loops"]
    if told["row"] is None:
        products(told["devices"], told["executions"])
    else:
        train(told["row"], told["hyper"], told["devices"], told["executions"])
