"""`make install`: extras in any form, and a word about those that are not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="no make here")


def run(tmp_path, *words):
    """Run make, with an environment below `tmp_path` and this Python.

    Where `make test` runs the tests, its own flags would make this one name its folder.
    """
    command = [MAKE, *words, f"VENV={tmp_path}/venv", f"PYTHON={sys.executable}"]
    above = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    env = {name: value for name, value in os.environ.items() if name not in above}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def dry_run(tmp_path, *words):
    """Return what make would do."""
    return run(tmp_path, "-n", *words)


@pytest.mark.parametrize(
    "extras", ["mlflow,wandb", "wandb, mlflow", "wandb mlflow", " mlflow,wandb,"]
)
def test_extras_come_in_any_order_with_commas_or_spaces(tmp_path, extras):
    done = dry_run(tmp_path, "install", f"EXTRAS={extras}")
    assert done.returncode == 0, done.stderr
    assert "install -q" in done.stdout
    assert ' -e ".[mlflow,wandb]"\n' in done.stdout
    assert (
        f"touch {tmp_path}/venv/.installed+mlflow+wandb {tmp_path}/venv/.installed\n" in done.stdout
    )


def test_extras_are_installed_after_anything_else(tmp_path):
    """Each set has a stamp of its own, and only that one says that nothing is to be done."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    version = "{}.{}".format(*sys.version_info)
    for name in (f".python-{version}", ".installed", ".dev", ".smoke", ".installed+wandb"):
        (venv / name).touch()
    assert ' -e ".[mlflow]"' in dry_run(tmp_path, "install", "EXTRAS=mlflow").stdout
    assert "-e" not in dry_run(tmp_path, "install", "EXTRAS=wandb").stdout
    assert "-e" not in dry_run(tmp_path, "install").stdout
    (venv / f".python-{version}").unlink()  # another Python than the one asked for
    assert ' -e ".[wandb]"' in dry_run(tmp_path, "install", "EXTRAS=wandb").stdout


def test_an_extra_that_is_not_there_is_refused_before_anything_is_installed(tmp_path):
    done = dry_run(tmp_path, "install", "EXTRAS=brx,wandb")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "EXTRAS=brx is not there: give some of gpu tpu tensorboard" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_environment_that_make_did_not_make_is_left_as_it_is(tmp_path):
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    mine = [venv / "pyvenv.cfg", venv / "bin" / "mine"]
    for path in mine:
        path.touch()
    done = run(tmp_path, "train")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{venv} was not made by make, which would empty it: use ")
    assert done.stdout == ""
    assert sorted(path for path in venv.rglob("*") if path.is_file()) == sorted(mine)


def test_make_says_that_it_is_installing_before_pip_does(tmp_path):
    lines = dry_run(tmp_path, "install").stdout.splitlines()
    said = next(i for i, line in enumerate(lines) if "a few minutes" in line)
    assert "pip install" in lines[said + 1]
