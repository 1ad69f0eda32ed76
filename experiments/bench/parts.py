"""Where PPO's time goes: the parts of an iteration, timed alone, in us an environment step.

`.venv/bin/python experiments/bench/parts.py [--envs 64 1024] [--conv 0 16]` prints a table; what
it gave is in docs/explanation/performance.md. It wants the machine for itself. Every part is
compiled as a program of its own that is handed what an iteration would hand it, so that the sum
may differ from an iteration: XLA joins parts where it can. "CPU" is the time of all cores together.
"""

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
from rows import HYPER

from jaxrl_pg import ppo
from jaxrl_pg.components import on_policy, optim, rollout
from jaxrl_pg.ops import batching, collectives

EXECUTIONS = 7


def main() -> None:
    """Print a table for every number of environments and convolution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="Breakout-MinAtar")
    parser.add_argument("--envs", nargs="+", type=int, default=[64, 1024])
    parser.add_argument("--conv", nargs="+", type=int, default=[0, 16], help="filters, 0 for none")
    args = parser.parse_args()
    for num_envs in args.envs:
        for filters in args.conv:
            config = ppo.Config(
                env=args.env,
                num_envs=num_envs,
                total_timesteps=4 * num_envs * HYPER["ppo"]["num_steps"],
                conv_features=filters,
                anneal_lr=False,
                clip_eps_vf=HYPER["ppo"]["clip_eps"],
                **HYPER["ppo"],
            )
            print(f"\n{args.env}, {num_envs} environments, {filters} filters\n")
            print("| part | us a step | CPU us a step |\n|---|---|---|")
            for name, (seconds, cpu) in measure(config).items():
                per_step = 1e6 / config.steps_per_iteration
                print(f"| {name} | {seconds * per_step:.2f} | {cpu * per_step:.2f} |", flush=True)


def measure(config: ppo.Config) -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds that an iteration and each of its parts take."""
    model, state = on_policy.build(config), ppo.init(config, jax.random.key(0))
    state, _ = jax.jit(ppo.iterate)(config, state)
    experience = jax.jit(lambda state: on_policy.gather(config, model, state))(state)
    learner, key = state.learner, jax.random.key(1)
    make_batch = jax.jit(lambda e: on_policy.make_batch(config, model, learner, e))
    batch = jax.block_until_ready(make_batch(experience))

    def minibatches(step: Any) -> Any:
        """A program that makes something small of every minibatch of every epoch."""

        def program(params: Any, batch: Any) -> Any:
            indices = batching.minibatch_indices(
                key, batch.value.shape[0], config.num_epochs, config.num_minibatches
            )

            def minibatch(carry: Any, indices: jax.Array) -> Any:
                rows = jax.tree.map(lambda x: x[indices], batch)
                # What is carried changes by nothing, which XLA does not know.
                size = sum(jnp.sum(x) for x in jax.tree.leaves(step(carry, rows)))
                return jax.tree.map(lambda x: x + 0.0 * size, carry), None

            return jax.lax.scan(minibatch, params, indices)[0]

        return program, (learner.params, batch)

    def loss(params: Any, rows: Any) -> jax.Array:
        return ppo._loss(params, config, model, rows, learner.kl_coef)[0]

    def gradient(params: Any, rows: Any) -> Any:
        return batching.mean_over_pieces(
            lambda rows: jax.grad(loss)(params, rows),
            rows,
            collectives.rows_at_once(lambda rows: model.read(params, rows), rows, rows.obs),
        )

    def adam(learner: ppo.Learner) -> Any:
        def step(carry: Any, _: Any) -> Any:
            params, opt_state = carry
            return optim.apply_gradients(params, opt_state, params, 1e-9, 0.5)[:2], None

        start = (learner.params, learner.opt_state)
        return jax.lax.scan(step, start, length=config.num_epochs * config.num_minibatches)[0]

    programs = {
        "iteration": (lambda state: ppo.iterate(config, state), (state,)),
        "rollout": (lambda state: on_policy.gather(config, model, state), (state,)),
        "rollout: environments alone": (steps_alone(config, model), (state.actor,)),
        "values and advantages": (make_batch, (experience,)),
        "minibatches gathered": minibatches(lambda _, rows: rows),
        "gathered, and forward pass": minibatches(loss),
        "gathered, forward and backward pass": minibatches(gradient),
        "Adam": (adam, (learner,)),
    }
    return {name: seconds_of(*program) for name, program in programs.items()}


def steps_alone(config: ppo.Config, model: Any) -> Any:
    """A program that steps the environments under actions that no network chose."""

    def act(obs: Any, noise: jax.Array, hidden: Any) -> tuple[jax.Array, Any, Any]:
        return (noise * model.env.spec.num_actions).astype(jnp.int32), (), hidden

    def record(obs: Any, action: Any, extra: Any, timestep: Any) -> Any:
        return obs, timestep.reward

    def program(actor: Any) -> Any:
        noise = jax.random.uniform(jax.random.key(0), (config.num_steps * config.num_envs,))
        noise = noise.reshape(config.num_steps, config.num_envs)
        return rollout.collect(model.env, act, record, actor, noise, jax.random.key(1))

    return program


def seconds_of(program: Any, args: tuple[Any, ...]) -> tuple[float, float]:
    """The least wall seconds and the least CPU seconds of some executions."""
    compiled = jax.jit(program).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    wall, cpu = [], []
    for _ in range(EXECUTIONS):
        start, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(*args))
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return min(wall), min(cpu)


if __name__ == "__main__":
    main()
