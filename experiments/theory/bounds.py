"""Compare the bounds on |J(pi') - L|, by their constants and on random MDPs.

    make theory-bounds

Left: what multiplies the divergence, across discounts (CPO's with max |Abar| replaced by eps, which
is never smaller), and below what no constant before the expected KL can be, by optimised chains.
Right: bound / gap on random MDPs, the median and the tightest; at 1 a bound is reached.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import MARKERS, new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory.bounds import improvement_bounds, sharp
from jaxrl_pg.theory.mdp import MDP

GAMMAS = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
NUM, STATES, ACTIONS = 4000, 10, 4
NAMES = {
    "paper": ("printed, expected KL", looks.ORANGE),
    "shift": ("shift of states, largest TV", looks.PURPLE),
    "trpo": ("TRPO, largest KL", looks.BLUE),
    "ours": ("ours, expected KL", looks.GREEN),
    "cpo": ("CPO, expected TV", looks.VERMILLION),
}


def random_pair(key):
    """Return a random MDP without its discount, a policy, and a rival near or far."""
    keys = jax.random.split(key, 6)
    weights = jax.random.exponential(keys[0], (STATES, ACTIONS, STATES))
    start = jax.random.exponential(keys[1], (STATES,))
    reward = jax.random.normal(keys[2], (STATES, ACTIONS))
    logits, other = jax.random.normal(keys[3], (2, STATES, ACTIONS))
    step = 10.0 ** jax.random.uniform(keys[4], minval=-2.0, maxval=0.5)
    mdp = MDP(weights / weights.sum(-1, keepdims=True), reward, start / start.sum(), jnp.zeros(()))
    return mdp, jax.nn.softmax(logits), jax.nn.softmax(logits + step * other)


def tightness(gamma, key):
    """Return gap / bound of every bound on one random pair."""
    mdp, policy, new_policy = random_pair(key)
    comparison = improvement_bounds.compare(mdp._replace(gamma=gamma), policy, new_policy)
    shifted = improvement_bounds.objective_bound(comparison)
    result = {
        "paper": improvement_bounds.paper_bound(comparison),
        "shift": improvement_bounds.Bound(shifted.gap, shifted.tight),
        "trpo": improvement_bounds.trpo_bound(comparison),
        "ours": improvement_bounds.expected_kl_bound(comparison),
        "cpo": improvement_bounds.cpo_bound(comparison),
    }
    return {name: sides.gap / sides.bound for name, sides in result.items()}


def draw_constants(axis):
    """Draw C / eps against the horizon."""
    gammas = jnp.asarray(1.0 - np.logspace(np.log10(0.7), -2, 80))
    one, horizon = jnp.ones(()), 1.0 / (1.0 - gammas)
    result = jax.jit(jax.vmap(sharp.sharp_ratio))(gammas).ratio
    best = jnp.maximum(result, sharp.local_ratio(gammas)) * horizon
    axis.fill_between(horizon, 1e-2, best, color="0.85", lw=0)
    axis.loglog(
        horizon,
        improvement_bounds.paper_constant(gammas, one),
        looks.ORANGE,
        label="printed, times expected KL",
    )
    axis.loglog(
        horizon,
        improvement_bounds.expected_kl_constant(gammas, one),
        looks.GREEN,
        label="ours, times expected KL",
    )
    trpo = improvement_bounds.trpo_constant(gammas, one)
    axis.loglog(horizon, trpo, looks.BLUE, ls="--", label="TRPO, times largest KL")
    cpo = 2.0 * gammas * horizon
    axis.loglog(horizon, cpo, looks.VERMILLION, ls="-.", label="CPO, times expected TV")
    axis.loglog(horizon, best, "k", label="needed by the worst chains")
    axis.axvline(2.0, color="0.4", ls=":", lw=1)
    axis.text(2.1, 0.25, r"printed for $\gamma\geq 1/2$", fontsize=8, color="0.3")
    axis.set(xlim=(float(horizon[0]), 100), ylim=(0.2, 1e6))
    axis.set_xticks([1 / (1 - gamma) for gamma in GAMMAS], [f"{gamma:g}" for gamma in GAMMAS])
    axis.minorticks_off()
    axis.set(xlabel=r"discount $\gamma$, placed at $1/(1-\gamma)$", ylabel=r"$C/\epsilon$")
    axis.set_title(r"$C$ in $|J(\pi')-L| \leq C/(1-\gamma)\times$ divergence")
    axis.legend(loc="upper left")
    return np.asarray(gammas), np.asarray(result)


def draw_tightness(axis, ratios):
    """Draw the median and range of bound / gap for every bound and discount."""
    for shift, (name, (label, color)) in enumerate(NAMES.items()):
        at = np.arange(len(GAMMAS)) + 0.14 * (shift - 2)
        low, middle, high = (1 / np.quantile(ratios[name], q, axis=1) for q in (0.9, 0.5, 0.1))
        error = np.stack([middle - low, high - middle])
        axis.errorbar(
            at, middle, error, fmt=MARKERS[color], ms=3.5, color=color, lw=1.2, label=label
        )
        axis.plot(at, 1 / ratios[name].max(axis=1), "_", color=color, ms=7)
    axis.axhline(1.0, color="k", lw=0.8)
    axis.set_yscale("log")
    axis.set_xticks(np.arange(len(GAMMAS)), [f"{gamma:g}" for gamma in GAMMAS])
    axis.set(xlabel=r"discount $\gamma$", ylabel="bound / gap", ylim=(0.5, 1e10))
    axis.set_title(f"{NUM:,} random MDPs: median, middle 80%, tightest (dash)")
    axis.legend(loc="upper left")


def report(ratios):
    """Print the numbers of the right panel."""
    print("largest gap/bound; median bound/gap in brackets")
    print("gamma  " + "".join(f"{name:>22}" for name in NAMES))
    for i, gamma in enumerate(GAMMAS):
        cells = [f"{r[i].max():.2e} [{1 / np.median(r[i]):.2e}]" for r in ratios.values()]
        smaller = {
            name: np.mean(ratios["ours"][i] > ratios[name][i]) for name in ("trpo", "paper", "cpo")
        }
        smaller["printed below trpo"] = np.mean(ratios["paper"][i] > ratios["trpo"][i])
        shares = ", ".join(f"{name} {share:.1%}" for name, share in smaller.items())
        print(
            f"{gamma:<7}" + "".join(f"{cell:>22}" for cell in cells) + f"  ours smaller: {shares}"
        )


def main():
    """Compute, print, draw."""
    jax.config.update("jax_enable_x64", True)
    keys = jax.random.split(jax.random.key(0), NUM)
    each = jax.jit(jax.vmap(tightness, (None, 0)))
    result = [each(jnp.asarray(gamma), keys) for gamma in GAMMAS]
    ratios = {name: np.stack([np.asarray(row[name]) for row in result]) for name in NAMES}
    figure, (left, right) = new_figure(2, width=4.8, height=3.6)
    gammas, sharpest = draw_constants(left)
    draw_tightness(right, ratios)
    report(ratios)
    print("worst chains, constant times (1 - gamma) / eps (ours: 1.7811):")
    print(", ".join(f"{g:g}: {np.interp(g, gammas, sharpest):.4f}" for g in GAMMAS))
    save(figure, "bounds")


if __name__ == "__main__":
    main()
