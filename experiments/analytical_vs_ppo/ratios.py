"""Measure how far one iteration moves the probabilities of the actions taken, beside PPO's band.

On CartPole-v1 each agent learns for 150,000 steps. In every iteration the ratio of the new policy's
probability to the old one's is taken for each action of the rollout, after all epochs.
Writes what it measured to `ratios.json`, and draws `ratios.png` from it; `make record` makes the
page's table of it.

    .venv/bin/python experiments/analytical_vs_ppo/ratios.py [--draw]
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
import pictures

from jaxrl_pg import analytical, ppo
from jaxrl_pg.components import on_policy
from jaxrl_pg.config import BaseConfig, agent_of
from jaxrl_pg.figures import looks
from jaxrl_pg.types import TrainState

FOLDER = Path(__file__).parent
NUM_SEEDS = 4
SHARED: dict[str, Any] = {"env": "CartPole-v1", "total_timesteps": 150_000, "learning_rate": 1e-3}
CONFIGS: dict[str, BaseConfig] = {
    "PPO, clip 0.2": ppo.Config(**SHARED),
    "KL 0.03": analytical.Config(**SHARED, kl_target=0.03),
    "KL 0.1": analytical.Config(**SHARED, kl_target=0.1),
    "KL 0.3": analytical.Config(**SHARED, kl_target=0.3),
    "proved constant": analytical.Config(**SHARED, step_size="tight"),
    "the paper's constant": analytical.Config(**SHARED, step_size="paper"),
}
BAND = 0.8, 1.2
EDGES = np.linspace(np.log(0.3), np.log(3), 121)


def iterate(config: BaseConfig, state: TrainState[Any]) -> tuple[TrainState[Any], Any]:
    """Do one iteration; return its actions' log ratios, and C over eps if there is a C, too."""
    after, metrics = agent_of(config).iterate(config, state)
    model = on_policy.build(config)
    # The same key gives the same rollout as the iteration had.
    steps = on_policy.gather(config, model, state).steps
    obs, action = on_policy.flatten(steps.obs), on_policy.flatten(steps.action)
    old, new = (
        model.family.log_prob(model.network.apply(s.learner.params, obs, method="policy"), action)
        for s in (state, after)
    )
    return after, (new - old, metrics.get("analytical/c_over_eps", jnp.nan))


def train(config: BaseConfig, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return log ratios `[iterations, rows]` and C over eps `[iterations]`."""
    state = agent_of(config).init(config, key)
    length = config.num_iterations
    return jax.lax.scan(lambda state, _: iterate(config, state), state, length=length)[1]


def train_all(config: BaseConfig, keys: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Train one member for each key."""
    return jax.jit(lambda keys: jax.lax.map(lambda key: train(config, key), keys))(keys)


def measure(configs: dict[str, BaseConfig]) -> dict[str, Any]:
    """Train each of the configs; return the histogram of its ratios, and what its table shows."""
    keys, found = jax.random.split(jax.random.key(0), NUM_SEEDS), {}
    for name, config in configs.items():
        logs, c = train_all(config, keys)
        ratio = np.exp(np.asarray(logs, np.float64)).ravel()
        low, high = np.quantile(ratio, (0.001, 0.999))
        median = float(np.median(np.asarray(c)))
        found[name] = {
            "agent": agent_of(config).name,
            "c_over_eps": None if np.isnan(median) else median,
            "number": ratio.size,
            "outside": float(np.mean((ratio < BAND[0]) | (ratio > BAND[1]))),
            "ends": [float(x) for x in (low, high, ratio.min(), ratio.max())],
            "histogram": np.histogram(np.log(ratio), EDGES)[0].tolist(),
        }
        print(name, found[name]["outside"], flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    """Return the table of the ratios as Markdown."""
    lines = [
        "| step | C / eps, median | ratios outside [0.8, 1.2] | 0.1% | 99.9% | minimum | maximum |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        shown = "-" if one["c_over_eps"] is None else f"{one['c_over_eps']:.3g}"
        ends = " | ".join(f"{x:.4f}" for x in one["ends"])
        lines.append(f"| {name} | {shown} | {100 * one['outside']:.2f}% | {ends} |")
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the histograms."""
    figure, (axis,) = pictures.new_figure(1, 1, 7.4, 4.0)
    # A line has the look of a relative with a name, or of the agent.
    methods = {name: name if looks.known(name) else one["agent"] for name, one in found.items()}
    styles = looks.assign(methods)
    # A line of a histogram has no markers: where all are solid, they get a dash each.
    own = [look.dash for look in styles.values()]
    dashes = own if len(set(own)) > 1 else looks.DASHES
    for i, (name, one) in enumerate(found.items()):
        share = np.maximum(np.array(one["histogram"]) / one["number"], 1e-7)
        shown_as = {"color": styles[name].colour, "linestyle": dashes[i % len(dashes)], "lw": 1.6}
        axis.stairs(share, EDGES, label=name, **shown_as)
    axis.axvspan(*np.log(BAND), color="0.5", alpha=0.15, lw=0, label="PPO's band")
    ticks = [0.3, 0.5, 0.8, 1.0, 1.2, 2.0, 3.0]
    axis.set_xticks(np.log(ticks), [f"{x:g}" for x in ticks])
    axis.set_yscale("log")
    axis.set_ylim(1e-7, 1)
    axis.set_xlabel("probability of the action taken, after an iteration over before")
    axis.set_ylabel("share of the actions")
    axis.legend()
    pictures.save(figure, path)


def show(configs: dict[str, BaseConfig], folder: Path) -> None:
    """Measure unless the figure alone is wanted, keep the results, draw and print."""
    kept = folder / "ratios.json"
    if sys.argv[1:] != ["--draw"]:
        kept.write_text(json.dumps(measure(configs)) + "\n", encoding="utf-8")
    found = json.loads(kept.read_text(encoding="utf-8"))
    draw(found, folder / "ratios.png")
    print(table(found))


if __name__ == "__main__":
    show(CONFIGS, FOLDER)
