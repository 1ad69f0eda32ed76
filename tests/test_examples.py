"""The examples run, with small budgets where they take any."""

import importlib.util
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def load(name):
    """Import an example as a module, which runs nothing."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(here, monkeypatch):
    monkeypatch.chdir(here)


@pytest.fixture(scope="module")
def stopped(here):
    """The run of the example that stops early."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        result = load("early_stopping").main("100000")
    return result._replace(run_dir=here / result.run_dir)


def test_ppo_on_one_page_prints_what_it_reaches(capsys):
    load("ppo_one_file").main("CartPole-v1", "4096")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("    2,048 steps: mean return ")
    assert last.startswith("    4,096 steps: mean return ")
    assert 10 < float(last.split()[-1]) < 100


def test_the_environment_is_solved():
    example = load("own_environment")
    np.testing.assert_allclose(example.main("20480"), example.OPTIMUM, rtol=1e-6)


def test_a_run_stops_when_it_is_good_enough(stopped):
    assert stopped.metrics["eval/return_mean"][-1] >= 475
    assert max(stopped.metrics["eval/return_mean"][:-1], default=0.0) < 475
    assert int(stopped.state.iteration) < stopped.config.num_iterations


def test_a_policy_plays_in_gymnasium(stopped):
    returns = load("gymnasium_loop").main(stopped.run_dir, num_episodes=1)
    assert returns == [pytest.approx(500, abs=100)]


def test_metrics_go_to_wandb(monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    result = load("wandb_logger").main("4096")
    (kept,) = result.run_dir.glob("wandb/offline-run-*/*.wandb")
    assert b"loss/policy" in kept.read_bytes()


def test_the_readme_names_every_example_and_how_it_is_run():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert set(re.findall(r"^\| \[([\w.]+)\]", text, re.MULTILINE)) == files
    assert all(f"examples/{name}" in text for name in files)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_run_by_the_command_that_it_prints(path):
    assert f"python examples/{path.name}" in path.read_text(encoding="utf-8")
    assert callable(load(path.stem).main)


def test_the_image_copies_what_there_is_and_installs_known_extras():
    text = (EXAMPLES / "Dockerfile").read_text(encoding="utf-8")
    copied = [word for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for word in line.split()]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {project["readme"], *project["license-files"], "pyproject.toml", "src"}
    assert set(copied) >= needed
    named = re.findall(r"EXTRAS=(\w+)", text) + re.findall(r"several: ([\w,]+)\.", text)
    extras = {extra for names in named for extra in names.split(",")}
    assert extras
    assert extras <= set(project["optional-dependencies"])
    python = re.search(r"^FROM python:([\d.]+)", text, re.MULTILINE).group(1)
    assert f"constraints/{python}.txt" in text
    assert (ROOT / "constraints" / f"{python}.txt").exists()
