"""The command that measures an accelerator: on a CPU, with tiny sizes, cut, crashed and late."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxrl_pg import AGENT_NAMES

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "experiments" / "bench"
SCRIPT = BENCH / "accelerator.py"
sys.path.append(str(BENCH))

from accelerator import beside, columns, costs, page, plan, smoke, supervise, turns, work  # noqa: E402
from accelerator import job as jobs  # noqa: E402
from accelerator.record import Record, told  # noqa: E402

# A worker that needs no JAX: it crashes in `ppo`, and hangs in `memory`.
WORKER = """
import os, sys, time
from pathlib import Path
sys.path.append({bench!r})
from accelerator.record import Record

words = sys.argv[1:]
record = Record(Path(words[words.index("--out") + 1]))
for name in words[words.index("--now") + 1 : words.index("--seconds")]:
    record.start(name, time.time())
    record.add(name, {{"flags": os.environ.get("XLA_FLAGS", ""), "process": os.getpid()}})
    if name == "ppo":
        sys.exit("out of memory")
    if name == "memory":
        time.sleep(60)
    record.end(name, "done")
"""


def start(out, *words):
    """Start the command in a group of processes of its own."""
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--tiny", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with out.with_suffix(".log").open("w") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)


def said(out):
    return out.with_suffix(".log").read_text()


def read(path):
    return json.loads(path.read_text())


def ended(data):
    """The sections that are through, in order."""
    return [name for name, one in data["sections"].items() if one["status"] != "running"]


def test_a_tiny_run_has_every_section_and_its_file_is_whole_all_the_time(tmp_path):
    out = tmp_path / "tiny.json"
    run = start(out, "--agents", "ppo")
    seen = []
    while run.poll() is None:
        if out.exists():
            now = ended(read(out))
            assert now[: len(seen)] == seen
            seen = now
        time.sleep(0.05)
    assert run.returncode == 0, said(out)
    data = read(out)
    assert ended(data) == list(plan.NAMES)
    wrong = {name: one for name, one in data["sections"].items() if one["status"] != "done"}
    assert not wrong
    rows = {name: one["rows"] for name, one in data["sections"].items()}
    assert all(rows.values())
    assert not [row for some in rows.values() for row in some if "error" in row or "why" in row]
    (ppo,) = rows["smoke"]
    assert ppo["learned"]
    # A second device of the CPU is the companion of the first.
    assert "note" not in ppo
    assert [row["agents"] for row in rows["ppo"]] == [1, 2, 1, 2]
    assert all(
        row["steps_per_s"] > 0 for name in ("ppo", "sac", "throughput") for row in rows[name]
    )
    (moved,), (resumed,) = rows["checkpoint"], rows["resume"]
    ways = ("to_cpu_equal", "trains_on_cpu", "from_cpu_equal", "trains_here")
    assert all(moved[way] for way in ways)
    assert resumed["repeats"]
    assert resumed["resumes"]
    assert plan.DETERMINISTIC in resumed["flags"]
    assert str(tmp_path) not in out.read_text()
    shown = page.render([data])
    measured, missing = shown.split("Not measured: ")
    for name, section in plan.SECTIONS.items():
        if name in ("beside", "brax"):  # which need what is not there
            assert f"{section.title} (" in missing
        else:
            assert f"#### {section.title}" in measured


def test_a_killed_run_keeps_what_it_has(tmp_path):
    out = tmp_path / "killed.json"
    run = start(out, "--sections", "device", "smoke")
    while not (out.exists() and "smoke" in read(out)["sections"]):
        assert run.poll() is None, said(out)
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    data = read(out)
    assert data["sections"]["device"]["rows"][0]["versions"]["jax"]
    assert data["sections"]["smoke"]["status"] == "running"


def supervised(tmp_path, monkeypatch, seconds):
    """All sections, with the worker that crashes and hangs."""
    monkeypatch.setattr(supervise, "GRACE", 0.3)
    monkeypatch.setattr(supervise, "POLL", 0.02)
    script, out = tmp_path / "worker.py", tmp_path / "out.json"
    script.write_text(WORKER.format(bench=str(BENCH)))
    args = argparse.Namespace(
        out=out, sections=list(plan.NAMES), agents=None, peers=None, tiny=True, seconds=seconds
    )
    return supervise.run(args, script), read(out)["sections"]


def test_after_a_crash_and_a_hang_the_other_sections_go_on(tmp_path, monkeypatch):
    status, sections = supervised(tmp_path, monkeypatch, 60.0)
    assert status == 1
    assert list(sections) == list(plan.NAMES)
    states = {name: one["status"] for name, one in sections.items()}
    assert states == dict.fromkeys(plan.NAMES, "done") | {"ppo": "failed", "memory": "cut"}
    assert sections["ppo"]["why"] == "its process ended with status 1: out of memory"
    flagged = [
        name for name, one in sections.items() if plan.DETERMINISTIC in one["rows"][0]["flags"]
    ]
    assert flagged == ["resume"]
    process = {name: one["rows"][0]["process"] for name, one in sections.items()}
    assert process["device"] == process["smoke"] != process["ppo"]
    assert process["ppo"] != process["throughput"] == process["memory"] != process["peers"]
    assert process["checkpoint"] == process["compile"] != process["resume"]
    assert len({*process.values()}) == 6  # four, and one more after each that ended


def test_without_time_every_section_says_so(tmp_path, monkeypatch):
    status, sections = supervised(tmp_path, monkeypatch, 0.5)
    assert status == 0
    skipped = {"rows": [], "status": "skipped", "why": "no time was left"}
    assert sections == dict.fromkeys(plan.NAMES, skipped)


def test_a_failed_section_keeps_its_rows_and_the_error_without_folders(tmp_path, monkeypatch):
    record = Record(tmp_path / "out.json", {})

    def rows(job):
        yield {"size": 1}
        assert read(record.path)["sections"]["compile"]["rows"] == [{"size": 1}]
        raise MemoryError("no room\nin /some/folder/file.py")

    monkeypatch.setattr(costs, "compile_rows", rows)
    work.run_section(record, "compile", jobs.Job(jobs.TINY, time.time() + 9))
    section = read(record.path)["sections"]["compile"]
    assert section.pop("seconds") >= 0
    why = "MemoryError: no room in file.py"
    assert section == {"status": "failed", "rows": [{"size": 1}], "why": why}
    assert len(told(ValueError("x" * 999))) == 300


# A program of a section: it says that it is compiled, waits, and prints a row.
PROGRAM = """
import json, os, pathlib, sys
print("compiled", flush=True)
pathlib.Path(sys.argv[2]).touch()
sys.stdin.readline()
row = json.loads(sys.argv[1])
sys.exit(row["error"]) if "error" in row else print(json.dumps(row))
"""


def measured(tmp_path, rows, seconds=60.0):
    """The rows of programs of one ladder, whose calls take 10, 20, ... steps; who compiled."""
    folder = tmp_path / "compiled"
    folder.mkdir(parents=True)
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    tasks = [
        turns.Task(
            {"size": i},
            (str(script), json.dumps(row), str(folder / str(i))),
            steps=10 * 2**i,
            ladder="ladder",
        )
        for i, row in enumerate(rows)
    ]
    job = jobs.Job(jobs.TINY, time.time() + seconds)
    found = turns.measured(job, tasks, turns.Known())
    first = next(found)
    # Before the first of them computes, all that are tried have been compiled.
    return [first, *found], sorted(path.name for path in folder.iterdir())


def test_programs_compile_together_and_then_compute_in_turn(tmp_path):
    rows, compiled = measured(tmp_path, [{"steps_per_s": 1000.0}, {"steps_per_s": 900.0}])
    assert rows == [{"size": 0, "steps_per_s": 1000.0}, {"size": 1, "steps_per_s": 900.0}]
    assert compiled == ["0", "1"]


def test_a_ladder_ends_where_a_program_fails(tmp_path):
    failed = {"error": "no room\nin /some/folder/file.py"}
    rows, _ = measured(tmp_path, [failed, {"steps_per_s": 1.0}])
    assert rows[0] == {"size": 0, "error": "ended with status 1: in file.py"}
    assert rows[1] == {"size": 1, "skipped": "a smaller one failed"}


def test_a_ladder_leaves_out_what_takes_too_long(tmp_path):
    # Four calls of 20 steps each, at one step a second, are more than a quarter of the time.
    rows, _ = measured(tmp_path, [{"steps_per_s": 1.0}, {"steps_per_s": 1.0}], seconds=300.0)
    assert rows[1]["skipped"].startswith("no time: it needs 80 s of the 3")
    rows, compiled = measured(tmp_path / "late", [{"steps_per_s": 1.0}], seconds=-1.0)
    assert rows == [{"size": 0, "skipped": "no time was left"}]
    assert compiled == []


def test_a_program_that_never_compiles_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "LATE", 0.2)
    script = tmp_path / "hangs.py"
    script.write_text("import time; time.sleep(60)")
    task = turns.Task({"size": 0}, (str(script),))
    began = time.time()
    (row,) = turns.measured(jobs.Job(jobs.TINY, began + 0.2), [task], turns.Known())
    assert row["skipped"] == "no time was left"
    assert time.time() < began + 30


def test_peers_are_measured_beside_ours_where_a_folder_has_them(tmp_path):
    job = jobs.Job(jobs.FULL, time.time() + 9)
    (none,) = beside.beside_tasks(job)
    assert none.labels["skipped"].startswith("no folder with rejax")
    (tmp_path / "rejax").mkdir()
    tasks = beside.beside_tasks(job._replace(peers=tmp_path))
    libraries = ["jaxrl-pg, highest", "jaxrl-pg, default", "rejax"]
    assert [task.labels["library"] for task in tasks] == len(beside.ROWS) * libraries
    ours, rejax = (json.loads(tasks[i].command[1]) for i in (0, 2))
    assert ours["row"] == rejax["row"]
    assert ours["hyper"] == rejax["hyper"] | {"matmul_precision": "highest"}
    assert [bool(task.folders) for task in tasks[:3]] == [False, False, True]


def test_a_difference_is_relative_and_an_agent_beyond_the_tolerance_is_told():
    start_params, there = {"w": np.array([0.0, 0.0])}, {"w": np.array([3.0, 4.0])}
    here = {"w": np.array([3.0, 4.001])}  # 0.001 of a norm of 5
    metrics, others = {"loss": 2.01, "kl": 0.00002}, {"loss": 2.0, "kl": 0.0}
    row = smoke.difference((start_params, here, metrics), (start_params, there, others))
    assert row["params"] == pytest.approx(2e-4)
    assert (row["metric"], row["worst_metric"]) == (pytest.approx(0.005), "loss")  # 0.01 of 2
    assert row["learned"]
    assert not row["over"]
    lost = {"loss": np.nan, "kl": 0.0}
    assert smoke.difference((start_params, there, lost), (start_params, there, others))["over"]
    far = {"w": np.array([3.0, 4.01])}
    assert smoke.difference((start_params, far, others), (start_params, there, others))["over"]


def test_what_a_section_leaves_goes_to_the_later_ones():
    wanted = (
        "memory",
        "checkpoint",
        "resume",
    )  # 25, 50 and 40 shares, each in a process of its own
    assert plan.seconds_of(["memory"], wanted, 115 + 2 * plan.START) == pytest.approx(25)
    assert plan.seconds_of(["checkpoint"], wanted, 180 + plan.START) == pytest.approx(100)
    assert plan.seconds_of(["resume"], wanted, 50) == pytest.approx(50)
    assert plan.seconds_of(["memory"], wanted, 1) == 0


def test_the_page_folds_rows_for_which_there_was_no_time():
    rows = [{"envs": 4}, *({"envs": n, "skipped": "no time"} for n in (8, 16, 32)), {"envs": 64}]
    table = columns.table(columns.COLUMNS["throughput"], page.shortened(rows))
    assert table.splitlines()[2:] == [
        "| 4 |  |",
        "| 8 | no time; nor for the next 2 |",
        "| 64 |  |",
    ]


def test_every_agent_is_tried_and_every_section_has_its_columns():
    assert set(smoke.CONFIGS) == set(AGENT_NAMES)
    assert set(columns.COLUMNS) == set(plan.NAMES)


def test_the_page_is_what_the_results_give():
    printed = (ROOT / "docs" / "accelerators.md").read_text(encoding="utf-8")
    measured = page.render(page.read(ROOT / "experiments" / "results"))
    assert f"{page.BEGIN}\n{measured}\n{page.END}" in printed
    assert "| --- |" in measured


def test_the_page_counts_no_cpu_as_an_accelerator():
    cpu = {"device": {"platform": "cpu", "kind": "cpu", "num_devices": 1}}
    gpu = {"device": {"platform": "gpu", "kind": "NVIDIA H100 80GB HBM3", "num_devices": 2}}
    about = {"date": "", "commit": "", "seconds_allowed": 490.0, "tiny": False}
    runs = [{**about, "sections": {"device": {"status": "done", "rows": [x]}}} for x in (cpu, gpu)]
    assert "No GPU and no TPU has been measured yet." in page.render(runs[:1])
    both = page.render(runs)
    assert "has been measured yet" not in both
    assert "### 2 x NVIDIA H100 80GB HBM3" in both
