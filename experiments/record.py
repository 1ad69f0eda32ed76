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

import draw
import recorded
import tables
import zoo_entries

from jaxrl_pg import files
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
    study = experiment.load(recorded.experiment_file(name))
    rows = parts.finished_rows(folder, study)
    lacking = [point.id for point in study.points if point.id not in rows]
    if lacking:
        raise ValueError(f"{folder} lacks {len(lacking)} of {len(study.points)} runs: finish it")
    kept = {
        "name": name,
        "command": f"jaxrl-pg sweep {recorded.sweep_name(name)}",
        "device": facts["device"],
        "seconds": facts["seconds"],
        "num_runs": len(study.points),
        "num_steps": sum(rows[point.id][-1]["timesteps"] for point in study.points),
        "num_evals": facts["num_evals"],
        "num_eval_episodes": facts["num_eval_episodes"],
        "versions": facts["versions"],
    }
    recorded.RESULTS.mkdir(exist_ok=True)
    # Without a time in it, so that the same results are the same file.
    packed = gzip.compress(files.read_bytes(folder / "results.csv"), mtime=0)
    files.write_atomic(recorded.RESULTS / f"{name}.csv.gz", packed)
    files.write_atomic(recorded.RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")
    return name


def main() -> None:
    """Record the studies that are named, and make every recorded table anew."""
    for folder in map(Path, sys.argv[1:]):
        name = record(folder)
        draw.draw(name)
        print(f"recorded {name}")
    for page in tables.PAGES:
        files.write_atomic(page, tables.rebuilt(page.read_text(encoding="utf-8")))
    zoo_entries.write()


if __name__ == "__main__":
    main()
