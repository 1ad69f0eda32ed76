"""Draw the exact variance of every REINFORCE estimator (`make theory-variance`).

What is seen: the total variance of ten estimators on one small MDP, by enumeration of all its
trajectories; how often the usual orderings hold on random MDPs; the bias of discounting each step
by itself; and what a wrong critic buys and costs along lambda.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from figures import new_figure, save
from jaxrl_pg.figures import looks
from jaxrl_pg.theory import builders, mdp, solve
from jaxrl_pg.theory.learning import estimators

jax.config.update("jax_enable_x64", True)

HORIZON, NUM = 3, 10_000
LABELS = {
    "raw": "whole return",
    "causal": "reward to go",
    "average_baseline": "return $-$ mean",
    "optimal_baseline": "return $-$ best constants",
    "causal_value": "reward to go $-$ V",
    "td_error": "TD error, true V",
    "advantage": "exact advantage",
    "option_2": r"$\gamma$ from the start (option 2)",
    "option_2_causal": r"$\gamma$ from the start, to go",
    "option_1": r"$\gamma$ from each step (option 1)",
}
PAIRS = [
    ("average_baseline", "raw"),
    ("causal", "raw"),
    ("causal_value", "causal"),
    ("causal_value", "average_baseline"),
    ("td_error", "causal_value"),
    ("advantage", "td_error"),
]


def example():
    """Return three states and two actions by formula, and the logits of a policy."""
    s, a, k = np.meshgrid(range(3), range(2), range(3), indexing="ij")
    weights = 1.0 + ((s + 1) * (a + 2) * (k + 1)) % 5
    reward = ((3 * s[..., 0] + 5 * a[..., 0]) % 7) / 7
    transition = weights / weights.sum(axis=2, keepdims=True)
    logits = jnp.array([[0.2, -0.1], [0.0, 0.3], [-0.4, 0.1]])
    return mdp.make(transition, reward, [0.5, 0.3, 0.2], 0.9), logits


def discounted_gradient(problem, logits):
    """Return the gradient of `E sum_t gamma^t r_t`."""

    def objective(x):
        steps = jnp.broadcast_to(jax.nn.softmax(x)[None], (HORIZON, *x.shape))
        return jnp.vdot(problem.start, solve.finite_horizon_evaluate(problem, steps)[0][0])

    return jax.grad(objective)(logits)


def wins():
    """Return how often the first of each pair has less variance, on random MDPs."""

    def one(key):
        mdp_key, gamma_key, logits_key = jax.random.split(key, 3)
        gamma = jax.random.uniform(gamma_key, maxval=0.99)
        problem = builders.random_mdp(mdp_key, 2, 2, gamma)
        logits = jax.random.normal(logits_key, (2, 2))
        variance = estimators.exact_moments(problem, logits, HORIZON).variance
        return jnp.stack([getattr(variance, x) < getattr(variance, y) for x, y in PAIRS])

    run = jax.jit(partial(jax.lax.map, one, batch_size=500))
    return np.asarray(run(jax.random.split(jax.random.key(0), NUM)).mean(axis=0))


def angles(problem, logits, gammas):
    """Return the degrees between each discounted mean and the discounted gradient."""

    @jax.jit
    @jax.vmap
    def one(gamma):
        changed = problem._replace(gamma=gamma)
        mean = estimators.exact_moments(changed, logits, HORIZON).mean
        truth = discounted_gradient(changed, logits)
        pairs = [mean.raw, mean.option_1, mean.option_2]
        cosine = [jnp.vdot(x, truth) / jnp.linalg.norm(x) / jnp.linalg.norm(truth) for x in pairs]
        return jnp.degrees(jnp.arccos(jnp.clip(jnp.stack(cosine), -1.0, 1.0)))

    return np.asarray(one(gammas))


def lambdas(problem, logits, grid, wrong):
    """Return the bias and standard deviation along lambda, with a critic off by `wrong`."""
    policy = jax.nn.softmax(logits)
    paths = estimators.enumerate_trajectories(problem, policy, HORIZON)
    value, _ = estimators.undiscounted_values(problem, policy, HORIZON)
    truth = estimators.exact_moments(problem, logits, HORIZON).mean.raw
    critic = value[:HORIZON] + wrong * jnp.array([[1.0, -1.0, 0.5]])

    @jax.jit
    @jax.vmap
    def one(gae_lambda):
        sample = estimators.gae_estimates(logits, paths, critic, 1.0, gae_lambda)
        result = estimators.moments(paths.weight, sample)
        return jnp.linalg.norm(result.mean - truth), jnp.sqrt(result.variance)

    return [np.asarray(x) for x in one(grid)]


def draw_bars(axis, variance):
    """Draw the total variances in the order of the list."""
    values = [float(getattr(variance, name)) for name in LABELS]
    colors = [looks.BLUE] * 7 + [looks.GREEN] * 2 + [looks.VERMILLION]
    axis.barh(list(LABELS.values()), values, color=colors)
    axis.set(xscale="log", xlim=(0.04, 8), xlabel="total variance of one trajectory's estimate")
    for i, value in enumerate(values):
        axis.text(value * 1.05, i, f"{value:.3f}", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_title("Exact, over all 216 trajectories (blue: same mean)")


def main():
    """Draw, and print the numbers shown."""
    problem, logits = example()
    result = jax.jit(partial(estimators.exact_moments, horizon=HORIZON))(problem, logits)
    often = wins()
    gammas, grid = jnp.linspace(0.02, 0.99, 60), jnp.linspace(0.0, 1.0, 41)
    turned = angles(problem, logits, gammas)
    figure, axes = new_figure(2, 2, width=5.2, height=3.4)
    draw_bars(axes[0], result.variance)
    names = [f"{LABELS[x]}\nbelow {LABELS[y]}" for x, y in PAIRS]
    axes[1].barh(names, 100 * often, color=looks.PURPLE)
    for i, share in enumerate(often):
        text = {"va": "center", "ha": "right", "color": "k", "fontsize": 8}
        axes[1].text(100 * share - 1, i, f"{share:.1%}", **text)
    axes[1].invert_yaxis()
    axes[1].tick_params(axis="y", labelsize=7)
    axes[1].grid(False, axis="y")
    axes[1].set(xlim=(0, 100), xlabel="percent of 10,000 random MDPs")
    axes[1].set_title("Rules of thumb, not laws: less variance how often")
    colors = looks.BLUE, looks.VERMILLION, looks.GREEN
    for i, (name, style) in enumerate((("raw", "-"), ("option_1", "-"), ("option_2", "--"))):
        label = "no discount" if name == "raw" else LABELS[name]
        axes[2].plot(gammas, turned[:, i], style, label=label, color=colors[i])
    axes[2].set(xlabel=r"discount $\gamma$", ylabel="degrees from the gradient")
    axes[2].set_title("Only option 2 is the gradient of the discounted return")
    axes[2].legend()
    for i, wrong in enumerate((0.0, 0.5)):
        bias, deviation = lambdas(problem, logits, grid, wrong)
        label = "true critic" if wrong == 0 else "wrong critic"
        axes[3].plot(grid, deviation, color=f"C{i}", label=f"{label}: deviation")
        axes[3].plot(grid, bias, "--", color=f"C{i}", label=f"{label}: bias")
    axes[3].set(xlabel=r"$\lambda$ of generalised advantages", ylabel="size (norm over parameters)")
    axes[3].set_title(r"$\lambda$: a wrong critic's bias against variance")
    axes[3].legend(ncols=2, loc="upper left", bbox_to_anchor=(0.0, 0.8))
    save(figure, "variance")
    print(f"{'estimator':18} {'mean[0,0]':>15} {'total variance':>15}")
    for name in LABELS:
        mean, variance = getattr(result.mean, name), getattr(result.variance, name)
        print(f"{name:18} {mean[0, 0]:15.9f} {variance:15.9f}")
    for (x, y), share in zip(PAIRS, often, strict=True):
        print(f"{x} < {y}: {share:.2%}")
    print(f"degrees of option 1 at gamma .5: {np.interp(0.5, gammas, turned[:, 1]):.2f}")


if __name__ == "__main__":
    main()
