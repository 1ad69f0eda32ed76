"""Draw the cost of entropy and the convergence of soft control (`make theory-temperature`).

Left: soft-optimal values minus hard-optimal ones on random MDPs, and what the soft-optimal policy
loses in reward; both are at most temperature log|A| / (1 - gamma). Right: distance to the
soft-optimal Q of soft value iteration, which contracts by gamma, and of soft policy iteration,
which needs a handful of iterations whatever gamma is.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import soft_values

NUM, STATES, ACTIONS = 200, 10, 4
GAMMA, TEMPERATURE = 0.9, 0.2
GAMMAS = (0.5, 0.9, 0.99)
COLORS = (looks.GREEN, looks.ORANGE, looks.BLUE)
SWEEPS, IMPROVEMENTS = 60, 8
FLOOR = 1e-13


def random_mdps(gamma, seed=0):
    """Draw dense random MDPs along the first axis."""
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(STATES), (NUM, STATES, ACTIONS))
    reward = rng.normal(size=(NUM, STATES, ACTIONS))
    start = np.full((NUM, STATES), 1.0 / STATES)
    return jax.tree.map(jnp.asarray, mdps.MDP(transition, reward, start, np.full(NUM, gamma)))


def gaps(mdp, temperature):
    """Return the largest `soft - hard` and `hard - obtained` over states, and their bound."""
    result = soft_values.hard_limit(mdp, temperature)
    above, lost = result.soft - result.hard, result.hard - result.obtained
    return jnp.stack([jnp.max(above), jnp.max(lost), result.bound, jnp.min(above), jnp.min(lost)])


def distances(mdp):
    """Return distances to the soft-optimal Q after each iteration of either kind."""
    exact = soft_values.policy_iterates(mdp, TEMPERATURE, 3 * IMPROVEMENTS).q[-1]
    by_policies = soft_values.policy_iterates(mdp, TEMPERATURE, IMPROVEMENTS).q
    by_values = soft_values.value_iterates(mdp, TEMPERATURE, SWEEPS, by_policies[0]).q
    far = partial(jnp.max, axis=(1, 2))
    return far(jnp.abs(by_policies - exact[None])), far(jnp.abs(by_values - exact[None]))


def draw_gaps(axis, temperatures, result):
    """Draw the median and range over MDPs of both gaps, under the bound."""
    names = ["soft - hard value", "reward lost by the soft-optimal policy"]
    for column, (name, color) in enumerate(zip(names, (looks.BLUE, looks.ORANGE), strict=True)):
        low, middle, high = np.quantile(result[:, :, column], [0.0, 0.5, 1.0], axis=1)
        axis.plot(temperatures, middle, color=color, label=name, lw=1.8)
        axis.fill_between(temperatures, np.maximum(low, 1e-12), high, color=color, alpha=0.2, lw=0)
    bound = result[:, 0, 2]
    axis.plot(
        temperatures,
        bound,
        color="black",
        ls="--",
        label=r"bound: temperature $\log|A| / (1-\gamma)$",
    )
    axis.set(
        xscale="log",
        yscale="log",
        ylim=(1e-6, 1e4),
        xlabel="temperature",
        ylabel="largest over states (median, range)",
        title=rf"Soft values go to hard ones ({NUM} random MDPs, $\gamma$ = {GAMMA})",
    )
    axis.legend(loc="upper left")


def draw_distances(axis, result):
    """Draw one colour a discount, and policy iteration with markers."""
    for gamma, color, (by_policies, by_values) in zip(GAMMAS, COLORS, result, strict=True):
        values, policies = np.median(by_values, axis=0), np.median(by_policies, axis=0)
        axis.plot(values, color=color, label=rf"value iteration, $\gamma$ = {gamma}", lw=1.8)
        rate = values[0] * gamma ** np.arange(len(values))
        axis.plot(rate, color=color, ls=":", lw=1.0)
        axis.plot(
            np.maximum(policies, FLOOR),
            color=color,
            ls="--",
            marker="o",
            ms=4,
            label=rf"policy iteration, $\gamma$ = {gamma}",
        )
    axis.plot([], color="grey", ls=":", lw=1.0, label=r"$\gamma^k$ times the first distance")
    axis.set(
        yscale="log",
        ylim=(FLOOR, 1e12),
        xlabel="iteration",
        ylabel="distance to the soft-optimal Q (median)",
        title="Soft policy iteration is done in a few",
    )
    axis.legend(loc="upper right", ncols=2, fontsize=7.5)


def iterations_needed(distance, tolerance=1e-10):
    """Return the first iteration of each MDP within the tolerance."""
    return np.argmax(distance <= tolerance, axis=1)


def main():
    """Compute, draw, print."""
    jax.config.update("jax_enable_x64", True)
    temperatures = jnp.logspace(-3.0, 1.0, 33)
    over_mdps = jax.vmap(gaps, (0, None))
    every = jax.jit(jax.vmap(over_mdps, (None, 0)))
    result = np.asarray(every(random_mdps(GAMMA), temperatures))
    solver = jax.jit(jax.vmap(distances))
    far = [jax.tree.map(np.asarray, solver(random_mdps(gamma))) for gamma in GAMMAS]

    figure, axes = new_figure(2, width=4.8, height=3.6)
    draw_gaps(axes[0], np.asarray(temperatures), result)
    draw_distances(axes[1], far)
    save(figure, "temperature")

    print(f"smallest gap of either kind {result[:, :, 3:].min():.2e}")
    print("temperature | soft - hard, reward lost (medians of the largest over states) | bound")
    for i in range(0, 33, 8):
        above, lost, bound, _, _ = np.median(result[i], axis=0)
        print(f"{temperatures[i]:11.3f} | {above:12.6f} {lost:12.6f} | {bound:10.6f}")
    print("gamma | policy iterations to 1e-10: median, most | value iterations after 60: distance")
    for gamma, (by_policies, by_values) in zip(GAMMAS, far, strict=True):
        needed = iterations_needed(by_policies)
        last = np.median(by_values[:, -1])
        print(f"{gamma:5.2f} | {np.median(needed):.0f} {needed.max()} | {last:.3e}")


if __name__ == "__main__":
    main()
