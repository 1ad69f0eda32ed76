"""The sixty-four agents of `sweep.py` in rejax: one program, vmapped over rates and seeds."""

import json
import math
import time

import jax
import jax.numpy as jnp
import rejax
from sweep import RATES, SEEDS, TIMESTEPS, bench


def main():
    """Compile, run, and print one JSON line."""
    algo = rejax.PPO.create(
        env="CartPole-v1",
        num_envs=64,
        total_timesteps=TIMESTEPS,
        eval_freq=TIMESTEPS,
        skip_initial_evaluation=True,
        agent_kwargs={"hidden_layer_sizes": (64, 64), "activation": "tanh"},
        **bench.HYPER,
    ).replace(eval_callback=lambda *_: ())
    rates = jnp.tile(jnp.array(RATES), SEEDS)
    keys = jnp.stack([jax.random.key(s) for s in range(SEEDS) for _ in RATES])
    algos = jax.vmap(lambda rate: algo.replace(learning_rate=rate))(rates)
    start = time.perf_counter()
    train = jax.jit(jax.vmap(lambda algo, key: algo.train(key))).lower(algos, keys).compile()
    compiled = time.perf_counter()
    jax.block_until_ready(train(algos, keys))
    per_iteration = 64 * bench.HYPER["num_steps"]
    steps = math.ceil(TIMESTEPS / per_iteration) * per_iteration * len(keys)
    run_s = time.perf_counter() - compiled
    print(json.dumps({"compile_s": compiled - start, "run_s": run_s, "steps": steps}))


if __name__ == "__main__":
    main()
