"""The page about files and folders names what the code writes, and where."""

import re
from pathlib import Path

import pytest

from jaxrl_pg import report
from jaxrl_pg.cli import exporting, watching
from jaxrl_pg.export import folder
from jaxrl_pg.running import history, run_folder

TEXT = (Path(__file__).parents[1] / "docs" / "reference" / "files.md").read_text(encoding="utf-8")


def named(heading):
    """Return what the first cells of the tables of a section name."""
    section = TEXT.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    cells = re.findall(r"^\|([^|]*)\|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_files_of_a_run():
    written = re.findall(r"^    ([\w.]+/?)  ", run_folder.__doc__, re.MULTILINE)
    assert len(written) > 5
    assert set(written) <= set(named("## A run's folder"))


def test_the_keys_of_a_line_of_the_history():
    shown = named("## A run's folder")
    assert {"iteration", "commit", *history.facts([])} <= set(shown)


def test_the_files_of_an_export():
    shown = [name for name in named("## An exported policy") if not name.startswith("jaxrl-pg")]
    assert shown == list(folder._FILES)


def test_the_files_of_a_report():
    shown = named("## A report")
    assert {f"{key}.png" for key in report._FIGURES} <= set(shown)


@pytest.mark.parametrize("command", ["watch", "export"])
def test_where_a_policy_is_written(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "config.json").write_text("{}")
    rows = re.findall(rf"^\| `jaxrl-pg {command} (\S+)` \| `(\S+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) == 3
    place = {"watch": lambda run: watching._beside(Path(run)), "export": exporting._place}[command]
    assert [(run, str(place(run))) for run, _ in rows] == rows
