"""Measure the exact solution of a thousand small MDPs, beside a NumPy loop, and of a large one.

`.venv/bin/python experiments/bench/tabular.py` prints the numbers in docs/theory.md.
"""

import resource
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.theory import builders, mdp, solve
from jaxrl_pg.training import devices

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)

NUM, STATES, ACTIONS, GAMMA = 1000, 50, 4, 0.95
LARGE = 5000


def main():
    """Measure and print."""
    keys = jax.random.split(jax.random.key(0), NUM)
    build = partial(
        builders.garnet, num_states=STATES, num_actions=ACTIONS, branching=5, gamma=GAMMA
    )
    batch = jax.jit(jax.vmap(build))(keys)
    one_by_one = partial(jax.lax.map, solve_uniform)
    programs = {
        "vmap": jax.jit(jax.vmap(solve_uniform)),
        "lax.map": jax.jit(one_by_one),
        "lax.map on two devices": jax.jit(devices.over_members(one_by_one, (0,))),
    }
    arrays = jax.tree.map(np.asarray, batch)
    loop = best_of(3, partial(numpy_loop, arrays))
    print(f"NumPy, one after another: {1e3 * loop:.0f} ms")
    for name, program in programs.items():
        start = time.perf_counter()
        finished(program, batch)
        first = time.perf_counter() - start
        given = jax.device_put(batch, devices.members_sharding()) if "two" in name else batch
        seconds = best_of(10, partial(finished, program, given))
        print(f"{name}: {1e3 * seconds:.0f} ms, {loop / seconds:.1f} times; {first:.1f} s at first")
    key = jax.random.key(1)
    large = jax.jit(partial(builders.garnet, num_states=LARGE, num_actions=2, branching=20))
    large = jax.block_until_ready(large(key, gamma=0.99))
    start = time.perf_counter()
    solution = jax.block_until_ready(jax.jit(solve_uniform)(large))
    seconds = time.perf_counter() - start
    error = jnp.max(jnp.abs(solution.value - jnp.mean(solution.q, axis=1)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{LARGE} states: {seconds:.1f} s with compiling, error {error:.1e}, {peak:.1f} GiB peak")


def solve_uniform(some):
    """Return V, Q, A, d and J of the uniform policy."""
    return solve.evaluate(some, mdp.uniform_policy(some))


def finished(program, batch):
    """Run a program to its end."""
    return jax.block_until_ready(program(batch))


def numpy_loop(arrays):
    """Solve the same with NumPy, one MDP after another."""
    policy = np.full((STATES, ACTIONS), 1.0 / ACTIONS)
    for transition, reward, start in zip(*arrays[:3], strict=True):
        chain = np.einsum("sa,sak->sk", policy, transition)
        matrix = np.eye(STATES) - GAMMA * chain
        value = np.linalg.solve(matrix, np.sum(policy * reward, axis=1))
        q = reward + GAMMA * transition @ value
        np.linalg.solve(matrix.T, (1.0 - GAMMA) * start)
        _ = q - value[:, None], start @ value


def best_of(num, fn):
    """Return the least seconds of `num` calls."""
    seconds = []
    for _ in range(num):
        start = time.perf_counter()
        fn()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
