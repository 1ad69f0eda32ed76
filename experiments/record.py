"""Record finished studies: keep their results, and write the tables of the pages from them.

    .venv/bin/python experiments/record.py runs/pg_ladder [another ...]     (make record RUN=...)

Copies `results.csv` (compressed) and what `sweep.json` says of versions, device and time into
`experiments/results/`, refuses a study that is not complete, and makes the recorded tables of the
pages anew, and the entries of the zoo. Without a folder it only makes these. The text around the
tables is written by hand.
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import tables
import zoo_entries
from matplotlib.figure import Figure

from jaxrl_pg import files
from jaxrl_pg.report import axes
from jaxrl_pg.sweeps import experiment, formats, parts


def record(folder: Path) -> str:
    """Record the study of a sweep's folder, and return its name.

    Raises:
        ValueError: if the folder is no sweep's, or lacks runs of the experiment's file.
    """
    facts = formats.read_facts(folder)
    if facts is None:
        raise ValueError(f"{folder} has no sweep.json: give the folder of a finished sweep")
    name = files.file_name(facts["name"], "the study's name")
    study = experiment.load(tables.FOLDER / f"{name}.toml")
    rows = parts.finished_rows(folder, study)
    lacking = [point.id for point in study.points if point.id not in rows]
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} of {len(study.points)} runs: finish it")
    kept = {
        "name": name,
        "command": f"jaxrl-pg sweep {name}",
        "device": facts["device"],
        "seconds": facts["seconds"],
        "num_runs": len(study.points),
        "num_steps": sum(rows[point.id][-1]["timesteps"] for point in study.points),
        "num_evals": facts["num_evals"],
        "num_eval_episodes": facts["num_eval_episodes"],
        "versions": facts["versions"],
    }
    tables.RESULTS.mkdir(exist_ok=True)
    # Without a time in it, so that the same results are the same file.
    packed = gzip.compress(files.read_bytes(folder / "results.csv"), mtime=0)
    files.write_atomic(tables.RESULTS / f"{name}.csv.gz", packed)
    files.write_atomic(tables.RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")
    return name


def draw_ladder() -> None:
    """Draw the curves of `pg_ladder`: rewards as they are above, normalised ones below."""
    study = tables.recorded("pg_ladder")
    figure = Figure(figsize=(12.6, 6.4), dpi=150, layout="constrained")
    colours = dict(zip(tables.RUNGS, axes.PALETTE, strict=False))
    styles = {rung: {"color": colours[rung], "label": rung} for rung in tables.RUNGS}
    for row, switch in enumerate((False, True)):
        for column, env in enumerate(study.by_env, start=1):
            drawn = [
                study.find(env, study=rung, normalize_reward=switch)._replace(label=rung)
                for rung in tables.RUNGS
            ]
            title = f"{env}, {'normalised rewards' if switch else 'rewards as they are'}"
            place = figure.add_subplot(2, len(study.by_env), row * len(study.by_env) + column)
            axes.draw_curves(drawn, title, styles, place)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(tables.FOLDER / "pg_ladder.png")


def draw_locomotion() -> None:
    """Draw the curves of `brax_locomotion`, a task beside the other."""
    study = tables.recorded("brax_locomotion")
    agents = ("ppo", "analytical", "sac")
    styles = {name: {"color": axes.PALETTE[i], "label": name} for i, name in enumerate(agents)}
    figure = Figure(figsize=(4.8 * len(study.by_env), 3.6), dpi=150, layout="constrained")
    for place, (env, some) in zip(
        np.ravel(figure.subplots(1, len(study.by_env))), study.by_env.items(), strict=True
    ):
        drawn = sorted(
            (one._replace(label=one.setting.agent) for one in some),
            key=lambda one: agents.index(one.label),
        )
        axes.draw_curves(drawn, env, styles, place)
        place.legend(frameon=False)
    figure.savefig(tables.FOLDER / "brax_locomotion.png")


DRAWN = {"brax_locomotion": draw_locomotion, "pg_ladder": draw_ladder}


def main() -> None:
    """Record the studies that are named, and make every recorded table anew."""
    for folder in map(Path, sys.argv[1:]):
        name = record(folder)
        DRAWN.get(name, lambda: None)()
        print(f"recorded {name}")
    for page in tables.PAGES:
        files.write_atomic(page, tables.rebuilt(page.read_text(encoding="utf-8")))
    zoo_entries.write()


if __name__ == "__main__":
    main()
