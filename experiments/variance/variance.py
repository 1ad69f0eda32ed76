"""Measure what each step of variance reduction gains in the agents' gradients (`make variance`).

A policy is frozen, and 10,000 batches of n episodes are collected with it; every estimator makes a
gradient of each batch, by the same code that trains REINFORCE and the actor-critic. On a finite MDP
the true gradients are known; on CartPole-v1 (episodes of at most 50 steps) they are the means of
the least noisy unbiased estimators over all batches of 32. Writes `variance.json`, and from it
`variance.png` and `variance.md`, all beside this file; with `--draw` it only makes the two again.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
import pictures

import jaxrl_pg
from jaxrl_pg import actor_critic, reinforce
from jaxrl_pg.components import normalize, on_policy, optim, rollout
from jaxrl_pg.envs import from_mdp
from jaxrl_pg.figures import canvas, looks
from jaxrl_pg.ops import returns
from jaxrl_pg.theory import mdp, solve
from jaxrl_pg.theory.learning import estimators
from jaxrl_pg.types import TrainState, Transition

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "variance.json"
NUM_BATCHES, SIZES, LARGEST = 10_000, (2, 8, 32), 32
NUM_PARTS = 10  # of the batches, whose least and most are the bars of the figure
SUM, DISCOUNTED = "sum of rewards", "discounted sum"


class Kind(NamedTuple):
    """One estimator: the objective it is meant for, and the switches or advantages that make it."""

    objective: str
    values: dict[str, Any]
    advantage: Callable[..., jax.Array] | None = None


def gae(gae_lambda: float) -> Callable[..., jax.Array]:
    """Return the advantages of the actor-critic for a trace of this decay."""
    return lambda config, steps, before, after: returns.gae(
        steps.reward, before, after, steps.terminated, steps.truncated, config.gamma, gae_lambda
    )


def n_step(
    config: reinforce.Config, steps: Transition, before: jax.Array, after: jax.Array
) -> jax.Array:
    """Compute advantages from five rewards and the critic."""
    flags = steps.terminated, steps.truncated
    return returns.n_step_returns(steps.reward, after, *flags, config.gamma, 5) - before


WHOLE, START = {"returns": "trajectory"}, {"discount": "from_start"}
NONE, PLAIN = {"discount": "none"}, {"baseline": "none"}
KINDS = {
    "trajectory": Kind(SUM, WHOLE | NONE | PLAIN),
    "trajectory, average": Kind(SUM, WHOLE | NONE | {"baseline": "average"}),
    "trajectory, optimal": Kind(SUM, WHOLE | NONE | {"baseline": "optimal"}),
    "to go": Kind(SUM, NONE | PLAIN),
    "to go, average": Kind(SUM, NONE | {"baseline": "average"}),
    "to go, optimal": Kind(SUM, NONE | {"baseline": "optimal"}),
    "to go, critic": Kind(SUM, NONE | {"baseline": "value"}),
    "option 2, trajectory": Kind(DISCOUNTED, WHOLE | START | PLAIN),
    "option 2, to go": Kind(DISCOUNTED, START | PLAIN),
    "option 2, critic": Kind(DISCOUNTED, START | {"baseline": "value"}),
    "option 1, to go": Kind(DISCOUNTED, {"discount": "from_t"} | PLAIN),
    "option 1, critic": Kind(DISCOUNTED, {"discount": "from_t", "baseline": "value"}),
    "GAE(0.95)": Kind(DISCOUNTED, {}, gae(0.95)),
    "5 steps": Kind(DISCOUNTED, {}, n_step),
    "TD error": Kind(DISCOUNTED, {}, gae(0.0)),
}


class Problem(NamedTuple):
    """A frozen policy with a critic for each objective, and true gradients where they are known."""

    fields: dict[str, Any]
    params: dict[str, Any]
    truth: dict[str, np.ndarray]

    def config(self, num_envs: int, **values: Any) -> reinforce.Config:
        """Return the settings of REINFORCE on this problem."""
        return reinforce.Config(**self.fields, num_envs=num_envs, ent_coef=0.0, **values)


def small_mdp() -> Problem:
    """Return three states, two actions, three steps, and a critic that does not see the time."""
    s, a, k = np.meshgrid(range(3), range(2), range(3), indexing="ij")
    weights = 1.0 + ((s + 1) * (a + 2) * (k + 1)) % 5
    reward = ((3 * s[..., 0] + 5 * a[..., 0]) % 7) / 7
    transition = weights / weights.sum(axis=2, keepdims=True)
    theta = np.array([[0.2, -0.1], [0.0, 0.3], [-0.4, 0.1]])
    with jax.enable_x64(True):
        problem = mdp.make(transition, reward, [0.5, 0.3, 0.2], 0.9)
        mean = estimators.exact_moments(problem, jnp.asarray(theta), 3).mean
        steps = jnp.broadcast_to(jax.nn.softmax(jnp.asarray(theta))[None], (3, 3, 2))
        undiscounted = problem._replace(gamma=jnp.ones(()))
        values = {
            objective: np.asarray(solve.finite_horizon_evaluate(of, steps)[0][:3].mean(axis=0))
            for objective, of in ((SUM, undiscounted), (DISCOUNTED, problem))
        }
        truth = {SUM: np.asarray(mean.raw).ravel(), DISCOUNTED: np.asarray(mean.option_2).ravel()}
        problem = jax.tree.map(np.float32, problem)
    policy = {"policy_head": {"kernel": jnp.float32(theta), "bias": jnp.zeros(2)}}
    params = {
        objective: {"params": policy | {"value_head": linear(jnp.float32(value)[:, None])}}
        for objective, value in values.items()
    }
    fields = {"env": from_mdp.from_mdp(problem, max_steps_in_episode=3), "gamma": 0.9}
    return Problem(fields | {"num_steps": 3, "hidden_sizes": ()}, params, truth)


def linear(kernel: jax.Array) -> dict[str, jax.Array]:
    """Return the parameters of a layer without a bias."""
    return {"kernel": kernel, "bias": jnp.zeros(kernel.shape[1])}


def cartpole() -> Problem:
    """Return a policy of CartPole after 30,000 steps of learning, and its critics."""
    fields = {"env": "CartPole-v1", "env_params": {"max_steps_in_episode": 50.0}}
    fields |= {"hidden_sizes": (16,), "gamma": 0.95}
    config = actor_critic.Config(**fields, total_timesteps=30_000)
    state, metrics = jax.jit(jaxrl_pg.train)(config, jax.random.key(0))
    print(f"CartPole: episodes of {float(metrics['train/length_mean'][-1]):.1f} steps")
    start = state.learner.params
    problem = Problem(fields | {"num_steps": 50}, dict.fromkeys((SUM, DISCOUNTED), start), {})
    discounts = {SUM: "none", DISCOUNTED: "from_t"}
    fit = jax.jit(fit_critic)
    critics = {name: fit(start, problem.config(512, discount=d)) for name, d in discounts.items()}
    return problem._replace(params=critics)


def fit_critic(params: Any, config: reinforce.Config) -> Any:
    """Regress the critic on the returns of 512 episodes from each step on; keep the policy."""
    experience = episodes(config, params, jax.random.key(1))
    learner = reinforce.Learner(params, (), normalize.Normalizer((), ()))
    model = on_policy.build(config)
    weights = reinforce.weigh(config.replace(baseline="none"), model, learner, experience)
    obs, counted, target = map(
        on_policy.flatten, (experience.steps.obs, weights.counted, weights.target)
    )

    def loss(params: Any) -> jax.Array:
        value = model.network.apply(params, obs, method="value")
        return jnp.mean(counted * jnp.square(value - target))

    def step(carry: Any, _: None) -> Any:
        params, opt_state = carry
        grads = jax.grad(loss)(params)
        return optim.apply_gradients(params, opt_state, grads, 0.02, 1e9)[:2], None

    return jax.lax.scan(step, (params, optim.init(params)), length=1000)[0][0]


def episodes(config: reinforce.Config, params: Any, key: jax.Array) -> on_policy.Experience:
    """Collect a rollout of whole episodes, which terminate at their time limit."""
    reset_key, train_key = jax.random.split(key)
    learner = reinforce.Learner(params, (), normalize.Normalizer((), ()))
    model = on_policy.build(config)
    actor = rollout.start(model.env, reset_key, config.num_envs)
    state = TrainState(learner, actor, (), train_key, jnp.zeros((), jnp.int32))
    experience = on_policy.gather(config, model, state)
    steps = experience.steps
    nothing = jnp.zeros_like(steps.truncated), jnp.zeros_like(steps.final_value)
    ends = steps._replace(
        terminated=steps.terminated | steps.truncated, truncated=nothing[0], final_value=nothing[1]
    )
    return experience._replace(steps=ends)


def policy_params(params: Any) -> Any:
    """Return the parameters of the policy; for the table of the MDP without its bias."""
    inner = params["params"]
    if "policy_torso" not in inner:
        return inner["policy_head"]["kernel"]
    return {name: inner[name] for name in ("policy_torso", "policy_head")}


def with_policy(params: Any, part: Any) -> Any:
    """Return the parameters with those of the policy replaced."""
    inner = params["params"]
    if "policy_torso" not in inner:
        part = {"policy_head": {**inner["policy_head"], "kernel": part}}
    return {"params": {**inner, **part}}


def one_batch(problem: Problem, num_envs: int, key: jax.Array) -> jax.Array:
    """Compute the gradient of every estimator from one batch of episodes, `[K, P]`."""
    config, params = problem.config(num_envs), problem.params[SUM]
    model, experience = on_policy.build(config), episodes(config, params, key)
    steps = experience.steps
    counted = returns.episode_starts(steps.terminated) == 0
    multipliers = []
    for kind in KINDS.values():
        normalizer = normalize.Normalizer((), ())
        learner = reinforce.Learner(problem.params[kind.objective], (), normalizer)
        if kind.advantage is not None:
            values = on_policy.values(model, learner, experience)
            multipliers.append(kind.advantage(config, steps, *values))
            continue
        switched = problem.config(num_envs, **kind.values)
        weights = reinforce.weigh(switched, model, learner, experience)
        multipliers.append(weights.factor * (weights.ret - weights.baseline))
    cotangents = jnp.where(counted[None], jnp.stack(multipliers), 0.0) / num_envs

    def log_prob(part: Any) -> jax.Array:
        whole = with_policy(params, part)
        obs = on_policy.flatten(steps.obs)
        dist = model.network.apply(whole, obs, method="policy")
        taken = model.family.log_prob(dist, on_policy.flatten(steps.action))
        return taken.reshape(counted.shape)

    _, pull_back = jax.vjp(log_prob, policy_params(params))
    grads = jax.vmap(lambda c: pull_back(c)[0])(cotangents)
    leaves = [x.reshape(len(KINDS), -1) for x in jax.tree.leaves(grads)]
    return jnp.concatenate(leaves, axis=1)


def gradients(problem: Problem, num_envs: int) -> np.ndarray:
    """`[NUM_BATCHES, K, P]` in float64."""
    keys = jax.random.split(jax.random.key(num_envs), NUM_BATCHES)
    batches = partial(
        jax.lax.map, partial(one_batch, problem, num_envs), batch_size=6400 // num_envs
    )
    return np.asarray(jax.jit(batches)(keys), np.float64)


class Row(NamedTuple):
    """An estimator at one batch size; see `variance.md`."""

    bias: float
    floor: float
    variance: float
    snr: float
    cosine: float


def measure(result: np.ndarray, truth: np.ndarray) -> Row:
    """Compute statistics of gradients `[N, P]` relative to the true one `[P]`."""
    mean, size = result.mean(axis=0), np.linalg.norm(truth)
    variance = np.square(result - mean).sum(axis=1).mean()
    cosine = result @ truth / (np.linalg.norm(result, axis=1) * size + 1e-30)
    return Row(
        bias=np.linalg.norm(mean - truth) / size,
        floor=(variance / len(result)) ** 0.5 / size,
        variance=variance / size**2,
        snr=np.linalg.norm(mean) / variance**0.5,
        cosine=cosine.mean(),
    )


# By batch size and estimator: that of all batches, and those of the parts.
Rows = dict[int, dict[str, list[Row]]]


def study(problem: Problem) -> Rows:
    """Measure every estimator at every batch size."""
    names, rows, truth = list(KINDS), {}, dict(problem.truth)
    for num in sorted(SIZES, reverse=True):
        start = time.perf_counter()
        result = gradients(problem, num)
        print(f"{NUM_BATCHES:,} batches of {num}: {time.perf_counter() - start:.0f} s", flush=True)
        if num == LARGEST and not truth:
            best = {SUM: "to go, critic", DISCOUNTED: "option 2, critic"}
            truth = {k: result[:, names.index(name)].mean(axis=0) for k, name in best.items()}
        parts = [result, *np.split(result, NUM_PARTS)]
        rows[num] = {
            name: [measure(part[:, i], truth[kind.objective]) for part in parts]
            for i, (name, kind) in enumerate(KINDS.items())
        }
    return rows


def draw(studies: dict[str, Rows]) -> None:
    """Draw variance, signal-to-noise ratio and cosine against the batch size, one row a problem.

    Bars go from the least to the most of ten parts of the batches.
    """
    figure, axes = pictures.new_figure(2, 3, 4.8, 3.9)
    styles = {}
    for objective, dash in ((SUM, looks.SOLID), (DISCOUNTED, looks.DASHED)):
        names = [name for name, kind in KINDS.items() if kind.objective == objective]
        turns = zip(names, looks.assign(dict.fromkeys(names, "")).values(), strict=True)
        styles |= {name: look._replace(dash=dash) for name, look in turns}
    columns = dict(zip(studies, (axes[::2], axes[1::2]), strict=True))
    for title, rows in studies.items():
        for axis, name in zip(columns[title], ("variance", "snr", "cosine"), strict=True):
            for kind in KINDS:
                each = [[getattr(row, name) for row in rows[n][kind]] for n in SIZES]
                axis.plot(SIZES, [some[0] for some in each], label=kind, **styles[kind].line())
                low, high = ([end(some[1:]) for some in each] for end in (min, max))
                axis.vlines(SIZES, low, high, color=styles[kind].colour, lw=1)
            axis.set_xscale("log", base=2)
            axis.set_yscale("linear" if name == "cosine" else "log")
            axis.set_xlabel("episodes in a batch")
            axis.set_title(f"{title}: {LABELS[name]}")
    canvas.add_legend(figure)
    pictures.save(figure, FOLDER / "variance.png")


LABELS = {
    "variance": "total variance / |true gradient|$^2$",
    "snr": "signal / noise",
    "cosine": "mean cosine to the true gradient",
}


def table(rows: Rows, num: int = 8) -> list[str]:
    """Return the table of one problem as Markdown."""
    lines = [
        "| estimator | objective | bias (its noise) | variance | signal / noise | cosine |",
        "|---|---|---|---|---|---|",
    ]
    for name, kind in KINDS.items():
        row, large = rows[num][name][0], rows[LARGEST][name][0]
        lines.append(
            f"| {name} | {kind.objective} | {large.bias:.3f} ({large.floor:.3f}) "
            f"| {row.variance:.3g} | {row.snr:.2f} | {row.cosine:.3f} |"
        )
    return lines


def load() -> dict[str, Rows]:
    """Read what was measured."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {
        title: {
            int(num): {name: [Row(*row) for row in each] for name, each in by_name.items()}
            for num, by_name in rows.items()
        }
        for title, rows in kept.items()
    }


def page(studies: dict[str, Rows]) -> str:
    """Return `variance.md`."""
    lines = ["# Variance of policy gradients", "", *HEADER.strip().splitlines()]
    for title, rows in studies.items():
        marks = f"<!-- recorded: variance {title} -->", "<!-- end -->"
        lines += ["", f"## {title}", "", marks[0], *table(rows), marks[1]]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, unless all is to be drawn again; draw and write."""
    if sys.argv[1:] != ["--draw"]:
        studies = {"MDP": study(small_mdp()), "CartPole-v1": study(cartpole())}
        RESULTS.write_text(json.dumps(studies) + "\n", encoding="utf-8")
    studies = load()
    draw(studies)
    (FOLDER / "variance.md").write_text(page(studies), encoding="utf-8")
    print(f"wrote {FOLDER.name}/variance.json, variance.png and variance.md")


HEADER = f"""
Each entry is from {NUM_BATCHES:,} batches (`make variance`). An episode ends at its time limit for
good here.

- Bias is that of the mean over batches of {LARGEST} episodes, relative to the length of the true
  gradient. The standard error of that mean stands beside it.
- The other columns are for batches of 8: total variance in units of the true gradient's squared
  length, length of the mean over the standard deviation, and mean cosine between a batch's gradient
  and the true one.

The true gradients are exact on the MDP. On CartPole-v1 they are means of "to go, critic" and
"option 2, critic", so the bias of these two says nothing. The names are REINFORCE's options. The
last rows are the actor-critic's advantages. Like option 1 they leave out the factor gamma^t, and
they are compared with the discounted objective all the same.

Every number is in [variance.json](variance.json), for the batches of all sizes and for ten parts of
them, whose least and most are the bars of the figure. `variance.py --draw` makes this page of it.

![Variance, signal-to-noise ratio and cosine against batch size](variance.png)
"""

if __name__ == "__main__":
    main()
