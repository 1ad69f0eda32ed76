"""The tables of the benchmarks page, as Markdown."""

import math
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from libraries import LIBRARIES
from rows import HYPER, ROWS, describe
from summary import Beside, median_of, select, speeds, spread

__all__ = ["bound", "first_step", "flops_per_step", "resets", "speed", "start"]

Results = Mapping[str, dict[str, Any]]
_HIDDEN = 64
_TASK = ["task", "envs", "members", "beside"]
_US = ("gymnax_us", "here_us")


def speed(pairs: list[Beside]) -> str:
    """The steps per second of both sides, and how many times as fast ours is."""
    ours = ["ours, 1 device", "times", "ours, 2 devices", "times"]
    table = [[*_TASK, "its steps/s", *ours]]
    for pair in pairs:
        cells = [median_of(speeds(pair.theirs), ",.0f")]
        for devices in (1, 2):
            cells += [median_of(speeds(pair.ours[devices]), ",.0f")]
            cells += [spread(pair.ratios(devices), ".2f")]
        table.append([*_task(pair), *cells])
    return _markdown(table)


def first_step(pairs: list[Beside]) -> str:
    """Seconds before the first step and of a whole execution: the other library's and ours."""
    parts: dict[str, Callable[[dict[str, Any]], float]] = {
        "start and import, s": lambda run: run.get("startup_s", math.nan),
        "compile, s": lambda run: run["lower_s"] + run["compile_s"],
        "first run, s": lambda run: run["run_s"][0],
        "later runs, s": lambda run: median(run["run_s"][1:]),
    }
    table = [[*_TASK, *parts]]
    for pair in pairs:
        sides = (pair.theirs, pair.ours[1])
        cells = [
            " and ".join(median_of([part(run) for run in runs], ".2f") for runs in sides)
            for part in parts.values()
        ]
        table.append([*_task(pair), *(cell.replace("nan", "-") for cell in cells)])
    return _markdown(table)


def flops_per_step(obs_size: int, num_actions: int, num_epochs: int) -> int:
    """Floating-point operations of the matrix products of one environment step.

    A tower's forward pass takes `F = 2 (64 d + 64^2 + 64 o)` for `d` inputs and `o` outputs. A
    step is one forward pass of both towers in the rollout, and in each epoch one forward and one
    backward pass: `3 F` less `2 * 64 d`, as no gradient with respect to observations is needed.
    """
    first = 2 * _HIDDEN * obs_size
    total = 0
    for outputs in (num_actions, 1):
        forward = first + 2 * _HIDDEN * (_HIDDEN + outputs)
        total += forward + num_epochs * (3 * forward - first)
    return total


def bound(pairs: list[Beside], machine: list[dict[str, Any]]) -> str:
    """How near the programs come to the speed of their matrix products alone."""
    rates = {
        devices: [
            run["flops"] / seconds / 1e9
            for run in select(machine, "products", "ours", devices)
            for seconds in run["run_s"][1:]
        ]
        for devices in (1, 2)
    }
    bounds = ["products only, 1 device", "2 devices"]
    reached = ["it reaches", "ours, 1 device", "ours, 2 devices"]
    table = [[*_TASK, "FLOP per step", *bounds, *reached]]
    for pair in pairs:
        if ROWS[pair.row]["agent"] != "ppo" or not pair.ours[1]:
            continue
        sizes = (pair.ours[1][0]["obs_size"], pair.ours[1][0]["num_actions"])
        flops = flops_per_step(*sizes, HYPER["ppo"]["num_epochs"])
        limits = [median(rates[devices]) * 1e9 / flops for devices in (1, 2)]
        sides = (pair.theirs, pair.ours[1], pair.ours[2])
        shares = [[speed / limits[1] for speed in speeds(runs)] for runs in sides]
        cells = [f"{limit:,.0f} steps/s" for limit in limits]
        cells += [median_of(share, ".0%") for share in shares]
        table.append([*_task(pair), f"{flops:,}", *cells])
    one, two = (spread(rates[devices], ".0f") for devices in (1, 2))
    said = f"Matrix products run at {one} GFLOP/s on one device, {two} on two."
    return f"{said}\n\n{_markdown(table)}"


def start(results: Results) -> str:
    """Seconds of compiling without a persistent cache, and with one."""
    parts = {"lower_s": "trace and lower", "compile_s": "compile or load", "xla_s": "all of XLA"}
    table = [["beside", "program", "persistent cache", *(f"{part}, s" for part in parts.values())]]
    for name, one in results.items():
        for run in one["runs"]:
            if run["row"] == "start" and "error" not in run:
                title = "ours, 1 device" if run["side"] == "ours" else LIBRARIES[name].title
                seconds = [f"{run[part]:.2f}" for part in parts]
                table.append([LIBRARIES[name].title, title, run["round"], *seconds])
    return _markdown(table)


def resets(machine: list[dict[str, Any]]) -> str:
    """What an environment step costs with gymnax's automatic reset and with ours."""
    head = ["environment", "gymnax, us a step", "here, us a step", "ratio"]
    table = [[*head, "episodes ended a step"]]
    runs = [run["steps"] for run in select(machine, "resets", "resets", 1)]
    for env in runs[0]:
        steps = [run[env] for run in runs]
        cells = [median_of([step[name] for step in steps], ",.0f") for name in _US]
        ratios = spread([step["gymnax_us"] / step["here_us"] for step in steps], ".2f")
        table.append([env, *cells, ratios, median_of([step["ended"] for step in steps], ".1f")])
    return _markdown(table)


def _task(pair: Beside) -> list[str]:
    return [*describe(ROWS[pair.row]), LIBRARIES[pair.library].title]


def _markdown(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])
