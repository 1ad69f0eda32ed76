"""One process of the benchmark: an environment step here, and with gymnax's automatic reset.

CPU time of a step of 1,024 environments under uniformly random actions, long enough for episodes to
end as often as they do. The two take turns, and the least of some rounds is taken.
"""

import time
from functools import partial

import jax
import timing

from jaxrl_pg import envs

NUM_ENVS = 1024
NUM_STEPS = 500
ROUNDS = 7
IDS = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "Breakout-MinAtar",
    "Asterix-MinAtar",
    "SpaceInvaders-MinAtar",
)


def main() -> None:
    """Measure, and print one JSON line."""
    timing.task()
    steps = {}
    for env_id in IDS:
        env = envs.make(env_id)
        programs = [compiled(step, env) for step in (step_gymnax, step_here)]
        times = [[], []]
        for key in jax.random.split(jax.random.key(0), ROUNDS):
            for program, spent in zip(programs, times, strict=True):
                start = time.process_time()
                ended = jax.block_until_ready(program(key))
                spent.append((time.process_time() - start) / NUM_STEPS * 1e6)
        theirs, ours = map(min, times)
        steps[env_id] = {"gymnax_us": theirs, "here_us": ours, "ended": float(ended) / NUM_STEPS}
    timing.say("jaxrl-pg", {"steps": steps})


def compiled(step, env):
    """A program that takes a key and makes `NUM_STEPS` steps of `NUM_ENVS` environments."""
    program = jax.jit(partial(rollout, step, env)).lower(jax.random.key(0)).compile()
    jax.block_until_ready(program(jax.random.key(1)))
    return program


def rollout(step, env, key):
    """Step and count the episodes that end."""
    reset_key, steps_key = jax.random.split(key)
    state, obs = envs.reset(env, reset_key, NUM_ENVS)
    carry = (state, obs)
    return jax.lax.scan(partial(step, env), carry, jax.random.split(steps_key, NUM_STEPS))[1].sum()


def step_gymnax(env, carry, key):
    """gymnax's step, vectorised, with the final observation that bootstrapping needs."""
    keys = jax.random.split(key, (2, NUM_ENVS))
    action = jax.vmap(env.core.action_space(env.params).sample)(keys[0])
    obs, state, _, terminated, truncated, info = jax.vmap(env.core.step, (0, 0, 0, None))(
        keys[1], carry[0], action, env.params
    )
    state = jax.tree.map(lambda x, old: x.astype(old.dtype), state, carry[0])
    final = info["final_observation"].astype(float).sum()
    return (state, obs.astype(carry[1].dtype)), (terminated | truncated).sum() + 0 * final


def step_here(env, carry, key):
    """This library's step, fed the same kind of actions."""
    action_key, step_key, reset_key = jax.random.split(key, 3)
    keys = jax.random.split(action_key, NUM_ENVS)
    action = jax.vmap(env.core.action_space(env.params).sample)(keys)
    state, timestep = envs.step(env, step_key, reset_key, carry[0], action)
    final = timestep.final_obs.astype(float).sum()
    return (state, timestep.obs), (timestep.terminated | timestep.truncated).sum() + 0 * final


if __name__ == "__main__":
    main()
