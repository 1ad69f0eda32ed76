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

from accelerator import columns, costs, ladder, page, plan, programs, smoke, supervise, work  # noqa: E402
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
    assert all(f"#### {section.title}" in shown for section in plan.SECTIONS.values())


def test_a_killed_run_keeps_what_it_has(tmp_path):
    out = tmp_path / "killed.json"
    run = start(out, "--sections", "device", "smoke")
    while not (out.exists() and ended(read(out)) == ["device"]):
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
        out=out, sections=list(plan.NAMES), agents=None, tiny=True, seconds=seconds
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
    assert process["device"] == process["ppo"] != process["sac"] == process["compile"]
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
        assert read(record.path)["sections"]["memory"]["rows"] == [{"size": 1}]
        raise MemoryError("no room\nin /some/folder/file.py")

    monkeypatch.setattr(costs, "memory_rows", rows)
    work.run_section(record, "memory", jobs.Job(jobs.TINY, time.time() + 9))
    section = read(record.path)["sections"]["memory"]
    assert section.pop("seconds") >= 0
    why = "MemoryError: no room in file.py"
    assert section == {"status": "failed", "rows": [{"size": 1}], "why": why}
    assert len(told(ValueError("x" * 999))) == 300


def climbed(monkeypatch, members, seconds, most=100):
    """A ladder whose programs take a second a member, and do not fit beyond `most` members."""

    def measure(job, program, rung):
        if rung.members > most:
            raise MemoryError("full")
        return {"steps_per_s": 1.0}

    monkeypatch.setattr(ladder, "build_each", lambda rungs, workers: [None] * len(rungs))
    monkeypatch.setattr(ladder, "measure", measure)
    config = argparse.Namespace(steps_per_iteration=1)
    rungs = [programs.Rung({"agents": n}, config, n) for n in members]
    return list(ladder.climb(jobs.Job(jobs.FULL, time.time() + seconds), rungs))


def test_a_ladder_ends_where_memory_does(monkeypatch):
    rows = climbed(monkeypatch, (1, 50, 200, 400), seconds=1e6)
    assert rows[:2] == [{"agents": n, "steps_per_s": 1.0} for n in (1, 50)]
    assert rows[2:] == [{"agents": 200, "error": "MemoryError: full"}]


def test_a_ladder_leaves_out_what_takes_too_long(monkeypatch):
    # Four calls of 50 s each are more than the 100 s that there are.
    rows = climbed(monkeypatch, (1, 20, 50), seconds=100)
    assert [row.get("steps_per_s") for row in rows] == [1.0, 1.0, None]
    assert rows[2]["skipped"].startswith("no time: it needs 200 s, and ")


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
    wanted = ("memory", "checkpoint", "resume")  # 30, 20 and 25 shares; the last in a new process
    assert plan.seconds_of("memory", wanted, 75 + plan.START) == pytest.approx(30)
    assert plan.seconds_of("checkpoint", wanted, 90 + plan.START) == pytest.approx(40)
    assert plan.seconds_of("resume", wanted, 50) == pytest.approx(50)
    assert plan.seconds_of("memory", wanted, 1) == 0


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
