"""Exports: a file, and a TensorBoard run, for each run of a table."""

import json

import pytest
from tensorboardX.proto import event_pb2

from jaxrl_pg import report
from jaxrl_pg.report import export
from jaxrl_pg.sweeps import results

ROW = {"study": "s", "agent": "ppo", "env": "Pole", "learning_rate": 0.1, "clip_eps_vf": None}
EMPTY = {"return_std": None, "length_mean": None}
ROWS = [
    {"id": "a", **ROW, "seed": 0, "timesteps": 100, "return_mean": 3.0, **EMPTY, "num_episodes": 4},
    {"id": "a", **ROW, "seed": 0, "timesteps": 200, "return_mean": 5.0, **EMPTY, "num_episodes": 4},
    {"id": "b", **ROW, "seed": 1, "timesteps": 100, "return_mean": None, **EMPTY},
]
STATUSES = ["ok", "ok", "diverged"]


@pytest.fixture
def table(tmp_path):
    rows = [{"num_episodes": None, **r, "status": s} for r, s in zip(ROWS, STATUSES, strict=True)]
    (tmp_path / "demo").mkdir()
    results.write(tmp_path / "demo" / "results.csv", rows)
    (tmp_path / "demo" / "sweep.json").write_text(json.dumps({"name": "demo"}))
    return results.read(tmp_path / "demo" / "results.csv")


def events_of(folder):
    """Return the events in a folder's one file: length, its checksum, the event, its checksum."""
    (path,) = folder.iterdir()
    data, events = path.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


def test_a_run_is_a_file_of_rows(table, tmp_path):
    export.write_jsonl(export.runs(table), tmp_path / "agents")
    a, b = sorted((tmp_path / "agents").iterdir())
    assert (a.name, b.name) == ("a.jsonl", "b.jsonl")
    rows = [json.loads(line) for line in a.read_text().splitlines()]
    assert [(row["timesteps"], row["return_mean"]) for row in rows] == [(100, 3.0), (200, 5.0)]
    assert rows[0]["learning_rate"] == 0.1
    last = json.loads(b.read_text())
    assert (last["status"], last["return_mean"]) == ("diverged", None)


def test_a_run_is_a_tensorboard_run_with_its_hyper_parameters(table, tmp_path):
    export.write_tensorboard(export.runs(table), table.hyper, tmp_path / "board")
    events = events_of(tmp_path / "board" / "a")
    values = [(v.tag, e.step, v.simple_value) for e in events for v in e.summary.value]
    assert ("eval/return_mean", 100, 3.0) in values
    assert ("eval/return_mean", 200, 5.0) in values
    assert ("final/return_mean", 200, 5.0) in values
    tags = {tag for tag, _, _ in values}
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= tags
    assert "eval/return_std" not in tags
    started = [v for e in events for v in e.summary.value if "session_start" in v.tag]
    assert b"learning_rate" in started[0].metadata.plugin_data.content
    diverged = events_of(tmp_path / "board" / "b")
    assert not [v for e in diverged for v in e.summary.value if v.tag.startswith("eval/")]


def test_a_report_writes_them_when_asked(table, tmp_path):
    folder = report.write([tmp_path / "demo"], jsonl=True, tensorboard=True).parent
    assert sorted(path.name for path in (folder / "agents").iterdir()) == ["a.jsonl", "b.jsonl"]
    assert sorted(path.name for path in (folder / "tensorboard").iterdir()) == ["a", "b"]
    plain = report.write([tmp_path / "demo"], tmp_path / "plain").parent
    assert not (plain / "agents").exists()
    assert not (plain / "tensorboard").exists()
