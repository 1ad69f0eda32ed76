"""The tables and the figure of docs/scaling.md, from the results of `scaling.py`.

    .venv/bin/python experiments/scaling/scaling_page.py

writes both anew from what was measured, and measures nothing.
"""

import functools
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import scaling_model

__all__ = ["BLOCKS", "RESULTS", "is_alone", "load", "names", "predicted", "speeds"]

EXPERIMENTS = Path(__file__).parents[1]
RESULTS = EXPERIMENTS / "results" / "scaling.json.gz"
H200 = RESULTS.with_name("accelerator_h200_2.json")
PAGE = EXPERIMENTS.parent / "docs" / "scaling.md"
Results = dict[str, Any]
BUSY, FEWEST = 0.1, 3
SUMMED = ("flops", "operations", "transcendentals", "moved")


@functools.cache
def load(path: Path = RESULTS) -> Results:
    """Read the results."""
    return json.loads(gzip.decompress(path.read_bytes()))


def speeds(results: Results, name: str) -> list[float]:
    """Return the environment steps a second of the executions of a point.

    Those during which other processes took more than a tenth of the machine are left out, unless
    there are fewer than three others.
    """
    point = results["points"][name]
    steps = point["prepared"]["steps"] * point["point"]["iterations"]
    timed = [
        pair for each in point["rounds"] for pair in zip(each["run_s"], each["others"], strict=True)
    ]
    alone = [s for s, others in timed if others <= BUSY]
    return [
        steps / s for s in (alone if len(alone) >= FEWEST else sorted(s for s, _ in timed)[:FEWEST])
    ]


def is_alone(measured: Results) -> bool:
    """Return whether enough of a process's executions were disturbed by no other process."""
    least = 1 if "products" in measured else FEWEST
    return sum(share <= BUSY for share in measured["others"]) >= least


def machine(results: Results, num_devices: int) -> scaling_model.Machine | None:
    """Return the machine that was measured, as one of its devices; None if its rates were not."""
    rounds = results["points"]["rates-0" if num_devices == 1 else "rates-0-2-devices"]["rounds"]
    return scaling_model.measured(rounds) if rounds else None


def predicted(results: Results, name: str, on: scaling_model.Machine | None = None) -> float:
    """Return the environment steps a second that the model gives a point; NaN without rates."""
    point = results["points"][name]
    on = on or machine(results, point["point"]["devices"])
    if on is None:
        return float("nan")
    return point["prepared"]["steps"] / scaling_model.seconds(point["prepared"]["kernels"], on)


def missing(results: Results) -> list[str]:
    """Return the points that were not measured yet without other processes beside them."""
    return [
        name
        for name, one in results["points"].items()
        if not one["rounds"] and one["point"]["axis"] not in ("beyond", "held")
    ]


def totals(results: Results, name: str) -> dict[str, float]:
    """Return what an iteration of a point does in all: kernels, and sums over them."""
    kernels = results["points"][name]["prepared"]["kernels"]
    sums = {
        key: sum(k[i] * k[-1] for k in kernels) for key, i in zip(SUMMED, (1, 4, 5, 6), strict=True)
    }
    return {"kernels": sum(k[-1] for k in kernels if k[0] != "turn"), **sums}


# --- tables ---------------------------------------------------------------------------------------


def facts(results: Results) -> str:
    """Say when, on what and how often it was measured."""
    told = results["facts"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    return (
        f"`make bench-scaling`, {told['date']}: {told['cores']} virtual cores of "
        f"{told['cpu']}, {told['memory'] / 2**30:.0f} GiB, executions beside other work left out; "
        f"Python {told['python']}, {versions}. "
        f"Rounds: {results['rounds']}, a process for each point; a "
        "speed is the median of all their executions but each first one, with the least and the "
        "most. Every time is in [scaling.json.gz](../experiments/results/scaling.json.gz)."
        + (f" Not measured yet: `{'`, `'.join(lacks)}`." if (lacks := missing(results)) else "")
    )


def envs(results: Results) -> str:
    """Give each number of environments on one device and on two."""
    rows = []
    for name in names(results, "envs"):
        row = [_thousands(results["points"][name]["point"]["value"]), *_both(results, name)]
        rows.append([*row, *_on_two(results, name)])
    header = ["environments", "1 device, steps/s", "model", "2 devices, steps/s", "model", "times"]
    return _markdown(header, rows)


def agents(results: Results) -> str:
    """Give each number of members, vmapped and one after the other."""
    rows = [["1", *_both(results, "envs-64"), *_both(results, "envs-64"), "", "", ""]]
    for name in names(results, "vmap"):
        number = results["points"][name]["point"]["value"]
        other = f"map-{number}"
        rows.append(
            [str(number), *_both(results, name), *_both(results, other), *_on_two(results, other)]
        )
    header = ["members", "`vmap`, steps/s", "model", "one after the other", "model"]
    return _markdown([*header, "the same on 2 devices", "model", "times"], rows)


def width(results: Results) -> str:
    """Give each width of the two layers."""
    rows = []
    named = {64: "envs-64", **{_value(results, name): name for name in names(results, "width")}}
    for number, name in sorted(named.items()):
        done = totals(results, name)["flops"] / results["points"][name]["prepared"]["steps"]
        rate = done * median(speeds(results, name)) / 1e9
        row = [str(number), _thousands(round(done)), *_both(results, name), f"{rate:.0f}"]
        rows.append([*row, *_on_two(results, name)])
    header = ["units a layer", "FLOP a step", "1 device, steps/s", "model", "GFLOP/s reached"]
    return _markdown([*header, "2 devices, steps/s", "model", "times"], rows)


def replay(results: Results) -> str:
    """Give each size of SAC's replay."""
    rows = [
        [_thousands(_value(results, name)), _both(results, name)[0], *_memory(results, name)]
        for name in names(results, "replay")
    ]
    header = ["rows", "steps/s", "measured, MB", "compiler, MB", "estimate, MB"]
    return _markdown(header, rows)


def kept(results: Results) -> str:
    """Give the largest points beside those where the C library keeps large blocks of memory."""
    rows = []
    for other in names(results, "kept"):
        name = other.replace("kept", "envs")
        cells = []
        for one in (name, other):
            pages = median(each["pages"] for each in results["points"][one]["rounds"])
            cells += [_spread(speeds(results, one), ",.0f"), f"{pages:,.0f}"]
        rows.append([_thousands(_value(results, name)), *cells])
    header = ["environments", "as it is, steps/s", "new pages an iteration", "kept, steps/s"]
    return _markdown([*header, "new pages an iteration"], rows)


def memory(results: Results) -> str:
    """Give measured memory beside the compiler's plan and the library's estimate."""
    chosen = [f"envs-{2**i}" for i in range(4, 15, 2)] + ["width-1024", "vmap-16", "vmap-256"]
    chosen += ["map-256"]
    rows = [
        [_title(results, name), *_memory(results, name)]
        for name in chosen
        if name in results["points"]
    ]
    return _markdown(["", "measured, MB", "compiler, MB", "estimate, MB"], rows)


def rates(results: Results) -> str:
    """Give what this machine can do."""
    rounds = [results["points"][name]["rounds"] for name in ("rates-0", "rates-0-2-devices")]
    rounds = [some for some in rounds if some]
    rows = [
        [
            f"products, smallest side {narrow}, {_thousands(size)} rows",
            *(_rate(some, "products", i, 1e9) for some in rounds),
            "GFLOP/s",
        ]
        for i, (narrow, size, *_) in enumerate(rounds[0][0]["products"])
    ]
    for key, name, unit in (
        ("operations", "multiplications and additions", "G/s"),
        ("transcendentals", "tanh", "G/s"),
        ("bytes", "bytes read and written", "GB/s"),
    ):
        for i, (size, *_) in enumerate(rounds[0][0][key]):
            what = f"{name}, {_thousands(size)} elements"
            rows.append([what, *(_rate(some, key, i, 1e9) for some in rounds), unit])
    kernels = [
        _spread([1e9 / x for each in some for x in each["kernels"]], ",.0f") for some in rounds
    ]
    rows.append(["a kernel that does nothing", *kernels, "ns"])
    for i, (size, *_) in enumerate(rounds[1][0]["reduces"] if len(rounds) > 1 else ()):
        found = [1e6 / x for each in rounds[1] for x in each["reduces"][i][1:]]
        rows.append(
            [f"mean of {_thousands(size)} numbers over devices", "", _spread(found, ",.0f"), "us"]
        )
    return _markdown(["", *["1 device", "each of 2 devices"][: len(rounds)], "unit"], rows)


def errors(results: Results) -> str:
    """Give how far the model is from what was measured, for each axis."""
    rows = []
    for title, axes in (
        ("environments", ("envs",)),
        ("members, `vmap`", ("vmap",)),
        ("members, one after the other", ("map",)),
        ("width", ("width",)),
        ("all", ("envs", "vmap", "map", "width")),
    ):
        for num in (1, 2):
            found = [
                predicted(results, name) / median(speeds(results, name))
                for axis in axes
                for name in names(results, axis, num)
            ]
            if found and not np.isnan(found[0]):
                typical = float(np.exp(np.median(np.abs(np.log(found)))))
                ends = f"{min(found):.2f} to {max(found):.2f}"
                rows.append([title, str(num), str(len(found)), f"{typical:.2f}", ends])
    header = ["points", "devices", "number", "typical factor", "model / measured"]
    return _markdown(header, rows)


def costs(results: Results) -> str:
    """Give what an iteration does, and where the model says its time goes."""
    rows = []
    for name in SHOWN:
        done, on = totals(results, name), machine(results, 1)
        kernels = results["points"][name]["prepared"]["kernels"]
        whole = scaling_model.seconds(kernels, on)
        waits = done["kernels"] * on.latency / whole
        products = [k for k in kernels if k[0] == "product"]
        multiplies = scaling_model.seconds(products, on._replace(latency=0.0)) / whole
        rows.append(
            [
                _title(results, name),
                _thousands(round(done["kernels"])),
                f"{done['flops'] / 1e9:,.3g}",
                f"{done['moved'] / 1e9:,.3g}",
                f"{waits:.0%}",
                f"{multiplies:.0%}",
                f"{1 - waits - multiplies:.0%}",
            ]
        )
    header = ["an iteration of", "kernels", "GFLOP", "GB moved", "latency", "products", "the rest"]
    return _markdown(header, rows)


def accelerators(results: Results) -> str:
    """Give what the model says of an H100 and a v5e: a calculation."""
    rows = []
    for name in SHOWN:
        kernels = results["points"][name]["prepared"]["kernels"]
        starts = sum(k[-1] for k in kernels if k[0] != "turn") * scaling_model.H100.latency
        waits = sum(k[-1] for k in kernels if k[0] == "turn") * scaling_model.H100.turn
        whole = scaling_model.seconds(kernels, scaling_model.H100)
        cells = [
            _steps(predicted(results, name, on))
            for on in (scaling_model.H100, scaling_model.H100_TF32, scaling_model.V5E)
        ]
        share = f"envs-{_value(results, name) // 8}"
        eight = "-"
        if (
            results["points"][name]["point"]["axis"] in ("envs", "beyond")
            and share in results["points"]
        ):
            on = scaling_model.V5E
            part = results["points"][share]["prepared"]
            messages = 16 * on.reduce(0.0)  # one for each gradient step: 4 epochs of 4 minibatches
            eight = _steps(
                8 * part["steps"] / (scaling_model.seconds(part["kernels"], on) + messages)
            )
        rows.append([_title(results, name), f"{(starts + waits) / whole:.0%}", *cells, eight])
    header = ["", "H100: of it latency", "H100, FP32, steps/s", "H100, TF32", "v5e, one chip"]
    most, size = results["points"]["envs-16384"]["prepared"]["estimate"], 16384
    return (
        f"{_markdown([*header, 'v5e-8'], rows)}\n\nBy the library's estimate an environment of the "
        f"base takes at most {most / size / 1e3:.0f} kB, so that the 80 GB of an H100 hold "
        f"{80e9 / most * size / 1e6:.1f} million environments, and the 16 GB of a v5e chip "
        f"{16e9 / most * size / 1e6:.2f} million."
    )


def held(results: Results) -> str:
    """Give what an H200 did beside what the model says of it."""
    sections = json.loads(H200.read_text())["sections"]
    done = {
        row["envs"]: row["iteration_s"]
        for row in sections["throughput"]["rows"]
        if row["env"] == "CartPole-v1" and "iteration_s" in row
    }
    rows = []
    for num, iterations in done.items():
        point = results["points"][f"held-{num}"]["prepared"]
        took = median(iterations)
        model = scaling_model.seconds(point["kernels"], scaling_model.H200)
        starts = sum(k[-1] for k in point["kernels"] if k[0] != "turn")
        moved = sum(k[6] * k[-1] for k in point["kernels"])
        rows.append(
            [
                _thousands(num),
                _steps(point["steps"] / took),
                _steps(point["steps"] / model),
                f"{took * 1e3:.3g}",
                f"{model * 1e3:.3g}",
                _thousands(round(starts)),
                f"{took / starts * 1e6:.2f}",
                f"{moved / took / 1e12:.2g}",
            ]
        )
    header = ["environments", "measured, steps/s", "model", "an iteration, ms", "model, ms"]
    more = ["kernels counted here", "us for each of them", "TB/s, were all their bytes moved"]
    return _markdown([*header, *more], rows)


BLOCKS: dict[str, Callable[[Results], str]] = {
    "facts": facts,
    "envs": envs,
    "agents": agents,
    "width": width,
    "replay": replay,
    "kept": kept,
    "memory": memory,
    "rates": rates,
    "errors": errors,
    "costs": costs,
    "accelerators": accelerators,
    "held": held,
}
SHOWN = ("envs-64", "envs-1024", "envs-16384", "beyond-131072", "vmap-16", "vmap-256", "width-1024")


# --- words ----------------------------------------------------------------------------------------


def names(results: Results, axis: str, num_devices: int = 1) -> list[str]:
    """Return the names of the points along an axis."""
    return [
        name
        for name, one in results["points"].items()
        if (one["point"]["axis"], one["point"]["devices"]) == (axis, num_devices) and one["rounds"]
    ]


def _value(results: Results, name: str) -> int:
    return int(results["points"][name]["point"]["value"])


def _title(results: Results, name: str) -> str:
    point = results["points"][name]["point"]
    number = _thousands(point["value"])
    return {
        "envs": f"PPO, {number} environments",
        "beyond": f"PPO, {number} environments",
        "vmap": f"PPO, {number} members of 64 environments, `vmap`",
        "map": f"PPO, {number} members of 64 environments, one after the other",
        "width": f"PPO, 64 environments, {number} units a layer",
        "replay": f"SAC, a replay of {number} rows",
    }[point["axis"]]


def _both(results: Results, name: str) -> list[str]:
    """A point's speed, and how the model's is beside it."""
    found = speeds(results, name)
    ratio = predicted(results, name) / median(found)
    return [_spread(found, ",.0f"), "-" if np.isnan(ratio) else f"{ratio - 1:+.0%}"]


def _on_two(results: Results, name: str) -> list[str]:
    other = f"{name}-2-devices"
    if not results["points"].get(other, {}).get("rounds"):
        return ["", "", ""]
    times = median(speeds(results, other)) / median(speeds(results, name))
    return [*_both(results, other), f"{times:.2f}"]


def _memory(results: Results, name: str) -> list[str]:
    """Measured growth, the compiler's plan and the library's estimate."""
    one = results["points"][name]
    grown = [each["grown"] / 1e6 for each in one["rounds"]]
    planned, estimate = one["prepared"]["planned"] / 1e6, one["prepared"]["estimate"] / 1e6
    return [_spread(grown, ",.0f"), f"{planned:,.0f}", f"{estimate:,.0f}"]


def _rate(rounds: list[dict[str, Any]], key: str, i: int, unit: float) -> str:
    found = [x / unit for each in rounds for x in each[key][i][-3:]]
    return _spread(found, ",.3g")


def _spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _steps(speed: float) -> str:
    return f"{float(f'{speed:.2g}'):,.0f}"


def _thousands(number: int) -> str:
    return f"{number:,}"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write() -> None:
    """Write the page's tables anew, and draw its figure."""
    sys.path.append(str(EXPERIMENTS))
    import scaling_figure
    import tables

    from jaxrl_pg import files

    load.cache_clear()
    files.write_atomic(PAGE, tables.rebuilt(PAGE.read_text(encoding="utf-8")))
    scaling_figure.draw(load(), PAGE.with_suffix(".png"))


if __name__ == "__main__":
    write()
