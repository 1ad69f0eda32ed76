"""The tables of the pages here, made from the recorded results of each study.

`results/<study>.csv.gz` is the `results.csv` of a study, and `results/<study>.json` says with what
it was run. In a page, what stands between `<!-- recorded: <study> <block> -->` and `<!-- end -->`
is written by `record.py` with the functions of this module, and a test compares it with them. So
are the tables in `others.py`, which are not of a study's rows.
"""

import functools
import re
import tomllib
from collections.abc import Callable, Sequence

import classic_tables
import kin_tables
import numpy as np
import others
from recorded import (
    FOLDER,
    RESULTS,
    Study,
    chance,
    holds_half,
    markdown,
    recorded,
    short,
    sweep_name,
)

from jaxrl_pg import AGENT_NAMES
from jaxrl_pg.envs.adapters.suites import SUITES
from jaxrl_pg.report import summary, tables
from jaxrl_pg.report.statistics import Interval
from jaxrl_pg.report.summary import Summary

PAGES = (
    FOLDER / "README.md",
    FOLDER / "analytical_vs_ppo" / "README.md",
    FOLDER / "kin" / "README.md",
    *sorted(FOLDER.parent.glob("docs/agents/*.md")),
    FOLDER.parent / "docs" / "explanation" / "on-policy.md",
    *others.PAGES,
)
# Studies whose figures are from a run of which no results were kept.
NOT_KEPT = ("analytical_vs_ppo_tuning",)
NOT_TRAINED = ("kin_brax_tuning",)

MARKED = re.compile(r"(<!-- recorded: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
CEILINGS = {"CartPole-v1": 500.0, "Catch-bsuite": 1.0, "DeepSea-bsuite": 0.99}
SOLVED = 990.0  # of brax's inverted pendulum, whose highest return is 1000
ON_CEILING = 0.999  # of the highest return that an environment can give
RUNGS = {
    "raw": "raw: every action's score times the whole return",
    "causality": "causality: the reward to go, undiscounted",
    "discount": "discount: the discounted reward to go",
    "baseline": "baseline: less a learned value",
    "critic, same rollouts": "critic: GAE instead of whole episodes, the same rollouts",
    "actor-critic": "actor-critic: its default rollouts, learning rate and entropy bonus",
    "ppo": "PPO: several clipped passes over the same steps",
}
GAP = {
    "ppo": "PPO",
    "ppo, no entropy bonus": "PPO, no entropy bonus",
    "tuned": "analytical as tuned: KL 1, entropy bonus 0.01, 4 epochs",
    "farther: KL 3": "analytical, KL 3",
}
KNOBS = {"ppo": "clip_eps", "analytical": "kl_target"}
MINATAR_AT = (0, 4, 9)  # of ten evaluations
# What others publish after ten million steps, as far as it can be read off their tables and plots.
MINATAR_PEERS = {
    "gymnax-blines": {"Asterix": "15", "Breakout": "28", "Freeway": "58", "SpaceInvaders": "131"},
    "PureJaxRL": {"Breakout": "about 40"},
}


def rebuilt(page: str) -> str:
    """Return a page's text with every block of a recorded study made anew."""

    def anew(found: re.Match[str]) -> str:
        if found[2] in others.NAMES:
            return f"{found[1]}{others.block(found[2], found[3])}\n{found[4]}"
        if not (RESULTS / f"{found[2]}.csv.gz").exists():
            return found[0]
        return f"{found[1]}{block(found[2], found[3])}\n{found[4]}"

    return MARKED.sub(anew, page)


def block(name: str, key: str) -> str:
    """Return a block of a study, as Markdown."""
    return BLOCKS.get((name, key), BLOCKS.get(("", key)))(recorded(name))


# --- blocks -------------------------------------------------------------------------------------


def facts(study: Study) -> str:
    """Say how many runs there were, how long they took, and with what."""
    told, versions = study.facts, study.facts["versions"]
    suites = "".join(f", {suite} {versions[suite]}" for suite in SUITES if suite in versions)
    return (
        f"`make sweep EXP={sweep_name(study.name)}`: {told['num_runs']:,} runs and "
        f"{told['num_steps'] / 1e6:,.1f} million steps took {duration(told['seconds'])}, with "
        "other work on the machine "
        f"({told['device']}, jax {versions['jax']}, gymnax {versions['gymnax']}{suites}). Every "
        f"row is in [{study.name}.csv.gz]({LINKS[study.name]}results/{study.name}.csv.gz)."
    )


def pendulum(study: Study) -> str:
    """Give both agents of `brax_pendulum`."""
    (env,) = study.by_env
    rows = []
    for agent in ("ppo", "sac"):
        one = study.find(env, agent=agent)
        steps = one.setting.timesteps
        solved = (one.setting.returns >= SOLVED).all(axis=0)
        since = steps[len(steps) - int(np.argmin(solved[::-1]))] if not solved.all() else steps[0]
        rows.append(
            [
                f"`{agent}`",
                f"{steps[-1]:,}",
                study.score(env, agent=agent),
                tables.fixed(one.scores.min(), study.digits(env)),
                str(len(one.scores)),
                f"{since:,}",
            ]
        )
    header = ["agent", "steps", "IQM [95% interval]", "worst seed", "seeds"]
    return markdown([*header, f"every seed above {SOLVED:g} from"], rows)


def locomotion(study: Study) -> str:
    """Give each agent on each task, with its worst and its best seed."""
    rows = []
    for env, some in study.by_env.items():
        task, digits = env.removeprefix("brax:").partition("?")[0], study.digits(env)
        for one in some:
            worst, best = (tables.fixed(x, digits) for x in (one.scores.min(), one.scores.max()))
            steps, agent = one.setting.timesteps[-1], one.setting.agent
            score = study.score(env, agent=agent)
            rows.append([task, f"`{agent}`", f"{steps:,}", score, worst, best])
    header = ["task", "agent", "steps", "IQM [95% interval]", "worst seed", "best seed"]
    return markdown(header, rows)


def by_study(study: Study) -> str:
    """Give the studies of an experiment beside each other, an environment each."""
    rows = []
    for env, some in study.by_env.items():
        for one in some:
            worst, best = (
                tables.fixed(x, study.digits(env)) for x in (one.scores.min(), one.scores.max())
            )
            score = tables.estimate(one.iqm, study.digits(env))
            steps, seeds = f"{one.setting.timesteps[-1]:,}", str(len(one.scores))
            rows.append([env, one.setting.study, steps, score, worst, best, seeds])
    header = ["environment", "", "steps", "IQM [95% interval]", "worst seed", "best seed", "seeds"]
    return markdown(header, rows)


def cartpole(study: Study) -> str:
    """Give the one setting of `cartpole_ppo`."""
    (one,) = study.by_env["CartPole-v1"]
    return markdown(
        ["steps", "IQM [95% interval]", "worst seed", "seeds"],
        [
            [
                f"{one.setting.timesteps[-1]:,}",
                study.score("CartPole-v1"),
                tables.fixed(one.scores.min(), 1),
                str(len(one.scores)),
            ]
        ],
    )


def ladder(study: Study, env: str) -> str:
    """Give each rung with and without normalised rewards, beside the rung above it."""
    rows = []
    for before, rung in zip([None, *RUNGS], RUNGS, strict=False):
        cells = [RUNGS[rung]]
        for switch in (False, True):
            cells.append(study.score(env, study=rung, normalize_reward=switch))
            above = {"study": before, "normalize_reward": switch}
            this = study.find(env, study=rung, normalize_reward=switch)
            cells.append(chance(this, study.find(env, **above)) if before else "")
        both = [study.find(env, study=rung, normalize_reward=switch) for switch in (True, False)]
        rows.append([*cells, chance(*both)])
    header = ["step", "rewards as they are", "P(above the step before)"]
    header += ["normalised rewards", "P(above the step before)", "P(normalised above as they are)"]
    return markdown(header, rows)


def learning_rates(study: Study) -> str:
    """Give each learning rate of `ppo_learning_rate` for both lengths of a rollout."""
    columns = [(env, steps) for env in study.by_env for steps in (32, 128)]
    rates = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    rows = [
        [short(rate), *(study.score(env, num_steps=n, learning_rate=rate) for env, n in columns)]
        for rate in rates
    ]
    header = ["learning rate", *(f"{env}, {steps} steps a rollout" for env, steps in columns)]
    found = {
        f"{env}, {steps} steps": {
            rate: study.find(env, num_steps=steps, learning_rate=rate) for rate in rates
        }
        for env, steps in columns
    }
    return f"{markdown(header, rows)}\n\n{edges(found)}"


def step_sizes(study: Study) -> str:
    """Give C in units of eps beside PPO's clip_eps."""
    envs, rows = list(study.by_env), []
    cs, clips = (0.03, 0.1, 0.3, 1, 3, 10), (0.8, 0.4, 0.2, 0.1, 0.05, 0.02)
    for c, clip in zip(cs, clips, strict=True):
        ours = [study.score(env, agent="analytical", c_start=c) for env in envs]
        ppo = [study.score(env, agent="ppo", clip_eps=clip) for env in envs]
        rows.append([short(c), *ours, short(clip), *ppo])
    found = {}
    for env in envs:
        found[f"C on {env}"] = {c: study.find(env, agent="analytical", c_start=c) for c in cs}
        found[f"clip_eps on {env}"] = {x: study.find(env, agent="ppo", clip_eps=x) for x in clips}
    return f"{markdown(['C / eps', *envs, 'clip_eps of PPO', *envs], rows)}\n\n{edges(found)}"


def gap(study: Study) -> str:
    """Give what one change at a time does on MountainCar, the best first."""
    env = "MountainCar-v0"
    tuned, ppo = study.find(env, study="tuned"), study.find(env, study="ppo")
    rows = [
        [
            GAP.get(one.setting.study, f"analytical, {one.setting.study}"),
            study.score(env, study=one.setting.study),
            tables.fixed(one.scores.min(), study.digits(env)),
            "" if one is tuned else chance(one, tuned),
            "" if one is ppo else chance(ppo, one),
        ]
        for one in study.by_env[env]
    ]
    header = ["setting", "IQM [95% interval]", "worst", "P(above as tuned)", "P(PPO above)"]
    return markdown(header, rows)


def versus(study: Study) -> str:
    """Give both agents on each environment, and whether they can be told apart."""
    rows = []
    for env in study.by_env:
        ppo, ours = (study.find(env, agent=agent) for agent in KNOBS)
        steps = f"{ours.setting.timesteps[-1]:,}"
        scores = [study.score(env, agent=agent) for agent in KNOBS]
        rows.append([env, steps, *scores, chance(ours, ppo), verdict(env, ours, ppo)])
    header = ["environment", "steps", "PPO, IQM [95% interval]", "analytical"]
    return markdown([*header, "P(analytical > PPO) [95%]", "better"], rows)


def chosen(study: Study) -> str:
    """Give the settings that the tuning chose; those at an edge of its grid are marked."""
    grids = {
        (block["agent"], env): block["grid"]
        for block in tomllib.loads((FOLDER / f"{study.name}_tuning.toml").read_text())["study"]
        for env in ([block["env"]] if isinstance(block["env"], str) else block["env"])
    }
    rows = []
    for env in study.by_env:
        cells = [env]
        for agent, knob in KNOBS.items():
            hyper = study.find(env, agent=agent).setting.hyper
            for name in ("learning_rate", knob):
                values = grids[agent, env][name]
                edge = hyper[name] in (min(values), max(values))
                cells.append(short(hyper[name]) + (", **edge**" if edge else ""))
        rows.append(cells)
    header = ["environment", "PPO: learning_rate", "clip_eps"]
    return markdown([*header, "analytical: learning_rate", "kl_target"], rows)


def minatar(study: Study) -> str:
    """Give both agents on each game as they learn, and what others publish of their PPO."""
    rows = []
    for env in sorted(study.by_env):
        game, digits = env.removesuffix("-MinAtar"), study.digits(env)
        ppo, ours = (study.find(env, agent=agent) for agent in KNOBS)
        for one in (ppo, ours):
            curve = summary.curve(one)
            reached = [Interval(*(x[i] for x in curve)) for i in MINATAR_AT]
            cells = [tables.estimate(x, digits) for x in reached]
            worst = tables.fixed(one.scores.min(), digits)
            above = chance(ours, ppo) if one is ours else ""
            rows.append([game, f"`{one.setting.agent}`", *cells, worst, above])
        for peer, published in MINATAR_PEERS.items():
            if game in published:
                rows.append([game, f"PPO of {peer}", "", "", published[game], "", ""])
    header = ["game", "agent", "1M steps", "5M", "10M", "worst seed", "P(analytical > PPO)"]
    return markdown(header, rows)


def corrections(study: Study) -> str:
    """Give each setting of `importance_ratios` with each correction, and what ratios are worth."""
    (env,) = study.by_env
    names = list(dict.fromkeys(one.setting.study for one in study.by_env[env]))
    rows = []
    for name in names:
        none, importance, vtrace = (
            study.find(env, study=name, correction=kind)
            for kind in ("none", "importance", "vtrace")
        )
        cells = [
            f"{tables.estimate(one.iqm, 1)}, {one.scores.min():.1f}"
            for one in (none, importance, vtrace)
        ]
        rows.append([name, *cells, chance(importance, none), chance(vtrace, none)])
    header = ["policy and behaviour", "none", "importance", "vtrace"]
    return markdown([*header, "P(importance above none)", "P(vtrace above none)"], rows)


def worst_seeds(study: Study) -> str:
    """Give the worst seed of `importance_ratios` without ratios and with clipped ones."""
    (env,) = study.by_env
    rows = [
        [
            what,
            *(
                tables.fixed(study.find(env, study=name, correction=kind).scores.min(), 0)
                for kind in ("none", "vtrace")
            ),
        ]
        for name, what in (
            ("near", "the defaults"),
            ("far", "four times the reuse"),
            ("half random", "half of the actions random"),
        )
    ]
    return markdown(["CartPole, the worst of ten seeds", "without ratios", "V-trace"], rows)


def of_agent(study: Study, agent: str) -> str:
    """Give every setting of one agent, for the agent's own page under docs/agents."""
    ours = [one for one in study.in_order if one.setting.agent == agent]
    if not ours:
        raise ValueError(f"{study.name} has no settings of {agent}")
    told, versions = study.facts, study.facts["versions"]
    suites = "".join(f", {suite} {versions[suite]}" for suite in SUITES if suite in versions)
    seeds = " or ".join(str(n) for n in sorted({len(one.scores) for one in ours}))
    begin = (
        f"`{told['command']}`, {seeds} seed{'s' * (seeds != '1')} ({told['device']}, jax "
        f"{versions['jax']}, gymnax {versions['gymnax']}{suites}; every row is in "
        f"[{study.name}.csv.gz](../../experiments/results/{study.name}.csv.gz)). Interquartile "
        "mean [95% interval] of the last evaluation, and the worst seed:"
    )
    named = {(_label(one, ours), one.setting.env): _score(study, one) for one in ours}
    labels, tasks = (dict.fromkeys(names) for names in zip(*named, strict=True))
    headed = {env: _task(ours, env) for env in tasks}
    if len(labels) == len(named) and len(tasks) > 1:  # no setting is on two of the environments
        rows = [[headed[env], label, score] for (label, env), score in named.items()]
        return f"{begin}\n\n{markdown(['environment', 'setting', 'result'], rows)}"
    if len(tasks) >= len(labels):
        header = ["environment", *(labels if len(labels) > 1 else ["result"])]
        rows = [[headed[env], *(named.get((x, env), "") for x in labels)] for env in tasks]
    else:
        header = ["setting", *headed.values()]
        rows = [[label, *(named.get((label, env), "") for env in tasks)] for label in labels]
    return f"{begin}\n\n{markdown(header, rows)}"


def _label(one: Summary, ours: Sequence[Summary]) -> str:
    """What tells a setting from the agent's others: its study's name, and what varies in it."""
    setting = one.setting
    alike = [
        other.setting.hyper
        for other in ours
        if (other.setting.env, other.setting.study) == (setting.env, setting.study)
    ]
    varying = [
        f"`{name}={short(value) if isinstance(value, float) else value}`"
        for name, value in setting.hyper.items()
        if any(hyper[name] != value for hyper in alike)
    ]
    several = len({other.setting.study for other in ours}) > 1
    return ", ".join(([setting.study] if several or not varying else []) + varying)


def _task(ours: Sequence[Summary], env: str) -> str:
    """An environment, and how many steps were taken there."""
    steps = {int(one.setting.timesteps[-1]) for one in ours if one.setting.env == env}
    return f"{env}, {' or '.join(f'{n:,}' for n in sorted(steps))} steps"


def _score(study: Study, one: Summary) -> str:
    digits = study.digits(one.setting.env)
    if len(one.scores) == 1:
        return tables.fixed(one.scores[0], digits)
    return f"{tables.estimate(one.iqm, digits)}, {tables.fixed(one.scores.min(), digits)}"


BLOCKS: dict[tuple[str, str], Callable[[Study], str]] = {
    ("", "facts"): facts,
    **{("", name): functools.partial(of_agent, agent=name) for name in AGENT_NAMES},
    ("cartpole_ppo", "table"): cartpole,
    ("brax_pendulum", "table"): pendulum,
    ("brax_locomotion", "table"): locomotion,
    ("memory", "table"): by_study,
    ("masks", "table"): by_study,
    ("importance_ratios", "table"): corrections,
    ("craftax", "table"): by_study,
    ("pg_ladder", "CartPole-v1"): lambda study: ladder(study, "CartPole-v1"),
    ("pg_ladder", "Acrobot-v1"): lambda study: ladder(study, "Acrobot-v1"),
    ("pg_ladder", "Catch-bsuite"): lambda study: ladder(study, "Catch-bsuite"),
    ("ppo_learning_rate", "table"): learning_rates,
    ("step_size", "table"): step_sizes,
    ("analytical_gap", "table"): gap,
    ("analytical_vs_ppo", "table"): versus,
    ("analytical_vs_ppo", "settings"): chosen,
    ("importance_ratios", "worst"): worst_seeds,
    ("kin", "table"): kin_tables.scores,
    ("kin", "chances"): kin_tables.chances,
    ("kin", "settings"): kin_tables.settings,
    ("kin_ablation", "table"): kin_tables.changes,
    ("kin_ablation", "gains"): kin_tables.gains,
    ("kin_tuning", "over_grid"): kin_tables.over_grid,
    ("kin_replay", "table"): kin_tables.scores,
    ("kin_replay", "chances"): kin_tables.chances,
    ("kin_replay", "settings"): kin_tables.settings,
    ("kin_replay_tuning", "over_grid"): kin_tables.over_grid,
    ("zoo", "table"): by_study,
    ("minatar", "table"): minatar,
    ("minatar", "settings"): chosen,
    ("minatar_tuning", "over_grid"): kin_tables.over_grid,
    ("agents_classic", "table"): classic_tables.scores,
    **{
        ("agents_classic", name): functools.partial(classic_tables.of_agent, agent=name)
        for name in classic_tables.agents("agents_classic")
    },
}
# The way from the page that shows a study to the folder of results.
LINKS = {name: "" for name, _ in BLOCKS} | {
    **dict.fromkeys(("analytical_gap", "analytical_vs_ppo", "step_size"), "../"),
    **dict.fromkeys(
        ("kin", "kin_ablation", "kin_tuning", "kin_replay", "kin_replay_tuning"), "../"
    ),
}


# --- words --------------------------------------------------------------------------------------


def verdict(env: str, ours: Summary, ppo: Summary) -> str:
    """Say which of two is better, if either, and if both are at the highest return there is."""
    top = CEILINGS.get(env)
    if top is not None and min(ours.iqm.value, ppo.iqm.value) >= ON_CEILING * top:
        return "both at the ceiling"
    interval = summary.improvement([ours.scores], [ppo.scores])
    if holds_half(interval):
        return "not distinguishable"
    return "analytical" if interval.value > 0.5 else "PPO"


def edges(columns: dict[str, dict[float, Summary]]) -> str:
    """Say in which columns the best value is the first or the last of those that were tried."""
    found = []
    for name, by_value in columns.items():
        scores = {value: float(one.iqm.value) for value, one in by_value.items()}
        best = [value for value, score in scores.items() if score == max(scores.values())]
        if len(best) > 1 or best[0] not in (min(scores), max(scores)):
            continue
        inside = max(sorted(scores)[1:-1], key=lambda value: scores[value])
        interval = summary.improvement([by_value[best[0]].scores], [by_value[inside].scores])
        told = "not distinguishable from" if holds_half(interval) else "better than"
        found.append(f"{name} ({short(best[0])}, {told} {short(inside)})")
    listed = "; ".join(found) or "none"
    return f"Optimum at the edge of the grid, so that a better value may lie beyond: {listed}."


def duration(seconds: float) -> str:
    """Write a time in hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
