"""The virtual environments of the other libraries, made from their pinned requirements."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libraries import HERE, LIBRARIES, MACHINE, PUREJAXRL, ROOT

__all__ = ["Missing", "checkout", "commit_of", "prepare", "python_of"]


class Missing(Exception):
    """A library cannot be measured here: what is missing, and what to do, in one sentence."""


def prepare(name: str) -> Path | str:
    """Make a library's environment, unless one with these very requirements is there.

    Returns:
        Its Python.

    Raises:
        Missing: if it cannot be made.
    """
    library, folder = LIBRARIES[name], ROOT / f".venv-bench-{name}"
    if name == MACHINE:
        return sys.executable
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    requirements = HERE / f"requirements-{name}.txt"
    wanted = ["-r", str(requirements)]
    if library.with_ours:
        pins = ROOT / "constraints" / f"{library.python}.txt"
        wanted = ["-c", str(pins), *wanted, "-e", str(ROOT)]
    said = "\n".join([*wanted, requirements.read_text()])
    if stamp.exists() and stamp.read_text() == said:
        return python
    print(f"{library.title}: making {folder.name} from {requirements.name}", flush=True)
    _run([python_of(library.python), "-m", "venv", "--clear", str(folder)], library.title)
    _run([str(python), "-m", "pip", "install", "-qq", *wanted], library.title)
    stamp.write_text(said)
    return python


def python_of(version: str) -> str:
    """Return a Python of a version, or this one if none is asked for.

    Raises:
        Missing: if it is not installed.
    """
    if not version:
        return sys.executable
    # A Python of pyenv is found by its name where PYENV_VERSION lets it.
    name = f"python{version}"
    test = [name, "-c", "import sys; print(sys.executable)"]
    env = os.environ | {"PYENV_VERSION": version}
    found = shutil.which(name)
    done = subprocess.run(test, env=env, capture_output=True, text=True) if found else None
    if done is None or done.returncode:
        raise Missing(f"{name} is not installed: install it and measure again")
    return done.stdout.strip()


def checkout(given: str | None) -> Path:
    """Return a checkout of PureJaxRL: the one that is given, or the pinned commit from GitHub.

    Raises:
        Missing: if there is none.
    """
    repository, commit = PUREJAXRL
    if given:
        if Path(given, "purejaxrl", "ppo.py").exists():
            return Path(given).resolve()
        raise Missing(f"{given} has no purejaxrl/ppo.py: give a checkout of {repository}")
    folder = ROOT / ".cache" / "purejaxrl"
    if commit_of(folder) != commit:
        shutil.rmtree(folder, ignore_errors=True)
        git = ["git", "-C", str(folder)]
        url = f"https://github.com/{repository}"
        try:
            _run(["git", "init", "-q", str(folder)], "git")
            _run([*git, "fetch", "-q", "--depth", "1", url, commit], "git", timeout=60)
            _run([*git, "checkout", "-q", "FETCH_HEAD"], "git")
        except Missing as error:
            wanted = f"give a checkout of {repository} at {commit[:7]} with --purejaxrl PATH"
            raise Missing(f"{url} cannot be fetched: {wanted}") from error
    return folder


def commit_of(folder: Path) -> str:
    """Return the commit of a checkout, or "" if the folder is none."""
    if not (folder / ".git").exists():
        return ""
    git = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def _run(command: Sequence[str], title: str, **how: Any) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, **how)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{title} cannot be installed: {error}") from error
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise Missing(f"{title} cannot be installed: {' '.join(last) or 'no word why'}")
