"""Draw the optimism of inference and its variational remedy (`make theory-optimism`).

A safe action costs 1. A risky one costs nothing with probability q and otherwise 10, so that it
is worth taking only for q > 0.9. Messages (control as inference) value it at
log(q + (1 - q) e^-10), as if the agent could ask for good luck; soft value iteration, which keeps
the true dynamics, at -10 (1 - q). The last panel is for random MDPs whose dynamics go from
deterministic to random: what acting on either posterior loses of the best expected reward.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.soft import inference

SAFE, RISKY = 0, 1
BLUE, ORANGE, BLACK = looks.BLUE, looks.ORANGE, "black"
NUM, STATES, ACTIONS, HORIZON, TEMPERATURE = 1000, 8, 3, 5, 0.2


def gamble(luck):
    """Return the gamble: start, won, lost, safe; the second step pays an outcome's cost."""
    transition = jnp.zeros((4, 2, 4)).at[0, SAFE, 3].set(1.0)
    transition = transition.at[0, RISKY, 1].set(luck).at[0, RISKY, 2].set(1.0 - luck)
    for state in (1, 2, 3):
        transition = transition.at[state, :, state].set(1.0)
    reward = jnp.tile(jnp.array([0.0, 0.0, -10.0, -1.0])[:, None], (1, 2))
    return mdps.MDP(transition, reward, jnp.eye(4)[0], jnp.ones(()))


def play(luck):
    """Return the value and probability of the risky action and the reward, of three policies."""
    mdp = gamble(luck)
    _, q = solve.finite_horizon_optimal(mdp, 2)
    greedy = jax.vmap(mdps.greedy_policy)(q)
    exact, closest = inference.backward_messages(mdp, 2), inference.variational(mdp, 2)
    rows = []
    for q_values, policy in ((exact.q, exact.policy), (closest.q, closest.policy), (q, greedy)):
        earned = solve.finite_horizon_evaluate(mdp, policy)[0][0, 0]
        rows.append(jnp.stack([q_values[0, 0, RISKY], policy[0, 0, RISKY], earned]))
    return jnp.stack(rows)


def random_dynamics():
    """Draw deterministic and random dynamics to mix, and rewards."""
    rng = np.random.default_rng(0)
    certain = np.eye(STATES)[rng.integers(STATES, size=(NUM, STATES, ACTIONS))]
    random = rng.dirichlet(np.full(STATES, 0.3), (NUM, STATES, ACTIONS))
    reward = rng.normal(size=(NUM, STATES, ACTIONS))
    return jax.tree.map(jnp.asarray, (certain, random, reward))


def losses(certain, random, reward, share):
    """Return rewards lost by inference and the variational policy, and evidence minus bound."""
    transition = (1.0 - share) * certain + share * random
    mdp = mdps.MDP(transition, reward, jnp.eye(STATES)[0], jnp.ones(()))
    exact = inference.backward_messages(mdp, HORIZON, None, TEMPERATURE)
    closest = inference.variational(mdp, HORIZON, None, TEMPERATURE)
    best = solve.finite_horizon_optimal(mdp, HORIZON)[0][0, 0]
    earned = [solve.finite_horizon_evaluate(mdp, x.policy)[0][0, 0] for x in (exact, closest)]
    return jnp.stack([best - earned[0], best - earned[1], exact.log_evidence - closest.elbo])


def draw(axes, lucks, plays, shares, lost):
    """Draw three panels of the gamble and one of random MDPs."""
    names = ["inference (messages)", "variational (true dynamics)", "optimal (no entropy)"]
    looks = [(ORANGE, "-"), (BLUE, "-"), (BLACK, ":")]
    titles = ["Inference hopes for the best", "So it gambles", "and loses reward"]
    labels = ["Q of the risky action", "probability of the risky action", "expected reward"]
    for panel, axis in enumerate(axes[:3]):
        for row, (name, (color, dash)) in enumerate(zip(names, looks, strict=True)):
            axis.plot(lucks, plays[:, row, panel], color=color, ls=dash, label=name, lw=1.8)
        axis.axvline(0.9, color="grey", lw=0.8, alpha=0.6)
        axis.set(title=titles[panel], ylabel=labels[panel], xlabel="probability q of good luck")
    axes[0].axhline(-1.0, color="grey", lw=0.8, ls="--")
    axes[0].text(
        0.55, -1.1, "Q of the safe action", color="grey", fontsize=8, va="top", ha="center"
    )
    axes[0].legend(loc="lower right")
    for column, (name, color) in enumerate(zip(names[:2], (ORANGE, BLUE), strict=True)):
        low, middle, high = np.quantile(lost[:, :, column], [0.25, 0.5, 0.75], axis=1)
        axes[3].plot(shares, middle, color=color, label=name, lw=1.8)
        axes[3].fill_between(shares, low, high, color=color, alpha=0.2, lw=0)
    axes[3].set(
        title=f"{NUM:,} random MDPs: luck misleads inference",
        xlabel=f"randomness of the dynamics ({HORIZON} steps, temperature {TEMPERATURE})",
        ylabel="reward lost (median, quartiles)",
        ylim=(0.0, None),
    )
    axes[3].legend(loc="upper right")


def main():
    """Compute, draw, print."""
    jax.config.update("jax_enable_x64", True)
    lucks = jnp.linspace(0.0, 1.0, 1001)
    plays = np.asarray(jax.jit(jax.vmap(play))(lucks))
    shares = jnp.linspace(0.0, 1.0, 21)
    over_mdps = jax.vmap(losses, (0, 0, 0, None))
    lost = np.asarray(
        jax.jit(jax.vmap(over_mdps, (None, None, None, 0)))(*random_dynamics(), shares)
    )
    figure, axes = new_figure(2, 2)
    draw(axes, lucks, plays, shares, lost)
    save(figure, "optimism")
    print("   q | Q inference variational | p(risky) inf. var.   | reward inf. var. optimal")
    for luck in (10, 100, 300, 500, 900, 950):
        (q, p, r), (q_v, p_v, r_v), (_, _, best) = plays[luck]
        row = f"{q:11.6f} {q_v:11.6f} | {p:8.6f} {p_v:.3e} | {r:9.4f} {r_v:8.4f} {best:7.4f}"
        print(f"{lucks[luck]:4.2f} | {row}")
    print("randomness | medians: reward lost by inference, by variational; evidence - bound (nats)")
    for i in (0, 5, 10, 20):
        print(f"{shares[i]:10.2f} | " + " ".join(f"{x:8.4f}" for x in np.median(lost[i], axis=0)))


if __name__ == "__main__":
    main()
