"""Draw SARSA, expected SARSA and Q-learning on the cliff, with the exact solutions.

`make theory-td_control`. What is seen: while all of them explore, Q-learning learns the best path,
which runs along the edge, and keeps falling off it; the others learn the path that is best for
someone who errs one step in ten. Greedy, Q-learning's tables are the optimum. Nothing in the
world is random, so that in time Q-learning is surprised by nothing, its falls included; SARSA
goes on being surprised by its own next action.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory import solve
from jaxrl_pg.theory.builders import cliff_walk
from jaxrl_pg.theory.learning import td_control
from jaxrl_pg.theory.learning.td import Settings

jax.config.update("jax_enable_x64", True)

SEEDS, RECORDS, STEPS = 100, 40, 1_000
EPSILON, RATE, GAMMA = 0.1, 0.25, 0.99
START, GOAL, SHAPE = 36, 47, (4, 12)
LEGEND = f"percent of {SEEDS} seeds' greedy paths; start left, goal right"
BACKUPS = {
    "SARSA": (td_control.sarsa, looks.BLUE),
    "expected SARSA": (td_control.expected_sarsa, looks.GREEN),
    "Q-learning": (td_control.q_learning, looks.VERMILLION),
}


def learn(backup):
    """Run all seeds with one backup."""
    settings = Settings(RATE, epsilon=EPSILON, max_steps=1_000)
    run = partial(td_control.control, cliff_walk(GAMMA), backup, settings)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    return jax.jit(jax.vmap(partial(run, records=RECORDS, steps=STEPS)))(keys)


def erring(problem):
    """Return the MDP in which every action is replaced by a random one with probability epsilon."""
    mean = problem.transition.mean(axis=1, keepdims=True)
    reward = (1 - EPSILON) * problem.reward + EPSILON * problem.reward.mean(1, keepdims=True)
    return problem._replace(
        transition=(1 - EPSILON) * problem.transition + EPSILON * mean, reward=reward
    )


def exact():
    """Return undiscounted returns, exploring, of the optimum and of the best exploring policy."""
    problem = cliff_walk(GAMMA)
    world = erring(problem)
    undiscounted = world._replace(gamma=jnp.ones_like(world.gamma))
    result = {}
    for name, known in (("edge", problem), ("safe", world)):
        best = solve.policy_iteration(known)
        steps = jnp.broadcast_to(best.policy[None], (3_000, *best.policy.shape))
        paid = solve.finite_horizon_evaluate(undiscounted, steps)[0][0, START]
        result[name] = float(paid)
    return result


def greedy_values(estimate):
    """Return the exact J of the greedy policies of `[..., S, A]` tables."""
    problem = cliff_walk(GAMMA)
    flat = estimate.reshape(-1, *estimate.shape[-2:])
    value = jax.jit(jax.vmap(lambda q: solve.objective(problem, mdps.greedy_policy(q))))(flat)
    return value.reshape(estimate.shape[:-2])


def crossings(estimate):
    """Return the share of seeds whose greedy path crosses each tile."""
    successor = np.asarray(cliff_walk(GAMMA).transition).argmax(axis=2)
    counts = np.zeros(48)
    for q in np.asarray(estimate):
        state, seen = START, {START}
        for _ in range(100):
            state = int(successor[state, q[state].argmax()])
            seen.add(state)
        counts[list(seen)] += 1
    return (counts / len(estimate)).reshape(SHAPE)


def draw_map(axis, share, name):
    """Draw the tiles, the cliff, and how often each tile is on the greedy path."""
    shown = np.ma.masked_array(share, np.zeros(SHAPE, bool))
    shown.mask[3, 1:11] = True
    axis.set_facecolor("0.25")
    axis.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(shown):
        if value is not np.ma.masked and value > 0.005:
            color = "w" if value > 0.5 else "k"
            axis.text(
                column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color=color
            )
    axis.text(5.5, 3, "the cliff", color="w", ha="center", va="center", fontsize=8)
    axis.set(
        xticks=[],
        yticks=[],
        xlabel=LEGEND,
    )
    axis.set_title(f"{name}: where it would walk")
    axis.grid(False)


def band(axis, time, rows, color, label):
    """Draw the median over seeds with the middle half."""
    low, middle, high = np.nanquantile(rows, (0.25, 0.5, 0.75), axis=0)
    axis.plot(time, middle, color=color, label=label)
    axis.fill_between(time, low, high, color=color, alpha=0.2, lw=0)


def main():
    """Draw, and print the numbers shown."""
    limits, time = exact(), STEPS * np.arange(1, RECORDS + 1) / 1_000
    figure, places = new_figure(2, 3, width=4.6, height=3.0)
    axes = places[::2] + places[1::2]  # curves to the left, maps to the right
    print(f"{'':16} {'online return':>14} {'greedy J':>10} {'rms TD error':>17}")
    for i, (name, (backup, color)) in enumerate(BACKUPS.items()):
        course = learn(backup)
        estimate = course.tables.estimate
        greedy = np.asarray(greedy_values(estimate))
        error = np.sqrt(np.mean(np.square(course.error), axis=2))
        band(axes[0], time, course.return_mean, color, name)
        band(axes[1], time, greedy, color, name)
        band(axes[2], time, np.maximum(error, 1e-15), color, name)
        draw_map(axes[3 + i], crossings(estimate[:, -1]), name)
        half = np.nanmean(course.return_mean[:, RECORDS // 2 :])
        last = np.median(greedy[:, -1]), np.median(error[:, -1])
        print(f"{name:16} {half:14.2f} {last[0]:10.3f} {last[1]:17.2e}")
    names = {"safe": "best for who explores", "edge": "an optimum that explores"}
    for key, style in (("safe", "--"), ("edge", ":")):
        paid = limits[key]
        axes[0].axhline(paid, color="k", ls=style, lw=1, label=f"exact: {names[key]}")
        print(f"exact, epsilon {EPSILON}: {names[key]} {paid:.3f}")
    best = float(solve.policy_iteration(cliff_walk(GAMMA)).value[START])
    axes[1].axhline(best, color="k", ls=":", lw=1, label="exact optimum")
    print(f"exact J of the optimum {best:.3f}")
    axes[0].set(ylim=(-110, -10), xlabel="steps (thousands)", ylabel="return of an episode")
    axes[0].set_title("Exploring: the safe path pays")
    axes[1].set(ylim=(-30, -10), xlabel="steps (thousands)", ylabel=r"exact $J$, $\gamma = 0.99$")
    axes[1].set_title("Greedy: the edge pays")
    axes[2].set(yscale="log", xlabel="steps (thousands)", ylabel="root mean square TD error")
    axes[2].set_title("Q-learning falls, and is not surprised")
    for axis in axes[:3]:
        axis.legend(fontsize=7)
    save(figure, "td_control")


if __name__ == "__main__":
    main()
