"""The code of docs/how-to/checkpoints.md runs as it stands; plain Orbax needs nothing of ours."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl_pg

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "checkpoints.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)

# Four lines of plain Orbax; the rest compares, in a process that never imports this library.
WITHOUT_US = """
from orbax.checkpoint import v1 as ocp
tree = ocp.load(r"{path}")
kernel = tree["learner"]["params"]["params"]["policy_torso"]["Dense_0"]["kernel"]
print(kernel.dtype, kernel.shape, float(kernel.sum()))
import sys, numpy
assert type(kernel) is numpy.ndarray
assert not [name for name in sys.modules if name.startswith("jaxrl_pg")]
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's names after all its code has run, the folder, and what was printed."""
    here, names, printed = tmp_path_factory.mktemp("page"), {}, io.StringIO()
    with contextlib.chdir(here), contextlib.redirect_stdout(printed):
        for block in BLOCKS:
            exec(compile(block, PAGE.name, "exec"), names)
    return names, here, printed.getvalue()


def test_no_block_is_long():
    assert len(BLOCKS) == 7
    assert all(block.count("\n") <= 15 for block in BLOCKS)


def test_orbax_reads_the_trained_parameters_bit_for_bit(page):
    names, _, printed = page
    expected = names["result"].state.learner.params["params"]["policy_torso"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(names["kernel"], expected)
    old = names["tree"]["learner"]["params"]["params"]["policy_torso"]["Dense_0"]["kernel"]
    np.testing.assert_array_equal(old, expected)
    assert printed.splitlines()[0] == f"float32[64,2] {names['leaf']['crc32']}"


def test_the_policy_alone_is_the_runs(page):
    names, here, _ = page
    trained, alone = (jaxrl_pg.load(here / name) for name in ("runs/saved", "policies/saved"))
    key = jax.random.key(0)
    np.testing.assert_array_equal(trained.evaluate(key), alone.evaluate(key))
    np.testing.assert_array_equal(names["returns"], alone.evaluate(key))


def test_the_best_of_the_sweep_is_a_policy_of_two(page):
    names, here, _ = page
    assert len(list((here / "runs/seeds/policies").iterdir())) == 2
    assert names["policy"].config.total_timesteps == 8192


def test_the_newest_and_the_best_of_any_pytree_are_kept(page):
    names, _, printed = page
    assert names["restored"].step == 4
    assert printed.splitlines()[-1].endswith("{'note': 'JSON'} [1, 3, 4]")


def test_four_lines_of_plain_orbax_need_no_jaxrl_pg(page):
    names, here, _ = page
    path = here / "runs" / "saved" / "checkpoints" / "10"
    code = WITHOUT_US.format(path=path)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=120
    )
    assert done.returncode == 0, done.stderr
    kernel = names["kernel"]
    assert done.stdout.split() == ["float32", "(4,", "64)", str(float(kernel.sum()))]
