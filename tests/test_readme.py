"""The README's Python blocks run as they are printed, and so does that of the theory's page."""

import contextlib
import re
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_pg.running import run_folder

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def python_of(page):
    return [body for name, body in FENCED.findall(page.read_text()) if name == "python"]


TRAINING, THEORY = python_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The first block's names once it has run, and the folder that it ran in."""
    here, names = tmp_path_factory.mktemp("readme"), {}
    with contextlib.chdir(here):
        exec(compile(TRAINING, "README.md", "exec"), names)
    return names, here


def test_each_block_stands_alone_and_is_short():
    """A block needs no other: none of their names is used before the block itself defines it."""
    for block in (TRAINING, THEORY):
        assert block.startswith(("import ", "from "))
        assert block.count("\n") <= 11


def test_a_population_has_the_axis_that_the_block_says(trained):
    names, _ = trained
    returns = names["metrics"]["train/return_mean"]
    assert returns.shape == (4, names["config"].num_iterations)
    # Seeds differ: no axis repeats one program's result.
    assert len(np.unique(np.asarray(names["metrics"]["loss/total"])[..., -1])) == 4


def test_a_run_learns_the_same_as_train(trained):
    names, here = trained
    rows = run_folder.RunFolder.open(here / "runs" / "demo").rows()
    losses = [row["loss/total"] for row in rows if "loss/total" in row]
    assert len(losses) == names["config"].num_iterations == 30  # 60,000 / 2,048
    _, metrics = jax.jit(names["jaxrl_pg"].train)(names["config"], jax.random.key(0))
    np.testing.assert_allclose(losses, metrics["loss/total"], rtol=1e-5)


def test_its_policy_has_learned(trained):
    returns = trained[0]["returns"]
    assert returns.shape == (128,)
    assert np.mean(returns) > 300  # in so few steps


def test_the_theory_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(THEORY, "README.md", "exec"), names)
    assert names["best"].policy.shape == (16, 4)


def test_the_page_on_the_theory_runs():
    (block,) = python_of(ROOT / "docs" / "theory.md")
    names, before = {}, jax.config.jax_enable_x64
    try:
        exec(compile(block, "theory.md", "exec"), names)
        assert names["solution"].value.shape == (1000, 50)
        assert names["solution"].value.dtype == np.float64
    finally:
        jax.config.update("jax_enable_x64", before)


def test_no_other_page_has_code_that_no_test_runs():
    """Those under docs/ are run by `test_how_to.py`, and by the tests that it names."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/**/*.md")]
    found = {page.relative_to(ROOT).as_posix() for page in pages if python_of(page)}
    assert {name for name in found if not name.startswith("docs/")} == {"README.md"}


def test_the_experiment_is_the_file_that_it_names():
    (printed,) = (body for name, body in FENCED.findall(TEXT) if name == "toml")
    path = ROOT / re.match(r"# (\S+)\n", printed).group(1)
    assert tomllib.loads(printed) == tomllib.loads(path.read_text(encoding="utf-8"))
