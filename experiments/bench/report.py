"""Tables of a benchmark's results, and the marked part of the page that holds them."""

import math
from pathlib import Path
from statistics import median
from typing import Any

_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HIDDEN = 64
_NAMES = {("rejax", 1): "rejax", ("ours", 2): "ours, 2 devices", ("ours", 1): "ours, 1 device"}


def write(page: Path, results: dict[str, Any]) -> None:
    """Replace what stands between the page's markers."""
    text = page.read_text()
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{page} lacks the lines {_BEGIN} and {_END}: put them back")
    before, after = text.split(_BEGIN)[0], text.split(_END)[1]
    page.write_text(f"{before}{_BEGIN}\n{render(results)}\n{_END}{after}")


def render(results: dict[str, Any]) -> str:
    """Everything measured, as Markdown."""
    runs = results["runs"]
    _check_equal_work(runs)
    parts = [_setting(results), "### Speed", _speed_table(results["rows"], runs)]
    parts += ["### What bounds it", _bound_table(results, runs)]
    parts += ["### Seconds before training starts", _start_table(runs)]
    for failure in results["failures"]:
        parts.append("Failed: " + ", ".join(f"{k} {v}" for k, v in failure.items()))
    return "\n\n".join(parts)


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


def _setting(results: dict[str, Any]) -> str:
    versions = {run["side"]: run["versions"] for run in results["runs"]}
    lines = [
        f"{results['date']}, commit `{results['commit']}`: `{results['command']}`",
        f"CPU: {results['cpu']}, {results['cores']} cores; {results['system']}; "
        f"load average at the start {results['load']}",
        f"rounds: {results['rounds']}; in each process one untimed execution, then "
        f"{results['executions'] - 1} timed",
    ]
    for side, packages in versions.items():
        lines.append(f"{side}: " + ", ".join(f"{name} {v}" for name, v in packages.items()))
    return "\n".join(f"- {line}" for line in lines)


def _speed_table(rows: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    table = [["environment", "envs", "seeds", "program", "steps/s", "times rejax", "compile, s"]]
    for name, row in rows.items():
        for program, label in _NAMES.items():
            mine = _select(runs, name, program)
            ratios = [
                median(_speeds([run])) / median(_speeds([peer]))
                for run in mine
                for peer in _select(runs, name, ("rejax", 1))
                if peer["round"] == run["round"]
            ]
            ratio = "1" if label == "rejax" else _spread(ratios, ".2f")
            compile_s = _spread([run["lower_s"] + run["compile_s"] for run in mine], ".1f")
            table.append([*_size(row), label, _spread(_speeds(mine), ",.0f"), ratio, compile_s])
    return _markdown(table)


def _bound_table(results: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    rate = {}
    for devices in (1, 2):
        products = _select(runs, "products", ("ours", devices))
        rates = [run["flops"] / s / 1e9 for run in products for s in run["run_s"][1:]]
        rate[devices] = (median(rates) if rates else math.nan, _spread(rates, ".0f"))
    head = ["environment", "envs", "seeds", "FLOP per step", "products only, 1 device", "2 devices"]
    table = [[*head, *(f"{label} reaches" for label in _NAMES.values())]]
    for name, row in results["rows"].items():
        sizes = [(run["obs_size"], run["num_actions"]) for run in runs if run["row"] == name]
        if not sizes:
            continue
        flops = flops_per_step(*sizes[0], results["hyper"]["num_epochs"])
        bounds = {devices: value * 1e9 / flops for devices, (value, _) in rate.items()}
        speeds = [_speeds(_select(runs, name, program)) for program in _NAMES]
        reached = [f"{median(s) / bounds[2]:.0%}" if s else "-" for s in speeds]
        limits = [f"{bound:,.0f} steps/s" for bound in bounds.values()]
        table.append([*_size(row), f"{flops:,}", *limits, *reached])
    measured = f"Matrix products run at {rate[1][1]} GFLOP/s on one device, {rate[2][1]} on two."
    return f"{measured}\n\n{_markdown(table)}"


def _start_table(runs: list[dict[str, Any]]) -> str:
    table = [["program", "persistent cache", "trace and lower", "compile or load", "all of XLA"]]
    for run in runs:
        if run["row"] == "start":
            seconds = [f"{run[part]:.2f}" for part in ("lower_s", "compile_s", "xla_s")]
            table.append([_NAMES[run["side"], run["devices"]], run["round"], *seconds])
    return _markdown(table)


def _check_equal_work(runs: list[dict[str, Any]]) -> None:
    """Both sides must have stepped, and trained networks, of the same size."""
    for name in {run["row"] for run in runs} - {"products"}:
        facts = ("timesteps", "num_params", "obs_size", "num_actions")
        seen = {tuple(run[fact] for fact in facts) for run in runs if run["row"] == name}
        if len(seen) > 1:
            raise ValueError(f"{name}: unequal work, {facts} are {seen}: make them the same")


def _size(row: dict[str, Any]) -> list[str]:
    return [row["env"], f"{row['num_envs']:,}", str(row["seeds"])]


def _select(runs: list[dict[str, Any]], row: str, program: tuple[str, int]) -> list[dict[str, Any]]:
    return [run for run in runs if (run["row"], run["side"], run["devices"]) == (row, *program)]


def _speeds(runs: list[dict[str, Any]]) -> list[float]:
    """Environment steps per second of every execution but each process's first."""
    return [run["timesteps"] / seconds for run in runs for seconds in run["run_s"][1:]]


def _spread(values: list[float], form: str) -> str:
    """`median (least to most)`."""
    if not values:
        return "-"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _markdown(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])
