"""Measure the certificates of exact policy improvement, whether they hold, and its speed.

The analytical update beside PPO, the natural gradient and A2C on the same MDPs (10 states, 4
actions, gamma 0.9 unless said): progress, the certificate that is known before acting, iterations
to 99% of the optimum against c = C / max|A|, and what makes a policy lose after all: parameters
that states share, and errors of the advantages. `make theory-certificates`.
"""

from functools import partial

import jax
import jax.numpy as jnp

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import builders, solve
from jaxrl_pg.theory.bounds.improvement_bounds import EXP_EULER
from jaxrl_pg.theory.updates import constants, improvement, neighbours
from jaxrl_pg.theory.updates.analytical import analytical_update

jax.config.update("jax_enable_x64", True)

NUM_STATES, NUM_ACTIONS, GAMMA = 10, 4, 0.9
NUM_GROUPS = 2
ALIASED = jnp.repeat(jnp.eye(NUM_GROUPS), NUM_STATES // NUM_GROUPS, axis=0)  # shared logits
NUM_MDPS = 300
SCALES = jnp.logspace(-3, 1.75, 39)
AGENTS = {
    "analytical": "analytical",
    "natural": "natural_gradient",
    "ppo": "ppo",
    "a2c": "actor_critic",
}
METHODS = {
    "analytical, c = 10": ("analytical", 10.0),
    "analytical, c = 1": ("analytical", 1.0),
    "analytical, c = 0.1": ("analytical", 0.1),
    "natural gradient, eta = 0.1": ("natural", 0.1),
    "PPO, clip 0.2": ("ppo", 1.0),
    "A2C": ("a2c", 1.0),
}


def random_mdps(num, gamma, seed=0):
    """Return random MDPs along the first axis, all with the same discount."""
    keys = jax.random.split(jax.random.key(seed), num)
    make = partial(builders.random_mdp, num_states=NUM_STATES, num_actions=NUM_ACTIONS)
    return jax.vmap(lambda key: make(key, gamma=gamma))(keys)


def uniform():
    """Return the uniform policy, in logarithms."""
    return jnp.full((NUM_STATES, NUM_ACTIONS), -jnp.log(NUM_ACTIONS))


# --- progress with exact advantages and a logit for every state and action ------------------------


def one_step(mdp, kind, setting, log_policy):
    """Return a method's next policy."""
    if kind == "analytical":
        solution = solve.evaluate(mdp, jnp.exp(log_policy))
        constant = setting * jnp.max(jnp.abs(solution.advantage))
        return analytical_update(log_policy, solution.advantage, constant).log_policy
    if kind == "natural":
        return neighbours.natural_gradient_step(mdp, log_policy, setting)
    if kind == "ppo":
        return neighbours.ppo_step(mdp, log_policy, setting, num_steps=20)
    return neighbours.a2c_step(mdp, log_policy, setting, num_steps=20)


def progress(mdp, kind, setting, num_iterations):
    """Return the share of `J* - J(uniform)` gained after each iteration."""

    def step(log_policy, _):
        now = solve.objective(mdp, jnp.exp(log_policy))
        return one_step(mdp, kind, setting, log_policy), now

    _, objectives = jax.lax.scan(step, uniform(), None, length=num_iterations)
    best = jnp.vdot(mdp.start, solve.policy_iteration(mdp).value)
    return (objectives - objectives[0]) / (best - objectives[0])


def draw_progress(axis, batch):
    """Draw the median over MDPs of each method's progress; print how often J fell."""
    subset = jax.tree.map(lambda x: x[:50], batch)
    run = jax.jit(jax.vmap(progress, (0, None, None, None)), static_argnums=(1, 3))
    styles = looks.assign({name: AGENTS[kind] for name, (kind, _) in METHODS.items()})
    for name, (kind, setting) in METHODS.items():
        shares = run(subset, kind, setting, 200)
        lost = int(jnp.sum(jnp.diff(shares, axis=1) < -1e-9))
        median = jnp.median(shares, axis=0)
        when = int(jnp.argmax(median >= 0.99)) if median[-1] >= 0.99 else -1
        print(f"{name:30s} iterations to 99%: {when:4d}, J fell in {lost} of 10000 steps")
        drawn = {"label": name, "markevery": 0.13, **styles[name].line()}
        axis.plot(jnp.arange(1, 201), median, **drawn)
    axis.set(
        xscale="log",
        xlabel="iteration (1: the uniform policy)",
        ylabel="share of $J^* - J_0$ gained",
        title="Exact advantages, no parameters shared:\nno method ever loses (medians of 50 MDPs)",
    )
    axis.legend(loc="lower right")


# --- the certificate ------------------------------------------------------------------------------


def first_step(mdp, log_policy, scale):
    """Return the `Step` from a policy with C = scale eps."""
    _, steps = improvement.improve(mdp, log_policy, constants.scaled(scale), 1)
    return jax.tree.map(lambda x: x[0], steps)


def first_steps(batch):
    """Return `Step` from random policies, `[NUM_MDPS, len(SCALES)]`."""
    logits = 2.0 * jax.random.normal(jax.random.key(7), (NUM_MDPS, NUM_STATES, NUM_ACTIONS))
    along_scales = jax.vmap(first_step, (None, None, 0))
    together = jax.jit(jax.vmap(along_scales, (0, 0, None)))
    return together(batch, jax.nn.log_softmax(logits), SCALES)


def draw_promise(axis, batch):
    """Draw change of J and certificate against c, for the MDP whose certificate breaks first."""
    steps = first_steps(batch)
    breaks = jnp.max(jnp.where(steps.slack < -1e-9, SCALES[None], 0.0), axis=1)
    worst = jax.tree.map(lambda x: x[jnp.argmax(breaks)], steps)
    promised = worst.certificate - worst.objective
    axis.plot(SCALES, worst.change, label="$J_{new} - J$")
    axis.plot(SCALES, promised, label=r"certificate $\frac{C}{1-\gamma} E_d \log Z$")
    broken = worst.slack < 0
    axis.fill_between(
        SCALES,
        worst.change,
        promised,
        where=broken,
        interpolate=True,
        alpha=0.3,
        label="promised too much",
    )
    proved = EXP_EULER / (1 - GAMMA)
    axis.axvline(proved, color="k", ls=":", label=r"proved from $c = 1.78/(1-\gamma)$ on")
    axis.set(xscale="log", xlabel="c = C / max|A|", ylabel="change of J")
    axis.set_title(f"One step, the worst of {NUM_MDPS} MDPs: the promise\nbreaks, J still rises")
    axis.legend()


def draw_broken(axis):
    """Draw the share of MDPs whose first certificate is broken, by c and gamma."""
    for gamma in (0.5, 0.9, 0.99):
        steps = first_steps(random_mdps(NUM_MDPS, gamma, 1))
        share = jnp.mean(steps.slack < -1e-9, axis=0)
        axis.plot(SCALES, share, marker=".", label=f"$\\gamma$ = {gamma}")
        largest = float(jnp.max(jnp.where(share > 0, SCALES, 0.0)))
        print(
            f"gamma {gamma}: certificate broken in {float(share[0]):.3f} at c = 0.001, "
            f"{float(share[16]):.3f} at c = {float(SCALES[16]):.2g}, never above {largest:.2g}; "
            f"least change of J {float(jnp.min(steps.change)):.1e}"
        )
    axis.set(
        xscale="log",
        xlabel="c = C / max|A|",
        ylabel="share of MDPs",
        title="How often the certificate promises too much",
    )
    axis.legend()


# --- speed ----------------------------------------------------------------------------------------


def draw_speed(axis):
    """Draw the median iterations to 99% against c: one line for every gamma."""
    count = jax.jit(
        jax.vmap(
            lambda mdp, c: improvement.iterations_to_optimum(mdp, constants.scaled(c)),
            (0, None),
        )
    )
    scales = jnp.array([0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    ratios = []
    for gamma, marker in ((0.5, "o"), (0.9, "s"), (0.99, "^")):
        batch = random_mdps(20, gamma, 2)
        medians = jnp.array([jnp.median(count(batch, c)) for c in scales])
        axis.plot(scales, medians, marker, label=f"$\\gamma$ = {gamma}")
        print(f"gamma {gamma}: iterations to 99% at c = {scales}: {medians}")
        ratios.append(medians[-3:] / scales[-3:])
        paper = gamma**2 / (1 - gamma) ** 3
        print(f"  paper's c = {paper:.3g}, 1.7811/(1-gamma) = {EXP_EULER / (1 - gamma):.3g}")
    slope = float(jnp.median(jnp.stack(ratios)))
    print(f"iterations = {slope:.1f} c")
    axis.plot(scales, slope * scales, "k:", label=f"{slope:.0f} c")
    axis.set(xscale="log", yscale="log", xlabel="c = C / max|A|", ylabel="iterations to 99%")
    axis.set_title("Speed is proportional to 1/C, at any discount")
    axis.legend()


# --- what makes a policy lose ---------------------------------------------------------------------


def shared_step(mdp, kind, setting, weights):
    """Take a step, of 30 gradient steps, of a policy with one row of logits for five states."""
    log_policy = jax.nn.log_softmax(ALIASED @ weights)
    solution = solve.evaluate(mdp, jnp.exp(log_policy))
    eps = jnp.max(jnp.abs(solution.advantage))
    if kind == "analytical":
        constant = setting * eps
        target = analytical_update(log_policy, solution.advantage, constant).log_policy
        inner = partial(neighbours.reverse_projection, solution.visitation, target)
        goal, rate = (lambda w: -inner(ALIASED @ w)), 1.0
    elif kind == "ppo":
        inner = partial(neighbours.clipped_surrogate, solution, log_policy, setting)
        goal, rate = (lambda w: inner(ALIASED @ w) / eps), 3.0
    else:
        inner = partial(neighbours.likelihood_surrogate, solution, log_policy)
        goal, rate = (lambda w: inner(ALIASED @ w) / eps), setting
    gradient = jax.grad(goal)
    return jax.lax.fori_loop(0, 30, lambda _, w: w + rate * gradient(w), weights)


def shared_progress(mdp, kind, setting):
    """Return J along 60 iterations with shared logits."""

    def step(weights, _):
        now = solve.objective(mdp, jax.nn.softmax(ALIASED @ weights))
        return shared_step(mdp, kind, setting, weights), now

    start = jnp.zeros((NUM_GROUPS, NUM_ACTIONS))
    return jax.lax.scan(step, start, None, length=60)[1]


def draw_shared(axis):
    """Draw J of projected methods on the MDP where A2C loses most, and mark where J falls."""
    cases = {
        "analytical, c = 1": ("analytical", 1.0),
        "analytical, c = 0.1": ("analytical", 0.1),
        "PPO, clip 0.2": ("ppo", 0.2),
        "A2C": ("a2c", 1.0),
    }
    keys = jax.random.split(jax.random.key(5), 100)
    make = partial(
        builders.garnet, num_states=NUM_STATES, num_actions=NUM_ACTIONS, branching=2, gamma=GAMMA
    )
    subset = jax.vmap(make)(keys)
    run = jax.jit(jax.vmap(shared_progress, (0, None, None)), static_argnums=1)
    result = {name: run(subset, kind, setting) for name, (kind, setting) in cases.items()}
    falls = jnp.min(jnp.diff(result["A2C"], axis=1), axis=1)
    chosen = int(jnp.argmin(falls))
    styles = looks.assign({name: AGENTS[kind] for name, (kind, _) in cases.items()})
    for name, objectives in result.items():
        change = jnp.diff(objectives, axis=1)
        lost = jnp.mean(change < -1e-6)
        print(
            f"shared logits, {name:20s} J fell in {100 * float(lost):.1f}% of steps, "
            f"on the MDP shown in {int(jnp.sum(change[chosen] < -1e-6))} of 59"
        )
        line = objectives[chosen]
        axis.plot(line, label=name, markevery=0.13, **styles[name].line())
        where = jnp.flatnonzero(change[chosen] < -1e-6) + 1
        axis.plot(where, line[where], "x", color=looks.INK, ms=5)
    axis.set(
        xlabel="iteration",
        ylabel="J",
        title="One row of logits for five states:\nJ falls (crosses), a larger C helps",
    )
    axis.legend()


def noisy_losses(mdp, key, scale, noise):
    """Return the shares of losing updates and of the gap closed, with noise in the advantages."""

    def step(log_policy, step_key):
        solution = solve.evaluate(mdp, jnp.exp(log_policy))
        eps = jnp.max(jnp.abs(solution.advantage))
        error = noise * eps * jax.random.normal(step_key, log_policy.shape)
        seen = solution.advantage + error
        new = analytical_update(log_policy, seen, scale * eps).log_policy
        return new, solution.objective

    last, objectives = jax.lax.scan(step, uniform(), jax.random.split(key, 60))
    objectives = jnp.append(objectives, solve.objective(mdp, jnp.exp(last)))
    best = jnp.vdot(mdp.start, solve.policy_iteration(mdp).value)
    lost = jnp.mean(jnp.diff(objectives) < -1e-9)
    return lost, (objectives[-1] - objectives[0]) / (best - objectives[0])


def draw_noise(axis, batch):
    """Draw the gap closed after 60 updates against c, for three sizes of error."""
    subset = jax.tree.map(lambda x: x[:40], batch)
    keys = jax.random.split(jax.random.key(3), 40)
    run = jax.jit(jax.vmap(jax.vmap(noisy_losses, (0, 0, None, None)), (None, None, 0, None)))
    scales = jnp.array([0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
    for noise in (0.0, 0.3, 1.0):
        lost, closed = run(subset, keys, scales, noise)
        lost, closed = lost.mean(1), closed.mean(1)
        best = int(jnp.argmax(closed))
        print(
            f"noise {noise}: best c = {float(scales[best]):.2g}, gap closed "
            f"{float(closed[best]):.3f}, {100 * float(lost[best]):.0f}% of steps lose"
        )
        axis.plot(scales, closed, marker=".", label=f"error {noise} max|A|")
    axis.set(
        xscale="log",
        xlabel="c = C / max|A|",
        ylabel="share of the gap closed in 60 steps",
        title="With errors of the advantages\na small C is no longer best",
    )
    axis.legend()


def main():
    """Draw all panels."""
    batch = random_mdps(NUM_MDPS, GAMMA)
    figure, axes = new_figure(2, 3, width=4.4, height=3.5)
    draw_progress(axes[0], batch)
    draw_promise(axes[1], batch)
    draw_broken(axes[2])
    draw_speed(axes[3])
    draw_shared(axes[4])
    draw_noise(axes[5], batch)
    save(figure, "certificates")


if __name__ == "__main__":
    main()
