"""Draw where the printed expected-KL bound is false: the counterexample and the worst chains known.

    make theory-counterexample

Left: the distance of J(pi') from the surrogate, divided by the printed bound, on the eight-state
MDP and on chains optimised for each discount. Right: the two sides of the bound on the MDP.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory.bounds import improvement_bounds, sharp
from jaxrl_pg.theory.bounds.counterexample import expected_kl_counterexample

TABLE = (0.3, 0.4, 0.5, 0.505, 0.51, 0.6, 0.7, 0.9)


def sides(gamma):
    """Return the gap, the printed bound and ours on the eight-state counterexample."""
    comparison = improvement_bounds.compare(*expected_kl_counterexample(gamma))
    printed, ours = (
        improvement_bounds.paper_bound(comparison),
        improvement_bounds.expected_kl_bound(comparison),
    )
    return printed.gap, printed.bound, ours.bound


def optimised(gamma):
    """Return the same quotient on the worst chain that is found for this discount."""
    return sharp.sharp_ratio(gamma).ratio * (1.0 - gamma) ** 2 / gamma**2


def last_failure(gammas, ratios):
    """Return the discount where a falling quotient passes one, by linear interpolation."""
    return float(np.interp(0.0, -np.log(ratios), gammas))


def draw(gammas, eight, chains, gap, printed, ours):
    """Draw both panels."""
    figure, (left, right) = new_figure(2, width=4.6, height=3.4)
    end = last_failure(gammas, chains)
    left.axvspan(0.5, end, color=looks.VERMILLION, alpha=0.25, lw=0)
    left.plot(gammas, chains, looks.VERMILLION, label="chains of 48 states, optimised")
    left.plot(gammas, eight, looks.BLUE, label="eight-state counterexample")
    left.axhline(1.0, color="k", lw=0.8)
    left.text(0.395, 1.04, "above: bound false", fontsize=8)
    left.annotate(
        f"false within the stated\nrange: 0.5 to {end:.3f}",
        *((end, 1.2), (0.545, 1.35)),
        arrowprops={"arrowstyle": "->", "color": looks.VERMILLION},
        fontsize=8,
    )
    left.axvline(0.5, color="0.4", ls=":", lw=1)
    left.text(0.498, 0.3, "stated from here", rotation=90, ha="right", fontsize=8, color="0.4")
    left.set(xlim=(0.39, 0.65), ylim=(0.25, 2.3), xlabel=r"discount $\gamma$")
    left.set(ylabel=r"$|J(\pi')-L|$ / printed bound", title="The printed bound fails near 1/2")
    left.legend(loc="upper right")
    right.semilogy(gammas, gap, "k", label=r"$|J(\pi')-L|$")
    right.semilogy(
        gammas, printed, looks.ORANGE, label=r"printed, $C=\gamma^2\epsilon/(1-\gamma)^3$"
    )
    right.semilogy(gammas, ours, looks.GREEN, label=r"proved, $C=1.78\epsilon/(1-\gamma)$")
    right.axvspan(gammas[0], last_failure(gammas, eight), color=looks.BLUE, alpha=0.12, lw=0)
    right.text(0.31, 1e1, "printed bound\nbelow the gap", fontsize=8, color=looks.BLUE)
    right.set(xlim=(gammas[0], gammas[-1]), xlabel=r"discount $\gamma$")
    right.set(title="Both sides on the eight-state MDP", ylabel="value")
    right.legend(loc="lower right")
    save(figure, "counterexample")


def main():
    """Compute, print, draw."""
    jax.config.update("jax_enable_x64", True)
    gammas = np.unique(np.append(np.linspace(0.3, 0.95, 131), np.linspace(0.49, 0.53, 81)))
    gap, printed, ours = map(np.asarray, jax.jit(jax.vmap(sides))(jnp.asarray(gammas)))
    chains = np.asarray(jax.jit(jax.vmap(optimised))(jnp.asarray(gammas)))
    eight = gap / printed
    print("gamma  gap           printed       ours          gap/printed  optimised chain")
    for gamma in TABLE:
        i = np.argmin(np.abs(gammas - gamma))
        row = f"{gap[i]:.6e}  {printed[i]:.6e}  {ours[i]:.6e}"
        print(f"{gamma:<5}  {row}  {eight[i]:11.4f}  {chains[i]:11.4f}")
    print(f"the eight-state MDP fails below {last_failure(gammas, eight):.4f}")
    print(f"the optimised chains fail below {last_failure(gammas, chains):.4f}")
    draw(gammas, eight, chains, gap, printed, ours)


if __name__ == "__main__":
    main()
