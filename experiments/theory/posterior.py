"""Draw the posterior over trajectories: a monkey that is optimal, more or less.

`make theory-posterior`. What is seen: of a monkey that walks to a banana in a world without
chance, the posterior has the shortest way as the most probable one, and every further step makes a
way exp(1 / temperature) times less probable; the policy that inference gives has these very
trajectories. Where the monkey may slip into a pit, the posterior is that of a monkey that did not
slip: it promises a dry walk over the ridge. Its policy, in the world, walks there too, and falls;
the variational policy, which has to live with the slips as they come, takes the way round.
"""

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory import mdp as mdps
from jaxrl_pg.theory.soft import inference, posterior

jax.config.update("jax_enable_x64", True)

BLUE, ORANGE, GREEN, BLACK = looks.BLUE, looks.ORANGE, looks.GREEN, "black"
FIELD = ("......", "S.##..", "..##..", ".....G")
RIDGE = ("......", ".####.", "S....G", "#HHHH#")
STEPS, SHORT, COLD, HOT, SLIP = 40, 13, 0.3, 1.0, 0.2
WALKS, SAMPLES = 12, 20_000


def world(rows, slip):
    """Return a gridworld in which every step costs 1 that does not begin at the banana."""
    walk = builders.grid(rows, 0.0, slip)
    banana = np.array([tile == "G" for tile in "".join(rows)])
    reward = jnp.where(banana[:, None], 0.0, -1.0) * jnp.ones((1, 4))
    return mdps.MDP(walk.transition, reward, walk.start, jnp.ones(()))


def laws(mdp, steps, temperature):
    """Return the laws of the posterior, of its policy in the world, and of the variational one."""
    messages = inference.backward_messages(mdp, steps, None, temperature)
    closest = inference.variational(mdp, steps, None, temperature)
    return (
        posterior.posterior(mdp, messages, temperature),
        posterior.law_of_policy(mdp, messages.policy),
        posterior.law_of_policy(mdp, closest.policy),
    )


def fates(slip):
    """Return reward, and the chances of a pit and of the banana at the end, of laws and optimum."""
    mdp = world(RIDGE, slip)
    _, q = solve.finite_horizon_optimal(mdp, STEPS)
    greedy = posterior.law_of_policy(mdp, jax.vmap(mdps.greedy_policy)(q))
    tiles = "".join(RIDGE)
    pit, banana = (jnp.array([tile == which for tile in tiles]) for which in "HG")
    rows = []
    for law in (*laws(mdp, STEPS, COLD), greedy):
        last = jnp.sum(posterior.visitation(law)[-1], axis=1)
        reward = posterior.expected_reward(law, mdp.reward)
        rows.append(jnp.stack([reward, last @ pit, last @ banana]))
    return jnp.stack(rows)


def draw_field(axis, rows):
    """Draw the walls, pits, the monkey's place and the banana."""
    colors = {"#": 0.35, "H": 0.75}
    shade = np.array([[colors.get(tile, 1.0) for tile in row] for row in rows])
    axis.imshow(shade, cmap="gray", vmin=0, vmax=1, zorder=0)
    for row, line in enumerate(rows):
        for column, tile in enumerate(line):
            name = {"S": "monkey", "G": "banana", "H": "pit"}.get(tile, "")
            axis.text(column, row - 0.38, name, ha="center", va="center", fontsize=6, zorder=3)
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def draw_walks(axis, law, mdp, rows, seed):
    """Draw sampled trajectories, each shifted a little so that they can be told apart."""
    paths = posterior.sample(law, mdp.reward, WALKS, jax.random.key(seed))
    row, column = np.divmod(np.asarray(paths.state), len(rows[0]))
    shift = np.random.default_rng(seed).uniform(-0.3, 0.3, (2, WALKS, 1))
    for i in range(WALKS):
        axis.plot(
            column[i] + shift[0, i], row[i] + shift[1, i], lw=1.2, alpha=0.75, zorder=2, gid="plain"
        )


def draw_falloff(axis):
    """Draw how the chance of one trajectory falls with what it costs, and print its slope."""
    mdp = world(FIELD, 0.0)
    for temperature, color in ((COLD, BLUE), (HOT, ORANGE)):
        inferred, acted, _ = laws(mdp, SHORT, temperature)
        paths = posterior.sample(acted, mdp.reward, SAMPLES, jax.random.key(2))
        total = np.asarray(paths.reward.sum(axis=1))
        chance = [np.asarray(posterior.log_probability(x, paths)) for x in (inferred, acted)]
        assert np.max(np.abs(chance[0] - chance[1])) < 1e-9
        costs, first = np.unique(total, return_index=True)
        axis.plot(costs, chance[0][first], "o-", color=color, label=f"temperature {temperature}")
        slope = np.diff(chance[0][first]) / np.diff(costs)
        share = np.mean(total == costs.max())
        print(
            f"temperature {temperature}: slope {slope.mean():.6f}, best ways {share:.3f} of walks"
        )
    axis.set(
        title="No chance: the posterior is a policy's",
        xlabel="reward of a walk",
        ylabel="log probability of one walk",
    )
    axis.legend()


def draw_visits(axis, law, rows, title):
    """Draw how often each tile is visited, and what is promised or paid."""
    often = np.asarray(jnp.sum(posterior.visitation(law), axis=(0, 2))).reshape(len(rows), -1)
    ever = np.minimum(often, 1.0)
    axis.imshow(ever, cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(ever):
        tile = {"H": "pit", "G": "banana", "S": "monkey", "#": "wall"}.get(rows[row][column], "")
        color = "w" if value > 0.6 else "k"
        text = f"{tile}\n{often[row, column]:.2f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title)
    axis.grid(False)


def main():
    """Draw, and print the numbers shown."""
    figure, axes = new_figure(2, 4)
    plain = world(FIELD, 0.0)
    for axis, temperature in zip(axes[:2], (COLD, HOT), strict=True):
        draw_field(axis, FIELD)
        draw_walks(axis, laws(plain, SHORT, temperature)[0], plain, FIELD, 1)
        axis.set_title(f"{WALKS} walks of the posterior, temperature {temperature}")
    draw_falloff(axes[2])
    slips = jnp.linspace(0.0, 0.5, 26)
    found = np.asarray(jax.jit(jax.vmap(fates))(slips))
    names = ["the posterior's promise", "its policy in the world", "variational policy", "optimum"]
    looks = [(ORANGE, "--"), (ORANGE, "-"), (BLUE, "-"), (BLACK, ":")]
    for panel, (axis, what) in enumerate(
        zip((axes[3], axes[7]), ("expected reward", "chance to end in a pit"), strict=True)
    ):
        for row, (name, (color, dash)) in enumerate(zip(names, looks, strict=True)):
            axis.plot(slips, found[:, row, panel], color=color, ls=dash, lw=1.8, label=name)
        axis.set(xlabel="probability of a slip", ylabel=what)
    axes[3].set_title("With chance: it hopes not to slip")
    axes[7].set_title("and falls")
    axes[3].legend()
    ridge = laws(world(RIDGE, SLIP), STEPS, COLD)
    titles = ["promised", "its policy in the world", "variational policy"]
    for axis, law, title in zip(axes[4:7], ridge, titles, strict=True):
        draw_visits(axis, law, RIDGE, f"slip {SLIP}: {title}")
        axis.set_xlabel("expected number of steps on each tile")
    save(figure, "posterior")
    print("slip | reward, pit, banana of: promise; its policy; variational; optimum")
    for slip in (0.0, 0.1, 0.2, 0.4):
        row = found[int(np.argmin(np.abs(np.asarray(slips) - slip)))]
        print(f"{slip:4.2f} | " + "; ".join(" ".join(f"{x:8.4f}" for x in part) for part in row))


if __name__ == "__main__":
    main()
