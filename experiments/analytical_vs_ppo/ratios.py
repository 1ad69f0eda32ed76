"""Measure how far one iteration moves the probabilities of the actions taken, beside PPO's band.

On CartPole-v1 each agent learns for 150,000 steps. In every iteration the ratio of the new policy's
probability to the old one's is taken for each action of the rollout, after all epochs.
Writes `ratios.png` and prints a table.

    .venv/bin/python experiments/analytical_vs_ppo/ratios.py
"""

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


def show(configs: dict[str, BaseConfig], path: Path) -> None:
    """Train each of the configs, print the table of their ratios, and draw the histograms."""
    figure, (axis,) = pictures.new_figure(1, 1, 7.4, 4.0)
    styles = looks.assign({name: _method(name, config) for name, config in configs.items()})
    # A line of a histogram has no markers: where all are solid, they get a dash each.
    own = [look.dash for look in styles.values()]
    dashes = own if len(set(own)) > 1 else looks.DASHES
    edges = np.linspace(np.log(0.3), np.log(3), 121)
    print(
        "| step | C / eps, median | ratios outside [0.8, 1.2] | 0.1% | 99.9% | minimum | maximum |"
    )
    print("|---|---|---|---|---|---|---|")
    keys = jax.random.split(jax.random.key(0), NUM_SEEDS)
    for i, (name, config) in enumerate(configs.items()):
        logs, c = train_all(config, keys)
        ratio = np.exp(np.asarray(logs, np.float64)).ravel()
        outside = np.mean((ratio < BAND[0]) | (ratio > BAND[1]))
        low, high = np.quantile(ratio, (0.001, 0.999))
        median = np.median(np.asarray(c))
        shown = "-" if np.isnan(median) else f"{median:.3g}"
        ends = f"{low:.4f} | {high:.4f} | {ratio.min():.4f} | {ratio.max():.4f}"
        print(f"| {name} | {shown} | {100 * outside:.2f}% | {ends} |", flush=True)
        share, _ = np.histogram(np.log(ratio), edges)
        shown_as = {"color": styles[name].colour, "linestyle": dashes[i % len(dashes)], "lw": 1.6}
        axis.stairs(np.maximum(share / ratio.size, 1e-7), edges, label=name, **shown_as)
    axis.axvspan(*np.log(BAND), color="0.5", alpha=0.15, lw=0, label="PPO's band")
    ticks = [0.3, 0.5, 0.8, 1.0, 1.2, 2.0, 3.0]
    axis.set_xticks(np.log(ticks), [f"{x:g}" for x in ticks])
    axis.set_yscale("log")
    axis.set_ylim(1e-7, 1)
    axis.set_xlabel("probability of the action taken, after an iteration over before")
    axis.set_ylabel("share of the actions")
    axis.legend()
    pictures.save(figure, path)


def _method(name: str, config: BaseConfig) -> str:
    """Return whose look a line has: that of a relative with a name, or of the agent."""
    return name if looks.known(name) else agent_of(config).name


if __name__ == "__main__":
    show(CONFIGS, FOLDER / "ratios.png")
