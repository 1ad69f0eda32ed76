"""The section `smoke`: every agent trains, and ends where the CPU of the same process ends."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from accelerator.job import Job
from accelerator.record import told
from jaxrl_pg import agents
from jaxrl_pg.config import BaseConfig

# One iteration, in which every agent learns.
ON_POLICY = {"num_envs": 8, "num_steps": 16, "hidden_sizes": (16, 16), "total_timesteps": 10_000}
EPOCHS = {**ON_POLICY, "num_epochs": 2, "num_minibatches": 2}
OFF_POLICY = {
    **ON_POLICY,
    "learning_starts": 0,
    "num_updates": 4,
    "batch_size": 32,
    "buffer_size": 256,
}
SHORT = {"env_params": {"max_steps_in_episode": 16.0}}
CONFIGS: dict[str, dict[str, Any]] = {
    "ppo": EPOCHS,
    "actor_critic": ON_POLICY,
    "reinforce": {**ON_POLICY, **SHORT},
    "natural_gradient": EPOCHS,
    "off_policy_actor_critic": {**ON_POLICY, "buffer_size": 256},
    "sac": {**OFF_POLICY, "env": "Pendulum-v1"},
    "soft_q_learning": OFF_POLICY,
    "td3": {**OFF_POLICY, "env": "Pendulum-v1"},
    "ddpg": {**OFF_POLICY, "env": "Pendulum-v1"},
    "pqn": EPOCHS,
    "dqn": OFF_POLICY,
    "analytical": EPOCHS,
    "analytical_replay": OFF_POLICY,
    "reps": EPOCHS,
    "multi_agent": {**EPOCHS, "factors": (1, 2)},
}
# Of the whole vector of parameters, ||a - b|| / ||b||; of each metric, |a - b| / max(|b|, 0.01).
PARAMS_TOLERANCE, METRICS_TOLERANCE = 1e-3, 1e-2


def smoke_rows(job: Job) -> Iterator[dict[str, Any]]:
    """One iteration of every agent, here and on the CPU."""
    left = job.agents or list(agents.AGENTS)
    while left:
        names, left = left[: job.compilers], left[job.compilers :]
        if job.left() <= 0:
            yield from ({"agent": name, "skipped": "no time was left"} for name in names)
            continue
        for name, row in _trained(job, {name: config_of(name) for name in names}).items():
            why = {"why": "**beyond the tolerance**"} if row.get("over") else {}
            yield {"agent": name, **row, **why}


def config_of(name: str) -> BaseConfig:
    """The config of an agent in the table, or of one that is not in it yet."""
    return agents.AGENTS[name].Config(**CONFIGS.get(name, ON_POLICY))


def difference(here: Any, there: Any) -> dict[str, Any]:
    """How far `(start, parameters, metrics)` on one device are from those on another."""
    (_, mine, metrics), (start, other, other_metrics) = jax.device_get((here, there))
    a, b, begin = (_flat(tree) for tree in (mine, other, start))
    apart = {
        name: float(np.nan_to_num(abs(metrics[name] - x) / max(abs(x), 0.01), nan=1e9, posinf=1e9))
        for name, x in other_metrics.items()
        if np.isfinite(x)
    }
    worst = max(apart, key=apart.__getitem__)
    params = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    return {
        "learned": bool(np.any(b != begin)),
        "params": float(f"{params:.3g}"),
        "metric": float(f"{apart[worst]:.3g}"),
        "worst_metric": worst,
        "over": not (params <= PARAMS_TOLERANCE and apart[worst] <= METRICS_TOLERANCE),
    }


def _trained(job: Job, configs: dict[str, BaseConfig]) -> dict[str, dict[str, Any]]:
    """Train on both devices, compile all programs side by side, and compare; by name."""
    places = list(dict.fromkeys([job.device, job.cpu]))

    def trained(config: BaseConfig) -> list[Callable[[], Any]]:
        calls = []
        for place in places:
            with jax.default_device(place):
                args = (config, jax.random.key(0))
                lowered = jax.jit(_iteration).lower(*args)
            calls.append(lambda lowered=lowered, args=args: lowered.compile()(*args))
        return calls

    lowered: dict[str, Any] = {}
    for name, config in configs.items():
        lowered[name] = _attempt(trained, config)
    with ThreadPoolExecutor(job.compilers) as pool:
        results = {
            name: calls
            if isinstance(calls, Exception)
            else [pool.submit(_attempt, f) for f in calls]
            for name, calls in lowered.items()
        }
    return {name: _compared(found) for name, found in results.items()}


def _compared(found: Any) -> dict[str, Any]:
    """The row of what one agent's programs gave, on one or two devices."""
    outcomes = [found] if isinstance(found, Exception) else [one.result() for one in found]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            return {"error": told(outcome)}
    row = difference(outcomes[0], outcomes[-1])
    return row if len(outcomes) > 1 else {**row, "note": "the device is the CPU itself"}


def _iteration(config: BaseConfig, key: jax.Array) -> Any:
    """Parameters before and after one iteration, and its metrics."""
    state = config.agent.init(config, key)
    start = state.learner.params
    state, metrics = config.agent.iterate(config, state)
    return start, state.learner.params, metrics


def _attempt(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        return error


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(x).astype(np.float64) for x in jax.tree.leaves(tree)])
