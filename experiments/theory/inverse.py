"""Draw inverse reinforcement learning: what a walker likes, read off its walks.

`make theory-inverse`. What is seen: a soft-optimal walker crosses a slippery field with water and
mud; its reward has a number for each kind of tile. From its exact visits Newton's method finds the
numbers to rounding in a few steps. From N sampled walks they are found with an error that falls as
1/sqrt(N). A wall is then built across the way: who has learned the reward finds the way round it at
once, and who has only copied the actions, state by state, walks into it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import MARKERS, new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory.learning import estimators
from jaxrl_pg.theory.soft import inverse, soft_values

jax.config.update("jax_enable_x64", True)

BLUE, ORANGE, BLACK = looks.BLUE, looks.ORANGE, "black"
BEFORE = (
    "S.ww....",
    "..ww.mm.",
    ".....mm.",
    ".ww.....",
    ".wwmm...",
    "...mm.w.",
    ".m....w.",
    ".m.....G",
)
AFTER = tuple(f"{row[:6]}##" if i == 5 else row for i, row in enumerate(BEFORE))
KINDS = {"G": "goal", "w": "water", "m": "mud"}
TRUE = np.array([0.6, -1.0, -0.5])
GAMMA, SLIP, TEMPERATURE, HORIZON = 0.95, 0.1, 0.25, 200
SEEDS, RIDGE, DOUBT = 20, 0.1, 0.1
DEMONSTRATIONS = np.array([1, 4, 16, 64, 256, 1024])


def world(rows):
    """Return a field and its features `[S, A, 3]`: what the tile of a state is.

    The goal is no end: the walker may stay there, and earns its reward at every step.
    """
    field = [row.replace("G", ".") for row in rows]
    mdp = builders.grid(field, GAMMA, SLIP)
    tiles = "".join(rows)
    marks = jnp.array([[float(tile == kind) for kind in KINDS] for tile in tiles])
    return mdp, jnp.broadcast_to(marks[:, None], (len(tiles), 4, len(KINDS)))


def copied(paths, shape):
    """Return the policy of the actions seen in each state, with a little doubt."""
    often = jnp.where(paths.weight > 0, 1.0, 0.0)[:, None]
    seen = jnp.zeros(shape).at[paths.state, paths.action].add(often) + DOUBT
    return seen / jnp.sum(seen, axis=1, keepdims=True)


def lost(paid, policy):
    """Return how much less soft return a policy has than the best one, under the true reward."""
    best = soft_values.policy_iteration(paid, TEMPERATURE).value @ paid.start
    return best - soft_values.evaluate(paid, policy, TEMPERATURE).objective


def study(key):
    """Learn from more and more walks: errors of w, returns lost by reward and by copy, `[N, 5]`.

    The returns are those in the same world, and after the wall was built.
    """
    mdp, feature = world(BEFORE)
    after, marks = world(AFTER)
    weight = jnp.asarray(TRUE)
    expert = inverse.optimal_policy(mdp, feature, weight, TEMPERATURE)
    walks = estimators.sample_trajectories(mdp, expert, HORIZON, int(DEMONSTRATIONS[-1]), key)

    def learn(num):
        share = jnp.where(jnp.arange(walks.weight.shape[0]) < num, 1.0 / num, 0.0)
        paths = walks._replace(weight=share)
        counts = inverse.empirical_counts(feature, paths, GAMMA)
        found = inverse.fit(mdp, feature, counts, TEMPERATURE, RIDGE / num)
        planned = inverse.optimal_policy(after, marks, found.weight, TEMPERATURE)
        copy = copied(paths, mdp.reward.shape)
        same, changed = (inverse.rewarded(*x, weight) for x in ((mdp, feature), (after, marks)))
        losses = [lost(same, found.policy), lost(same, copy)]
        losses += [lost(changed, planned), lost(changed, copy)]
        return jnp.stack([jnp.max(jnp.abs(found.weight - weight)), *losses])

    return jax.lax.map(learn, jnp.asarray(DEMONSTRATIONS))


def newton_path(mdp, feature, counts):
    """Return the residual and the error of the visits after 1, 2, ... weights tried."""
    expert = inverse.optimal_policy(mdp, feature, jnp.asarray(TRUE), TEMPERATURE)
    visits = solve.visitation(mdp, expert)

    def after(tried):
        found = inverse.fit(mdp, feature, counts, TEMPERATURE, max_iterations=tried)
        error = jnp.max(jnp.abs(solve.visitation(mdp, found.policy) - visits))
        return jnp.stack([found.residual, error]), found.weight

    return jax.lax.map(after, jnp.arange(1, 21))


def draw_field(axis, rows, values, title, color_map, limits):
    """Draw numbers on the tiles, with their marks."""
    shown = np.asarray(values).reshape(len(rows), -1)
    axis.imshow(shown, cmap=color_map, vmin=limits[0], vmax=limits[1])
    for row, line in enumerate(rows):
        for column, tile in enumerate(line):
            dark = shown[row, column] > 0.3 * limits[0] + 0.7 * limits[1]
            place = {"ha": "center", "va": "center", "fontsize": 8, "color": "w" if dark else "k"}
            axis.text(column, row, tile.strip("."), **place)
    axis.set(xticks=[], yticks=[], title=title)
    axis.grid(False)


def band(axis, x, rows, color, label):
    """Draw the median over seeds with the middle half."""
    low, middle, high = np.quantile(rows, (0.25, 0.5, 0.75), axis=1)
    axis.plot(x, middle, marker=MARKERS[color], ms=4, color=color, label=label)
    axis.fill_between(x, low, high, color=color, alpha=0.2, lw=0)


def main():
    """Draw, and print the numbers shown."""
    mdp, feature = world(BEFORE)
    weight = jnp.asarray(TRUE)
    expert = inverse.optimal_policy(mdp, feature, weight, TEMPERATURE)
    counts = inverse.feature_counts(mdp, expert, feature)
    path, weights = jax.jit(newton_path)(mdp, feature, counts)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    learned = np.asarray(jax.jit(lambda keys: jax.lax.map(study, keys))(keys)).swapaxes(0, 1)
    figure, axes = new_figure(2, 3, width=4.2, height=3.4)
    often = solve.visitation(mdp, expert)
    title = f"visits of the walker, temperature {TEMPERATURE}"
    draw_field(axes[0], BEFORE, jnp.log10(often), title, "Blues", (-4, 0))
    value = soft_values.policy_iteration(
        inverse.rewarded(mdp, feature, weights[-1]), TEMPERATURE
    ).value
    title = "soft values of the reward that was found"
    draw_field(axes[1], BEFORE, value, title, "YlGn", (float(value.min()), float(value.max())))
    tried = np.arange(1, len(path) + 1)
    axes[2].semilogy(tried, path[:, 0], "o-", color=BLUE, label="largest error of the counts")
    axes[2].semilogy(tried, path[:, 1], "s-", color=ORANGE, label="largest error of the visits")
    axes[2].set(xlabel="weights tried by Newton's method", title="From exact counts: exact")
    axes[2].legend()
    band(axes[3], DEMONSTRATIONS, learned[:, :, 0], BLUE, f"median and quartiles, {SEEDS} seeds")
    slope = np.median(learned[-1, :, 0]) * (DEMONSTRATIONS / DEMONSTRATIONS[-1]) ** -0.5
    axes[3].plot(DEMONSTRATIONS, slope, ":", color=BLACK, label="slope of $N^{-1/2}$")
    axes[3].set(ylabel="largest error of a weight", title="From N walks")
    titles = ["In the same world", "After a wall was built (row 6)"]
    for axis, first, title in zip(axes[4:], (1, 3), titles, strict=True):
        band(axis, DEMONSTRATIONS, learned[:, :, first], BLUE, "reward learned, and planned for")
        band(axis, DEMONSTRATIONS, learned[:, :, first + 1], ORANGE, "actions copied")
        axis.set(ylabel="soft return lost", title=title)
    for axis in axes[3:]:
        axis.set(xscale="log", yscale="log", xlabel="N, demonstrated walks")
        axis.legend()
    save(figure, "inverse")
    print("true weights", TRUE, "found", np.asarray(weights[-1]))
    print("tried | error of counts, of visits")
    for i in range(0, len(path), 2):
        print(f"{i + 1:5} | {path[i, 0]:.2e} {path[i, 1]:.2e}")
    print("walks | medians: error of w; lost in the same world by reward, copy; after the wall")
    for num, rows in zip(DEMONSTRATIONS, learned, strict=True):
        print(f"{num:5} | " + " ".join(f"{x:9.5f}" for x in np.median(rows, axis=0)))


if __name__ == "__main__":
    main()
