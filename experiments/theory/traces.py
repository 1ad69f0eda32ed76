"""Draw TD(lambda) on the random walk of 19 states, and the two kinds of Monte Carlo on a stay.

`make theory-traces`. What is seen: neither TD(0) nor Monte Carlo (lambda 1) is best, but a lambda
in between; accumulating traces need smaller steps, as a state visited often is moved too far, and
the two others forgive larger ones. Mean returns of every visit are biased, after n episodes by
2 / (n + 1) of what they lack after one, and have the smaller error at first; first visits are
unbiased, and better in the end. The walk is that of Sutton and Barto 2018, figures 12.3, 12.6 and
12.8, the stay that of Singh and Sutton 1996. Bands are 95% intervals of the means.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory.learning import monte_carlo, traces
from jaxrl_pg.theory.learning.traces import Episode

jax.config.update("jax_enable_x64", True)

STATES, EPISODES, WALKS, LONGEST = 19, 10, 50, 1_000
DECAYS = (0.0, 0.4, 0.8, 0.9, 0.95, 1.0)
RATES = np.concatenate([np.linspace(0.01, 0.1, 7), np.linspace(0.15, 1.0, 18)])
KINDS = {
    "accumulating traces": traces.ACCUMULATING,
    "replacing traces": traces.REPLACING,
    "true online (Dutch traces)": traces.DUTCH,
}
STAY, NUM, SEEDS, LONG = 0.8, 64, 8_000, 60


def walks():
    """Sample episodes of the walk, `[WALKS, EPISODES, ...]`.

    States 1 to 19 are those of the walk, 0 and 20 the ends, of which the left one costs 1 and the
    right one earns 1. Nothing is discounted.
    """
    rng = np.random.default_rng(0)
    moves = rng.choice([-1, 1], (WALKS, EPISODES, LONGEST))
    path = np.concatenate([np.zeros((WALKS, EPISODES, 1), int), moves], axis=2).cumsum(axis=2)
    half = STATES // 2 + 1
    done = np.maximum.accumulate(np.abs(path) >= half, axis=2)
    assert np.all(done[..., -1])
    where = np.take_along_axis(path, done.argmax(axis=2)[..., None], axis=2)
    state = np.where(done, where, path) + half
    arrived = done[..., 1:] & ~done[..., :-1]
    reward = np.where(arrived, np.sign(where), 0.0)
    return Episode(state.astype(np.int32), reward, np.where(done[..., 1:], 0.0, 1.0))


def error_of_walk(trace, decay, rate, episodes):
    """Return the root mean square error, averaged over the states and the first episodes, `[]`."""
    truth = jnp.linspace(-1.0, 1.0, STATES + 2)[1:-1]

    def learn(value, episode):
        value = traces.online(value, episode, trace, decay, rate)
        return value, jnp.sqrt(jnp.mean(jnp.square(value[1:-1] - truth)))

    return jnp.mean(jax.lax.scan(learn, jnp.zeros(STATES + 2), episodes)[1])


def walk_errors(trace):
    """Return the errors of one kind of trace, `[DECAYS, RATES]`, means over the walks, and +-."""
    over_walks = jax.vmap(lambda *x: error_of_walk(trace, *x), (None, None, 0))
    over_rates = jax.vmap(over_walks, (None, 0, None))
    each = jax.jit(jax.vmap(over_rates, (0, None, None)))
    found = each(jnp.array(DECAYS), jnp.asarray(RATES), jax.tree.map(jnp.asarray, walks()))
    return np.asarray(found.mean(axis=2)), 1.96 * np.asarray(found.std(axis=2)) / np.sqrt(WALKS)


def stays():
    """Return estimates after 1 to NUM stays, `[2, SEEDS, NUM]`, of first and of every visit."""
    lengths = np.random.default_rng(1).geometric(1 - STAY, (SEEDS, NUM, 1))
    steps = np.arange(LONG + 1)
    state = (steps >= np.minimum(lengths, LONG)).astype(np.int32)
    discount = np.where(steps[1:] < lengths, 1.0, 0.0)
    episodes = Episode(*(jnp.asarray(x) for x in (state, 1.0 - state[..., :-1], discount)))

    def both(x):
        kinds = (monte_carlo.first_visit, monte_carlo.every_visit)
        return jnp.stack([monte_carlo.average(x, kind, 2).value[:, 0] for kind in kinds])

    return np.asarray(jax.jit(lambda x: jax.lax.map(both, x))(episodes)).swapaxes(0, 1)


def draw_stays(axes):
    """Draw bias and error of the two kinds of Monte Carlo, and print some of them."""
    found, truth, number = stays(), 1 / (1 - STAY), np.arange(1, NUM + 1)
    error = np.sqrt(np.mean(np.square(found - truth), axis=1))
    for row, name, color in ((0, "first visits", looks.BLUE), (1, "every visit", looks.ORANGE)):
        mean = found[row].mean(axis=0) - truth
        half = 1.96 * found[row].std(axis=0) / np.sqrt(SEEDS)
        axes[0].semilogx(number, mean, color=color, label=name)
        axes[0].fill_between(number, mean - half, mean + half, color=color, alpha=0.2, lw=0)
        axes[1].loglog(number, error[row], color=color, label=name)
    bias = -2 / (number + 1) * STAY / (2 * (1 - STAY))
    axes[0].semilogx(number, bias, ":", color="black", label="its bias, by the formula")
    axes[0].set(title=f"Bias: a state kept with {STAY}", ylabel=f"mean estimate - {truth:.0f}")
    axes[1].set(
        title="Error: every visit first, then first visits", ylabel="root mean square error"
    )
    for axis in axes:
        axis.set_xlabel("episodes")
        axis.legend()
    print("episodes | bias, error of first visits; of every visit; bias by the formula")
    for n in (1, 2, 4, 16, 64):
        row = [x for k in range(2) for x in (found[k, :, n - 1].mean() - truth, error[k, n - 1])]
        print(f"{n:8} | " + " ".join(f"{x:8.4f}" for x in row) + f" {bias[n - 1]:8.4f}")


def main():
    """Draw, and print the numbers shown."""
    figure, axes = new_figure(2, 3, width=4.2, height=3.2)
    print("kind: best error, at lambda and step size; the same of TD(0) and of lambda 1")
    for axis, (name, trace) in zip(axes, KINDS.items(), strict=False):
        found, half = walk_errors(trace)
        for decay, row, around in zip(DECAYS, found, half, strict=True):
            (line,) = axis.plot(RATES, row, label=f"$\\lambda$ {decay}")
            shade = {"color": line.get_color(), "alpha": 0.2, "lw": 0}
            # Where a mean diverges, so does its interval.
            axis.fill_between(RATES, row - around, row + around, where=row < 0.65, **shade)
        axis.set(title=name, xlabel="step size", ylim=(0.2, 0.6))
        axis.set_ylabel(f"error over {EPISODES} episodes")
        axes[5].plot(DECAYS, np.nanmin(found, axis=1), "o-", ms=3, label=name)
        i, j = np.unravel_index(np.nanargmin(found), found.shape)
        ends = f"{np.nanmin(found[0]):.4f}, {np.nanmin(found[-1]):.4f}"
        print(f"{name}: {found[i, j]:.4f} at {DECAYS[i]}, {RATES[j]:.3f}; {ends}")
    axes[2].legend(loc="upper right", ncols=2)
    draw_stays(axes[3:5])
    axes[5].set(xlabel="$\\lambda$", ylabel="error, best step size", title="The best of each")
    axes[5].legend()
    save(figure, "traces")


if __name__ == "__main__":
    main()
