"""The recorded tables of every agent on classic control (`agents_classic`)."""

import dataclasses
import functools
from collections.abc import Sequence

from recorded import Study, experiment_file, markdown

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.report.tables import fixed
from jaxrl_pg.sweeps import experiment


@functools.cache
def points(name: str) -> Sequence[experiment.Point]:
    """Return the runs of an experiment."""
    return experiment.load(experiment_file(name)).points


def agents(name: str) -> list[str]:
    """Return the agents of an experiment, in the order of the package."""
    return [agent for agent in AGENT_NAMES if any(point.agent == agent for point in points(name))]


def scores(study: Study) -> str:
    """Give each agent on each task; a cell is empty where the agent was not trained on it."""
    found = {
        (one.setting.agent, env): study.score(env, agent=one.setting.agent)
        for env, some in study.by_env.items()
        for one in some
    }
    rows = [
        [f"`{agent}`", *(found.get((agent, env), "") for env in study.by_env)]
        for agent in agents(study.name)
    ]
    return markdown(["agent", *study.by_env], rows)


def of_agent(study: Study, agent: str) -> str:
    """Give every task of one agent with its settings, for the agent's own page."""
    rows = []
    configs = {x.config.env: x.config for x in points(study.name) if x.agent == agent}
    for env in filter(configs.__contains__, study.by_env):
        one = study.find(env, agent=agent)
        steps, worst = one.setting.timesteps[-1], fixed(one.scores.min(), study.digits(env))
        score = study.score(env, agent=agent)
        rows.append([env, f"{steps:,}", score, worst, differences(configs[env])])
    told, seeds = study.facts, len(one.scores)
    begin = (
        f"`{told['command']}`, {seeds} seeds ({told['device']}, jax {told['versions']['jax']}, "
        f"gymnax {told['versions']['gymnax']}; every row is in [{study.name}.csv.gz]"
        f"(../../experiments/results/{study.name}.csv.gz)). The last evaluation:"
    )
    header = ["environment", "steps", "IQM [95% interval]", "worst seed"]
    return f"{begin}\n\n{markdown([*header, 'settings, beside the defaults'], rows)}"


def differences(config: BaseConfig) -> str:
    """Say what a config changes in its agent's defaults, beside the task and its length."""
    default = type(config)()
    names = [field.name for field in dataclasses.fields(config)]
    changed = [
        f"`{name}={getattr(config, name)}`"
        for name in names
        if name not in ("env", "total_timesteps")
        and getattr(config, name) != getattr(default, name)
    ]
    return ", ".join(changed) or "none"
