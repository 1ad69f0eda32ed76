"""The pages on loggers and early stopping: their code runs as printed, and is short."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxrl_pg import checkpoint
from jaxrl_pg.running.run_folder import RunFolder

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
MAX_LINES = 15


def blocks_of(page):
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_block(block, names):
    """Run a block after those before it, and return what they define."""
    exec(compile(block, "page", "exec"), names)
    return names["result"]


def length(block):
    return len([line for line in block.splitlines() if line.strip()])


@pytest.mark.parametrize("page", ["loggers.md", "early-stopping.md"])
def test_each_example_is_short(page):
    assert blocks_of(page)
    assert all(length(block) <= MAX_LINES for block in blocks_of(page))


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The names of a page's code, which runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return {}


def test_the_page_on_early_stopping(names, capfd):
    good_enough, patience = blocks_of("early-stopping.md")
    stopped = run_block(good_enough, names)
    done = int(stopped.state.iteration)
    assert done < stopped.config.num_iterations
    assert (
        max(stopped.metrics["eval/return_mean"][:-1])
        < 475
        <= stopped.metrics["eval/return_mean"][-1]
    )
    assert checkpoint.steps(stopped.run_dir / "checkpoints")[-1] == done
    assert "on_rows ends the run after" in capfd.readouterr().err
    result = run_block(patience, names)
    assert int(result.state.iteration) > done
    given_up = "no better for 5 evaluations" in capfd.readouterr().err
    assert given_up == (int(result.state.iteration) < result.config.num_iterations)


def test_the_page_on_loggers(names, monkeypatch):
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    built_in, services, own = blocks_of("loggers.md")
    result = run_block(built_in, names)
    rows = RunFolder.open(result.run_dir).rows()
    assert len((result.run_dir / "metrics.csv").read_text().splitlines()) == 1 + len(rows)
    assert not (result.run_dir / "tensorboard").exists()  # nothing but what is installed anyway
    if find_spec("wandb") and find_spec("mlflow"):
        run_block(services, names)
        assert list((result.run_dir / "tensorboard").iterdir())
        assert list(result.run_dir.glob("wandb/offline-run-*/*.wandb"))
        assert list(Path("runs/mlruns").glob("*/*/metrics"))
    before = len(RunFolder.open(result.run_dir).rows())
    result = run_block(own, names)
    new = [
        row for row in RunFolder.open(result.run_dir).rows()[before:] if "eval/return_mean" in row
    ]
    lines = (result.run_dir / "evaluations.txt").read_text().splitlines()
    assert lines == [f"{row['timesteps']} {row['eval/return_mean']}" for row in new]
    assert len(lines) > 1
