"""Draw agents that share a reward: improving in turn never lowers J, all at once can.

First: the two-agent game [[0, 1], [1, -2]] after one update of both, against C. Second: the same
update again and again. Third: a crowd of n agents rewarded by -(k - n/2 - 2)^2 for k acting, after
one update with the paper's constant at gamma 0.5. `make theory-multi_agent`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.bounds.improvement_bounds import paper_constant
from jaxrl_pg.theory.updates import constants, multi_agent

jax.config.update("jax_enable_x64", True)

GAMMA = 0.5
TOGETHER, IN_TURN, BEFORE = looks.VERMILLION, looks.BLUE, "0.4"


def game():
    """Return the game, and two agents that act one time in ten."""
    problem = mdp.make(jnp.ones((1, 4, 1)), [[0.0, 1.0, 1.0, -2.0]], [1.0], GAMMA)
    return problem, jnp.log(jnp.tile(jnp.array([[0.9, 0.1]]), (2, 1, 1)))


def objective(problem, log_policies):
    """Return J of the agents' joint policy."""
    return solve.objective(problem, jnp.exp(multi_agent.joint_policy(log_policies)))


def both(problem, log_policies, constant):
    """Return the agents after an update at once, and after one in turn."""
    choose = constants.fixed(constant)
    together = multi_agent.simultaneous_update(problem, log_policies, choose)
    return together, multi_agent.sequential_sweep(problem, log_policies, choose)[0]


def draw_game(axis):
    """Draw J after one update against C; print where it falls."""
    problem, start = game()

    def after(constant):
        together, in_turn = both(problem, start, constant)
        return objective(problem, together), objective(problem, in_turn)

    scales = jnp.logspace(-1.5, 1, 101)
    together, in_turn = jax.jit(jax.vmap(after))(scales)
    before = float(objective(problem, start))
    losing = float(jnp.max(jnp.where(together < before, scales, 0.0)))
    print(f"game: J = {before:.3f} before; at once loses for C <= {losing:.3f}")
    for constant in (1.0, 0.5, 0.3, 0.1):
        got = after(constant)
        print(f"  C = {constant}: at once {float(got[0]):.4f}, in turn {float(got[1]):.4f}")
    axis.plot(scales, in_turn, color=IN_TURN, label="in turn")
    axis.plot(scales, together, color=TOGETHER, label="all at once")
    axis.axhline(before, color=BEFORE, ls=":", label="before")
    axis.axhline(2.0, color="k", ls="--", lw=0.8, label="optimum")
    axis.axvspan(scales[0], losing, color=TOGETHER, alpha=0.08)
    axis.set(xscale="log", xlabel="C", ylabel="J", title="Two agents, one update")
    axis.legend(loc="lower right")


def draw_iterations(axis):
    """Draw J along 40 updates for two values of C."""
    problem, start = game()

    def run(constant, which):
        def step(log_policies, _):
            new = both(problem, log_policies, constant)[which]
            return new, objective(problem, new)

        result = jax.lax.scan(step, start, None, length=40)[1]
        return jnp.append(objective(problem, start)[None], result)

    run = jax.jit(run, static_argnums=1)
    for constant, style in ((0.3, "-"), (1.5, "--")):
        for which, color, name in ((1, IN_TURN, "in turn"), (0, TOGETHER, "all at once")):
            line = run(constant, which)
            falls = int(jnp.sum(jnp.diff(line) < -1e-9))
            print(f"C = {constant}, {name}: last J {float(line[-1]):.4f}, fell {falls} times")
            axis.plot(line, style, color=color, label=f"{name}, C = {constant}", lw=1.3)
    axis.set(xlabel="iteration", ylabel="J", title="Two agents, again and again")
    axis.legend(loc="center right")


@partial(jax.jit, static_argnums=0)
def crowd_changes(num_agents):
    """Return changes of J: at once with eps of the agents, of joint actions, and in turn."""
    crowd = multi_agent.overshooting_crowd(num_agents, GAMMA)
    half = jnp.full(num_agents, 0.5)
    before = multi_agent.crowd_objective(crowd, half)
    own = jnp.max(jnp.abs(multi_agent.crowd_advantages(crowd, half)))
    mean = jnp.vdot(multi_agent.count_distribution(half), crowd.reward)
    joint = jnp.max(jnp.abs(crowd.reward - mean))
    small, large = paper_constant(GAMMA, own), paper_constant(GAMMA, joint)
    at_once = multi_agent.crowd_simultaneous(crowd, half, small)
    careful = multi_agent.crowd_simultaneous(crowd, half, large)
    in_turn = multi_agent.crowd_sequential(crowd, half, small)[1][-1]
    after = [multi_agent.crowd_objective(crowd, p) for p in (at_once, careful)]
    return jnp.stack([x - before for x in (*after, in_turn)])


def draw_crowd(axis):
    """Draw the change of J against the number of agents."""
    counts = (4, 8, 12, 16, 18, 19, 20, 24, 32, 48, 64, 96, 128)
    changes = jnp.stack([crowd_changes(n) for n in counts])
    for n, row in zip(counts, changes, strict=True):
        print(
            f"n = {n:3d}: at once {float(row[0]):10.3f}, joint eps {float(row[1]):7.3f}, "
            f"in turn {float(row[2]):7.3f}"
        )
    axis.plot(counts, changes[:, 2], "o-", color=IN_TURN, label="in turn", ms=4)
    axis.plot(
        counts, changes[:, 1], "s-", color=looks.GREEN, label="at once, eps of joint actions", ms=4
    )
    axis.plot(
        counts, changes[:, 0], "v-", color=TOGETHER, label="at once, eps of the agents' own", ms=4
    )
    axis.axhline(0.0, color=BEFORE, ls=":")
    axis.set(
        yscale="symlog",
        xlabel="number of agents",
        ylabel="change of J",
        title="A crowd, the paper's constant at $\\gamma$ = 0.5",
    )
    axis.legend(loc="center right", bbox_to_anchor=(1.0, 0.48))


def main():
    """Draw the three panels."""
    figure, axes = new_figure(2, 2)
    axes[3].set_visible(False)
    draw_game(axes[0])
    draw_iterations(axes[1])
    draw_crowd(axes[2])
    save(figure, "multi_agent")


if __name__ == "__main__":
    main()
