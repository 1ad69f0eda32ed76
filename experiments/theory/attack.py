"""Attack the bound by the expected divergence, whose constant is alpha = exp(0.5772) = 1.7811.

    make theory-attack

The quotient is |J(pi') - L| (1 - gamma)^2 / (eps E_d KL); the bound says that it is at most alpha.
Left: its largest value by discount, on chains of bets, optimised (with any chances, and with even
ones, which were once thought the worst), in the closed family that tends to alpha, and found by
gradient ascent over whole MDPs and both policies. Right: all ends of those ascents, from random
starts and from the neighbourhood of a chain of seven states. The ends are the rows of
docs/theory/attack.csv.
"""

import csv
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from figures import FOLDER, new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory.bounds import counterexample, improvement_bounds, sharp
from jaxrl_pg.theory.bounds.improvement_bounds import EXP_EULER
from jaxrl_pg.theory.mdp import MDP

GAMMAS = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
STATES, ACTIONS, STARTS, STEPS = 8, 2, 100, 3000
COLORS = {"random": looks.BLUE, "chain": looks.ORANGE}


def quotient(gamma, parameters):
    """Return the logarithm of the quotient on the MDP and policies that the parameters make."""
    moves, reward, start, old, new = parameters
    mdp = MDP(jax.nn.softmax(moves), jnp.tanh(reward), jax.nn.softmax(start), gamma)
    c = improvement_bounds.compare(mdp, jax.nn.softmax(old), jax.nn.softmax(new))
    sides = improvement_bounds.expected_kl_bound(c)
    return jnp.log(EXP_EULER * sides.gap + 1e-15) - jnp.log(sides.bound + 1e-15)


def ascend(value, start):
    """Climb by Adam with a falling step size, and return the largest value on the way."""

    def step(carry, i):
        x, mean, square, best = carry
        now, slope = jax.value_and_grad(value)(x)
        slope = jax.tree.map(jnp.nan_to_num, slope)
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
        square = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g**2, square, slope)
        rate = 0.05 * (1.0 + jnp.cos(jnp.pi * i / STEPS))
        x = jax.tree.map(lambda x, m, v: x + rate * m / (jnp.sqrt(v) + 1e-30), x, mean, square)
        return (x, mean, square, jnp.fmax(best, now)), None

    zeros = jax.tree.map(jnp.zeros_like, start)
    carry = (start, zeros, zeros, jnp.asarray(-jnp.inf))
    return jax.lax.scan(step, carry, jnp.arange(STEPS))[0][3]


def random_starts(key):
    """Return parameters of MDPs and policies from a normal distribution, along the first axis."""
    sizes = [(STATES, ACTIONS, STATES), (STATES, ACTIONS), (STATES,), *[(STATES, ACTIONS)] * 2]
    keys = jax.random.split(key, len(sizes))
    return [jax.random.normal(k, (STARTS, *size)) for k, size in zip(keys, sizes, strict=True)]


def chain_starts(gamma, key):
    """Return parameters near the best chain of `STATES - 1` states, along the first axis."""
    best = sharp.sharp_ratio(gamma, STATES - 1)
    mdp, old, new = counterexample.chain(gamma, best.lean, best.chance)
    exact = [mdp.transition, mdp.reward, mdp.start, old, new]
    exact = [jnp.log(x + 1e-3) if i != 1 else jnp.arctanh(0.99 * x) for i, x in enumerate(exact)]
    return jax.tree.map(lambda x, noise: x[None] + 0.5 * noise, exact, random_starts(key))


def attack():
    """Return the ends of all climbs, `{kind: [len(GAMMAS), STARTS]}`."""
    run = jax.jit(
        jax.vmap(lambda gamma, x: jnp.exp(ascend(partial(quotient, gamma), x)), (None, 0))
    )
    ends = {"random": [], "chain": []}
    for i, gamma in enumerate(GAMMAS):
        keys = jax.random.split(jax.random.key(i))
        ends["random"].append(run(gamma, random_starts(keys[0])))
        ends["chain"].append(run(gamma, jax.jit(chain_starts)(jnp.asarray(gamma), keys[1])))
    return {kind: np.stack(values) for kind, values in ends.items()}


def write(ends):
    """Write every end as a row."""
    with (FOLDER / "attack.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["gamma", "start", "seed", "quotient"])
        for kind, values in ends.items():
            for gamma, row in zip(GAMMAS, values, strict=True):
                rows.writerows((gamma, kind, i, f"{x:.6f}") for i, x in enumerate(row))


def even_chains(gamma):
    """Return the largest quotient of chains with even chances."""

    def value(logits):
        lean = jax.nn.sigmoid(logits).at[-1].set(1.0)
        return jnp.log(sharp.chain_ratio(gamma, lean, jnp.full_like(lean, 0.5)))

    start = jnp.log(jnp.expm1(2.0 * jnp.exp(-0.5 * jnp.arange(64.0)[::-1])))
    return jnp.exp(ascend(value, start))


def best_rising(gamma):
    """Return the largest quotient of the closed family at a discount."""
    cases = [
        (p, u, n) for p in (0.05, 0.1, 0.2, 0.4) for u in (0.01, 0.05, 0.2) for n in (8, 20, 60)
    ]
    cases += [(0.01, 0.01, 1000), (0.02, 0.02, 400), (0.05, 0.02, 180)]
    return jnp.max(jnp.stack([sharp.chain_ratio(gamma, *sharp.rising_chain(*c)) for c in cases]))


def draw(chains, horizon, ends):
    """Draw both panels."""
    figure, (left, right) = new_figure(2, width=4.8, height=3.6)
    far = np.logspace(np.log10(1.3), 6, 60)
    rising = jax.jit(jax.vmap(best_rising))(jnp.asarray(1.0 - 1.0 / far))
    left.axhline(EXP_EULER, color=looks.GREEN, label=r"proved: $e^{0.5772} = 1.7811$")
    left.axhline(np.sqrt(2), color="0.5", ls=":", label=r"$\sqrt{2}$, the limit of even chances")
    left.semilogx(horizon, chains, "k", label="best chains")
    left.semilogx(far, rising, looks.VERMILLION, ls="--", label="closed family")
    for kind, color in COLORS.items():
        at = [1.0 / (1.0 - gamma) for gamma in GAMMAS]
        top = ends[kind].max(axis=1)
        left.semilogx(at, top, "o", color=color, ms=4, label=f"ascent, {kind} start")
    left.set(ylim=(0.4, 1.9), xlabel=r"$1/(1-\gamma)$", title="The largest quotient known")
    left.set(ylabel=r"$|J(\pi')-L|\,(1-\gamma)^2/(\epsilon\,E_d\mathrm{KL})$")
    left.legend(loc="lower right")
    for shift, (kind, color) in zip((-0.15, 0.15), COLORS.items(), strict=True):
        for i, row in enumerate(ends[kind]):
            spread = np.linspace(-0.1, 0.1, STARTS)
            right.plot(i + shift + spread, np.sort(row), ".", color=color, ms=2)
    right.axhline(EXP_EULER, color=looks.GREEN)
    right.set_xticks(range(len(GAMMAS)), [f"{gamma:g}" for gamma in GAMMAS])
    right.set(ylim=(0.0, 1.9), xlabel=r"discount $\gamma$", ylabel="quotient at the end")
    right.set_title(f"{STARTS} ascents each, {STATES} states, {ACTIONS} actions")
    for kind, color in COLORS.items():
        right.plot([], [], ".", color=color, label=f"{kind} start")
    right.legend(loc="lower right")
    save(figure, "attack")


def main():
    """Compute, print, draw."""
    jax.config.update("jax_enable_x64", True)
    ends = attack()
    write(ends)
    small = jax.jit(jax.vmap(lambda gamma: sharp.sharp_ratio(gamma, STATES - 1)))
    seven = np.asarray(small(jnp.asarray(GAMMAS)).ratio)
    print("gamma  chain of seven  ascent from: random (median)      chain (median)")
    for i, gamma in enumerate(GAMMAS):
        found = [f"{x[i].max():.4f} ({np.median(x[i]):.4f})" for x in ends.values()]
        print(f"{gamma:<5}  {seven[i]:14.4f}  {found[0]:>28}  {found[1]:>18}")
    horizon = np.logspace(np.log10(1.3), 3, 40)
    gammas = jnp.asarray(np.append(1.0 - 1.0 / horizon, GAMMAS))
    best = jax.jit(jax.vmap(lambda gamma: sharp.sharp_ratio(gamma, 64, 3000)))(gammas)
    even = jax.jit(jax.vmap(even_chains))(gammas)
    print("gamma, best chain, with even chances:")
    for gamma, *pair in zip(gammas[40:], best.ratio[40:], even[40:], strict=True):
        print(f"{gamma:<5.3g}  " + "  ".join(f"{float(x):.4f}" for x in pair))
    for far in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):
        print(f"closed family at gamma = 1 - {far:g}: {float(best_rising(1.0 - far)):.4f}")
    draw(best.ratio[:40], horizon, ends)


if __name__ == "__main__":
    main()
