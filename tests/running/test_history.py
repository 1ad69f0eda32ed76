"""A run's history: one line for each process, with what is known and without what is not."""

import json
import subprocess
import sys

import jax
import pytest

import jaxrl_pg
from jaxrl_pg.running import history


def test_a_line_says_when_by_what_and_on_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/jaxrl-pg", "train", "ppo", "--run-dir", "a run"])
    history.record(tmp_path, 0, "CartPole-v1")
    history.record(tmp_path, 7, object())
    first, second = map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines())
    assert (first["iteration"], second["iteration"]) == (0, 7)
    assert first["command"] == "jaxrl-pg train ppo --run-dir 'a run'"
    assert first["device"] == f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    assert first["versions"]["jax"] == jax.__version__
    assert {"jaxrl-pg", "jaxlib", "flax", "optax", "numpy", "python"} <= first["versions"].keys()
    assert "T" in first["time"]
    assert "commit" not in first  # no repository here


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        (f"{jaxrl_pg.__path__[0]}/cli/__main__.py", "jaxrl-pg x"),
        ("/home/me/study.py", "python study.py x"),
    ],
)
def test_the_command_can_be_pasted(monkeypatch, program, shown):
    monkeypatch.setattr(sys, "argv", [program, "x"])
    assert history.facts([])["command"] == shown


def test_what_jax_multiplies_with_by_itself_is_kept_where_it_is_set():
    name = "jax_default_matmul_precision"
    assert name not in history.facts([])
    with jax.default_matmul_precision("tensorfloat32"):
        assert history.facts([])[name] == "tensorfloat32"


def test_the_versions_of_a_suite_are_kept(monkeypatch):
    monkeypatch.setattr(history.importlib.metadata, "version", lambda name: f"of {name}")
    found = history.versions(["brax:ant", "CartPole-v1", "python:maze:Maze", object()])
    assert found["brax"] == "of brax"
    assert found["python"] != "of python"
    assert "CartPole-v1" not in found


def git(folder, *words):
    who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_the_commit_is_that_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert history.facts([])["commit"] == commit
    (tmp_path / "file").write_text("2")
    assert history.facts([])["commit"] == f"{commit}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git there
    assert "commit" not in history.facts([])
