"""Draw reward-prediction errors in classical conditioning (`make theory-conditioning`).

What is seen: the error moves from the reward to the stimulus that predicts it, as a binomial wave
that goes back alpha steps a trial; a reward left out is a dip at its hour; extinction undoes the
prediction in the same order; and a stimulus that adds nothing to what is known is not learned.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory.learning import conditioning

jax.config.update("jax_enable_x64", True)

RATE = 0.2
ONSET, DELAY, NUM_TIMES, TRIALS = 5, 15, 26, 150
REWARD_AT = ONSET + DELAY
PROBES = (1, 25, 50, 75, 150)


def course(rewarded, num, weight=None):
    """Run `num` trials with one stimulus, with or without reward."""
    feature = conditioning.serial_compound(jnp.array([ONSET]), NUM_TIMES)
    reward = jnp.zeros(NUM_TIMES - 1).at[REWARD_AT - 1].set(rewarded)
    repeated = jnp.tile(feature[None], (num, 1, 1)), jnp.tile(reward[None], (num, 1))
    return conditioning.condition(*repeated, RATE, 1.0, weight)


def blocking():
    """Return V(A) and V(B) over trials: A+ then AB+, and AB+ alone."""
    first, second, results = 25, 25, []
    for taught in (1.0, 0.0):
        present = np.concatenate([np.tile([taught, 0.0], (first, 1)), np.ones((second, 2))])
        reward = np.concatenate([np.full((first, 1), taught), np.ones((second, 1))])
        feature = np.stack([present, np.zeros_like(present)], axis=1)
        result = conditioning.condition(jnp.asarray(feature), jnp.asarray(reward), RATE)
        results.append(np.concatenate([np.zeros((1, 2)), result.weight]))
    return first, results


def draw_heat(axis, error, title):
    """Draw the errors by time and trial, with the wave's mean path."""
    shown = axis.imshow(
        error,
        aspect="auto",
        origin="lower",
        cmap="RdBu_r",
        vmin=-0.6,
        vmax=0.6,
        extent=(0.5, NUM_TIMES - 0.5, 0.5, len(error) + 0.5),
        interpolation="nearest",
    )
    for time, name in ((ONSET, "cue"), (REWARD_AT, "reward")):
        axis.axvline(time, color="0.3", lw=0.7, ls=":")
        axis.annotate(name, (time, len(error)), ha="center", va="bottom", fontsize=8)
    trial = np.arange(0, DELAY / RATE)
    axis.plot(REWARD_AT - RATE * trial, trial + 1, "k--", lw=1, label=r"$\alpha$ steps a trial")
    axis.set(xlabel="time in the trial", ylabel="trial")
    axis.set_title(title, pad=14)
    axis.grid(False)
    axis.legend(loc="upper right")
    return shown


def draw_traces(axis, taught, omitted):
    """Draw the error within a trial, at some stages."""
    times = np.arange(1, NUM_TIMES)
    rows = [(f"trial {n}", taught.error[n - 1]) for n in PROBES] + [("omitted", omitted.error[0])]
    for i, (name, row) in enumerate(rows):
        base = -1.6 * i
        axis.plot(
            times, np.asarray(row) + base, color=looks.VERMILLION if "om" in name else looks.BLUE
        )
        axis.axhline(base, color="0.8", lw=0.6, zorder=0)
        axis.text(NUM_TIMES - 0.5, base + 0.12, name, ha="right", fontsize=8)
    for time in (ONSET, REWARD_AT):
        axis.axvline(time, color="0.3", lw=0.7, ls=":")
    axis.set(xlabel="time in the trial", yticks=[])
    axis.set_title("From the reward to its cue; omission is a dip")
    axis.grid(False)


def main():
    """Draw, and print the numbers shown."""
    taught = course(1.0, TRIALS)
    learned = course(1.0, 400).weight[-1]
    omitted, lost = course(0.0, 1, learned), course(0.0, TRIALS, learned)
    first, (blocked, naive) = blocking()
    figure, axes = new_figure(2, 2, width=4.6, height=3.4)
    shown = draw_heat(axes[0], taught.error, "Acquisition: the error goes back to the cue")
    figure.colorbar(shown, ax=axes[0], label=r"error $\delta$")
    draw_traces(axes[1], taught, omitted)
    shown = draw_heat(axes[2], lost.error, "Extinction: disappointment goes the same way")
    figure.colorbar(shown, ax=axes[2], label=r"error $\delta$")
    trials = np.arange(len(blocked))
    axes[3].plot(trials, blocked[:, 0], label="A, taught alone first")
    axes[3].plot(trials, blocked[:, 1], label="B, added to A: blocked")
    axes[3].plot(trials, naive[:, 1], "--", color="0.4", label="B, with an untaught A")
    axes[3].axvline(first, color="0.3", lw=0.7, ls=":")
    axes[3].set(xlabel="trial (A and B together from the dotted line)", ylabel="associative value")
    axes[3].set_title("Blocking: what is predicted teaches nothing")
    axes[3].legend(loc="center right", bbox_to_anchor=(1.0, 0.76))
    save(figure, "conditioning")
    print(f"{'trial':>6} {'error at cue':>13} {'at reward':>10} {'peak at time':>13}")
    for n in PROBES:
        row = np.asarray(taught.error[n - 1])
        print(f"{n:6d} {row[ONSET - 1]:13.4f} {row[REWARD_AT - 1]:10.4f} {row.argmax() + 1:13d}")
    print(f"omitted reward: error {omitted.error[0, REWARD_AT - 1]:.4f} at its time")
    print(f"blocking: V(B) = {blocked[-1, 1]:.4f}, without the first phase {naive[-1, 1]:.4f}")


if __name__ == "__main__":
    main()
