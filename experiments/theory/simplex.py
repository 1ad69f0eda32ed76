"""Draw how the updates move a policy, of a 3-armed bandit and of a 2-state MDP.

Exact policy gradient, the natural gradient (which is the analytical update) and PPO with a clip
range of 0.2, each as arrows of one step and as paths to the optimum. `make theory-simplex`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.updates import neighbours

jax.config.update("jax_enable_x64", True)

REWARDS = (1.0, 0.0, 0.7)
CORNERS = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.5, jnp.sqrt(0.75)]])  # arms 1, 2, 3
STARTS = jnp.array([[0.02, 0.08, 0.9], [0.02, 0.9, 0.08], [0.1, 0.45, 0.45], [1 / 3, 1 / 3, 1 / 3]])
METHODS = {
    "policy gradient, rate 0.4": (partial(neighbours.policy_gradient_step, learning_rate=0.4), 400),
    "natural gradient = analytical, C = 2": (
        partial(neighbours.natural_gradient_step, step_size=0.5),
        400,
    ),
    "PPO, clip 0.2": (
        partial(neighbours.ppo_step, learning_rate=1.0, num_steps=30),
        400,
    ),
}
COLORS = looks.PURPLE, looks.BLUE, looks.VERMILLION


def pull():
    """Return the bandit as an MDP of one state without a future."""
    return mdp.make(jnp.ones((1, 3, 1)), jnp.array([REWARDS]), [1.0], 0.0)


def path(problem, step, num_steps, policy):
    """Return the policies `[num_steps + 1, S, A]` of repeated steps."""

    def move(log_policy, _):
        new = step(problem, log_policy)
        return new, jnp.exp(new)

    _, after = jax.lax.scan(move, jnp.log(policy), None, length=num_steps)
    return jnp.concatenate([policy[None], after])


def lattice(count):
    """Return points inside the simplex, `[N, 3]`."""
    index = jnp.array(
        [(i, j, count - i - j) for i in range(count + 1) for j in range(count + 1 - i)], float
    )
    inner = index * (1 - 0.09) / count + 0.03
    return inner / inner.sum(1, keepdims=True)


def draw_simplex(axis, name, step, num_steps, color):
    """Draw arrows of one step and paths from four starts; print the steps until p(best) > 0.95."""
    problem = pull()
    points = lattice(12)
    move = jax.jit(jax.vmap(lambda p: jnp.exp(step(problem, jnp.log(p)[None]))[0]))
    arrows = (move(points) - points) @ CORNERS
    length = jnp.linalg.norm(arrows, axis=1)
    unit = arrows / jnp.maximum(length, 1e-12)[:, None]
    where = points @ CORNERS
    drawn = axis.quiver(
        *where.T, *unit.T, length, cmap="viridis", scale=22, width=0.006, pivot="mid"
    )
    drawn.set_clim(0.0, 0.12)
    outline = jnp.concatenate([CORNERS, CORNERS[:1]])
    axis.plot(*outline.T, color="0.5", lw=1)
    walk = jax.jit(jax.vmap(partial(path, problem, step, num_steps)))
    paths = walk(STARTS[:, None, :])[:, :, 0]
    for line in paths:
        axis.plot(*(line @ CORNERS).T, color=color, lw=1.2, alpha=0.9, gid="plain")
        axis.plot(*(line[:1] @ CORNERS).T, "o", color=color, ms=4)
    best = paths[:, :, 0] > 0.95
    reached = jnp.where(best.any(1), jnp.argmax(best, axis=1), -1)
    print(f"{name:40s} steps until p(best arm) > .95 from the four starts: {reached}")
    for corner, arm, offset in zip(CORNERS, REWARDS, ((0, -14), (0, -14), (0, 6)), strict=True):
        axis.annotate(f"r = {arm}", corner, xytext=offset, textcoords="offset points", ha="center")
    shown = ", ".join("> 400" if x < 0 else str(x) for x in reached)
    axis.set_title(f"{name}\nsteps to p(best) > .95: {shown}")
    axis.set_aspect("equal")
    axis.set_xlim(-0.08, 1.08)
    axis.set_ylim(-0.12, 0.98)
    axis.axis("off")
    return drawn


def two_states():
    """Return a chain of two states: staying in the first earns little, passing the second much.

    Action 0 stays and 1 goes on; from the second state going on pays 1, staying leads back.
    """
    transition = jnp.array([[[1.0, 0.0], [0.1, 0.9]], [[1.0, 0.0], [0.0, 1.0]]])
    return mdp.make(transition, [[0.25, 0.0], [0.0, 1.0]], [1.0, 0.0], 0.8)


def draw_square(axis):
    """Draw J over the square of (p(go | 1), p(go | 2)), and the paths of the three methods."""
    problem = two_states()
    ticks = jnp.linspace(0.001, 0.999, 81)
    grid = jnp.stack(jnp.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)
    policies = jnp.stack([1 - grid, grid], axis=-1)
    objective = partial(solve.objective, problem)
    values = jax.jit(jax.vmap(objective))(policies).reshape(81, 81)
    filled = axis.contourf(ticks, ticks, values.T, levels=20, cmap="Greys_r", alpha=0.8)
    axis.figure.colorbar(filled, ax=axis, label="J")
    start = jnp.array([[0.9, 0.1], [0.92, 0.08]])
    best = float(jnp.vdot(problem.start, solve.policy_iteration(problem).value))
    for color, (name, (step, num_steps)) in zip(COLORS, METHODS.items(), strict=True):
        line = jax.jit(partial(path, problem, step, num_steps))(start)
        objectives = jax.jit(jax.vmap(objective))(line)
        done = objectives > 0.99 * best
        count = int(jnp.argmax(done)) if bool(done.any()) else -1
        print(f"{name:40s} two states, steps until J > .99 J*: {count}")
        short = name.split(",")[0].split(" = ")[0]
        when = f"{count} steps" if count >= 0 else f"J = {float(objectives[-1]):.2f} after 400"
        axis.plot(
            line[:, 0, 1], line[:, 1, 1], color=color, marker=".", ms=3, label=f"{short}: {when}"
        )
    axis.plot(*start[:, 1], "o", color="k", ms=5)
    axis.set(
        xlabel="p(go on | first state)",
        ylabel="p(go on | second state)",
        title="Two states: staying pays .25, beyond pays 1\nfrom a policy that stays",
    )
    axis.grid(False)
    axis.legend(loc="lower right", facecolor="white", frameon=True, framealpha=1.0)


def main():
    """Draw the four panels."""
    figure, axes = new_figure(2, 2, width=4.6, height=3.9)
    for axis, color, (name, (step, num_steps)) in zip(axes, COLORS, METHODS.items(), strict=False):
        drawn = draw_simplex(axis, name, step, num_steps, color)
        figure.colorbar(drawn, ax=axis, label="length of a step", shrink=0.7, extend="max")
    draw_square(axes[3])
    save(figure, "simplex")


if __name__ == "__main__":
    main()
