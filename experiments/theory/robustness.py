"""Draw what a policy earns when the way for which it was planned is closed afterwards.

`make theory-robustness`. What is seen: the best policy goes through the gate, and if the gate is
closed it stands there for ever. A soft-optimal policy loses a little where nothing has changed and
finds the way round where it has: from some chance of a closed gate on it is the better plan, at a
temperature that grows with that chance. Nothing in this is peculiar to entropy: uniform noise does
as well, and better where it is to cost little. What only the soft-optimal policy does is to be the
best plan against an adversary that changes the rewards, within what a temperature allows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import robustness, soft_values

jax.config.update("jax_enable_x64", True)

BLUE, ORANGE, BLACK = looks.BLUE, looks.ORANGE, "black"
OPEN = ("....#....", "S........", "....#....", "....#...G", ".........")
CLOSED = ("....#....", "S...#....", "....#....", "....#...G", ".........")
GAMMA, SHOWN = 0.97, 0.05
TEMPERATURES = np.geomspace(0.003, 1.0, 81)
NOISES = np.linspace(0.0, 1.0, 81)
CHANCES = (0.0, 0.1, 0.25, 0.5, 0.75)
NUM_ACTIONS = 4


def worlds():
    """Return the open world and the closed one, along the first axis."""
    both = [builders.grid(rows, GAMMA) for rows in (OPEN, CLOSED)]
    return jax.tree.map(lambda *x: jnp.stack(x), *both)


def plans():
    """Return what policies planned for the open world earn in both, `[..., 2]`.

    Returns:
        the hard-optimal one (with ties shared), the soft-optimal ones, and the hard-optimal one
        with uniform noise; then the optima that know the gate, and the worst cases of the first
        two.
    """
    both = worlds()
    first = jax.tree.map(lambda x: x[0], both)
    value = solve.policy_iteration(first).value
    hard = solve.boltzmann(solve.q_values(first, value), 0.0)

    def earned(policy):
        return jax.vmap(solve.objective, (0, None))(both, policy)

    def soft(temperature):
        policy = soft_values.policy_iteration(first, temperature).policy
        worst = [robustness.worst_case(first, x, temperature) for x in (hard, policy)]
        return earned(policy), jnp.stack(worst)

    softs, worst = jax.lax.map(soft, jnp.asarray(TEMPERATURES))
    noisy = jax.lax.map(
        lambda share: earned((1 - share) * hard + share / NUM_ACTIONS), jnp.asarray(NOISES)
    )
    known = jax.vmap(lambda mdp: solve.policy_iteration(mdp).value @ mdp.start)(both)
    return earned(hard), softs, noisy, known, worst


def draw_visits(axis, rows, mdp, title):
    """Draw where the policy of one temperature goes in a world."""
    first = jax.tree.map(lambda x: x[0], worlds())
    policy = soft_values.policy_iteration(first, SHOWN).policy
    often = np.asarray(solve.visitation(mdp, policy)).reshape(len(rows), -1)
    axis.imshow(np.log10(np.maximum(often, 1e-6)), cmap="Blues", vmin=-4, vmax=0)
    for row, line in enumerate(rows):
        for column, tile in enumerate(line):
            color = "w" if often[row, column] > 0.1 else looks.INK
            place = {"ha": "center", "va": "center", "fontsize": 9, "color": color}
            axis.text(column, row, tile.strip("."), **place)
    axis.set(xticks=[], yticks=[], title=title)
    axis.grid(False)


def draw_returns(axes, hard, softs, known):
    """Draw returns against temperature, in each world and in the mean."""
    for which, (name, color) in enumerate((("open", BLUE), ("closed", ORANGE))):
        axes[0].semilogx(TEMPERATURES, softs[:, which], color=color, label=f"soft, gate {name}")
        axes[0].axhline(hard[which], color=color, ls="--", lw=1, label=f"hard, gate {name}")
    axes[0].set(xlabel="temperature of the plan", ylabel="J", title="Planned for the open gate")
    axes[0].set_ylim(-0.05, 1.05)
    axes[0].legend(loc="upper center", ncols=2)
    for chance, shade in zip(CHANCES, np.linspace(0.9, 0.2, len(CHANCES)), strict=True):
        mean = (1 - chance) * softs[:, 0] + chance * softs[:, 1]
        color = str(1 - shade)
        axes[1].semilogx(TEMPERATURES, mean, color=color, label=f"closed with chance {chance}")
        axes[1].plot(TEMPERATURES[mean.argmax()], mean.max(), "o", color=color)
        axes[1].plot(TEMPERATURES[0], (1 - chance) * hard[0] + chance * hard[1], "<", color=color)
    axes[1].set(xlabel="temperature of the plan", ylabel="expected J", title="The best temperature")
    axes[1].legend(fontsize=7)


def main():
    """Draw, and print the numbers shown."""
    hard, softs, noisy, known, worst = (np.asarray(x) for x in jax.jit(plans)())
    figure, axes = new_figure(2, 3, width=4.4, height=3.2)
    both = worlds()
    for which, (axis, rows, name) in enumerate(
        zip(axes[:2], (OPEN, CLOSED), ("open", "closed"), strict=True)
    ):
        mdp = jax.tree.map(lambda x, which=which: x[which], both)
        draw_visits(axis, rows, mdps.MDP(*mdp), f"temperature {SHOWN}, gate {name}")
    draw_returns(axes[2:4], hard, softs, known)
    axes[4].plot(softs[:, 0], softs[:, 1], color=BLUE, label="soft-optimal, every temperature")
    axes[4].plot(noisy[:, 0], noisy[:, 1], color=ORANGE, label="hard-optimal and uniform noise")
    axes[4].plot(*known, "*", color=BLACK, label="knows the gate")
    axes[4].set(xlabel="J, gate open", ylabel="J, gate closed", title="Uniform noise does as well")
    axes[4].legend()
    axes[5].semilogx(TEMPERATURES, worst[:, 1], color=BLUE, label="soft-optimal")
    axes[5].semilogx(TEMPERATURES, worst[:, 0], color=BLACK, ls=":", label="hard-optimal")
    axes[5].set(
        xlabel="temperature of plan and adversary",
        ylabel="J in the worst case",
        title="If an adversary changes the rewards",
        ylim=(-2.0, 1.0),
    )
    axes[5].legend()
    save(figure, "robustness")
    print(f"hard-optimal: open {hard[0]:.4f}, closed {hard[1]:.4f}; who knows: {known}")
    print("temperature | open, closed")
    for wanted in (0.01, 0.02, 0.05, 0.1, 0.3):
        i = int(np.argmin(np.abs(TEMPERATURES - wanted)))
        print(f"{TEMPERATURES[i]:11.4f} | {softs[i, 0]:.4f} {softs[i, 1]:.4f}")
    print("chance | hard; best temperature, its J; best noise, its J; who knows the gate")
    for chance in (0.1, 0.2, 0.25, 0.5, 0.75):
        mean, mixed = ((1 - chance) * x[:, 0] + chance * x[:, 1] for x in (softs, noisy))
        paid, knows = ((1 - chance) * x[0] + chance * x[1] for x in (hard, known))
        best = f"{TEMPERATURES[mean.argmax()]:.4f} {mean.max():.4f}"
        best_noise = f"{NOISES[mixed.argmax()]:.4f} {mixed.max():.4f}"
        print(f"{chance:6.2f} | {paid:.4f}; {best}; {best_noise}; {knows:.4f}")
    gains = hard[0] - softs[:, 0], softs[:, 1] - hard[1]
    least = np.min((gains[0] / (gains[0] + gains[1]))[TEMPERATURES > 0.01])
    print(f"some temperature above .01 is better than none from a chance of {least:.3f} on")
    i = int(np.argmin(np.abs(TEMPERATURES - 0.3)))
    print(f"worst cases at {TEMPERATURES[i]:.3f}: hard {worst[i, 0]:.4f}, soft {worst[i, 1]:.4f}")


if __name__ == "__main__":
    main()
