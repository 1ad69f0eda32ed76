"""Draw the paths of the updates through the value polytope of an MDP of two states.

The values `(V(1), V(2))` of all policies form a polytope whose edges are policies that leave one
state no choice (Dadashi et al. 2019, arXiv 1901.11524). With the exact solution and a free choice
of probabilities all four methods move up and to the right only: no state ever loses. What differs
is the way. Policy iteration jumps from corner to corner, the analytical update keeps to the edges,
and the gradient and PPO take both states along. `make theory-polytope`.
"""

from functools import partial

import jax
import jax.numpy as jnp
from simplex import path

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.updates import neighbours

jax.config.update("jax_enable_x64", True)

NUM_POLICIES = 4000
STARTS = jnp.array([[0.03, 0.97], [0.97, 0.03]])
START_OF_EPISODES = (0.95, 0.05)
METHODS = {
    "policy iteration": (neighbours.policy_iteration_step, 5),
    "analytical update, C = 0.2": (partial(neighbours.natural_gradient_step, step_size=0.5), 100),
    "policy gradient, rate 2": (partial(neighbours.policy_gradient_step, learning_rate=2.0), 2000),
    "PPO, clip 0.2": (partial(neighbours.ppo_step, learning_rate=1.0, num_steps=30), 200),
}
COLORS = (looks.GREEN, looks.BLUE, looks.PURPLE, looks.VERMILLION)


def problem():
    """Return an MDP whose first state has negative rewards and whose second one positive."""
    transition = [[[0.7, 0.3], [0.99, 0.01]], [[0.2, 0.8], [0.99, 0.01]]]
    return mdp.make(transition, [[-0.45, -0.1], [0.5, 0.5]], START_OF_EPISODES, 0.9)


def values_of(some, policies):
    """Return values `[N, 2]` of policies `[N, 2, 2]`."""
    return jax.jit(jax.vmap(lambda policy: solve.evaluate(some, policy).value))(policies)


def draw_polytope(axis, some):
    """Draw the values of policies everywhere, and of those that leave a state no choice."""
    chosen = jax.random.uniform(jax.random.key(0), (NUM_POLICIES, 2, 1))
    inside = values_of(some, jnp.concatenate([chosen, 1.0 - chosen], axis=2))
    axis.plot(*inside.T, ".", color="0.8", ms=2, zorder=0)
    ticks = jnp.linspace(0.0, 1.0, 50)[:, None]
    for state in (0, 1):
        for fixed in (0.0, 1.0):
            pair = [ticks, jnp.full_like(ticks, fixed)]
            first = jnp.stack(pair if state else pair[::-1], axis=1)
            line = values_of(some, jnp.concatenate([first, 1.0 - first], axis=2))
            axis.plot(*line.T, color="0.4", lw=1)


def draw_paths(axis, some, name, step, num_steps, color):
    """Draw the paths from both starts; return the steps to within 1% of the optimum."""
    best = solve.policy_iteration(some).value
    counts, lost = [], 0.0
    for start in STARTS:
        begin = jnp.stack([start, start[::-1]])
        policies = jax.jit(partial(path, some, step, num_steps))(begin)
        values = values_of(some, policies)
        lost = max(lost, float(jnp.max(values[:-1] - values[1:])))
        left = (best - values) / (best - values[0])
        counts.append(int(jnp.argmax(jnp.all(left < 0.01, axis=1))))
        axis.plot(*values.T, color=color, gid="plain", marker=".", ms=3, lw=1)
        axis.plot(*values[:1].T, "o", color="k", ms=5)
    axis.plot(*best, "*", color="k", ms=10)
    print(f"{name:20s} steps: {counts}; the most a state lost in a step: {lost:.1e}")
    return counts


def main():
    """Draw a panel a method."""
    some = problem()
    figure, axes = new_figure(2, 2, width=3.6, height=3.2)
    for axis, color, (name, (step, num_steps)) in zip(axes, COLORS, METHODS.items(), strict=True):
        draw_polytope(axis, some)
        counts = draw_paths(axis, some, name, step, num_steps, color)
        steps = " and ".join(map(str, counts))
        axis.set(title=f"{name}: {steps} steps", xlabel="V(first state)", ylabel="V(second state)")
    save(figure, "polytope")


if __name__ == "__main__":
    main()
