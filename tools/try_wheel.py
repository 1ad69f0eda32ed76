"""Try a wheel as a stranger would: in a clean environment, from an empty folder.

    python tools/try_wheel.py dist/jaxrl_pg-0.2.0-py3-none-any.whl      (make dist)

Looks first whether every file of src/ is in the wheel. Then installs it into a virtual environment
of its own, with the versions pinned for the Python that runs this, and there trains, resumes,
evaluates, loads and asks for help. Prints how long each step took; ends with an error at the first
that fails.
"""

import os
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints" / f"{sys.version_info.major}.{sys.version_info.minor}.txt"
RUN = ["--env", "CartPole-v1", "--total-timesteps", "10000", "--run-dir", "runs/first"]
LOAD = """
import sys
import jax, jaxrl_pg
assert jaxrl_pg.__file__.startswith(sys.prefix), jaxrl_pg.__file__
policy = jaxrl_pg.load("runs/first")
obs = jax.numpy.zeros((16, 4))
assert policy(obs).shape == (16,)
assert policy.step == 10, policy.step
print(jaxrl_pg.__version__)
"""


def missing(wheel: Path) -> list[str]:
    """Return the files of src/ that the wheel lacks."""
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
    files = (path for path in (ROOT / "src" / "jaxrl_pg").rglob("*") if path.is_file())
    names = (path.relative_to(ROOT / "src").as_posix() for path in files)
    return sorted(name for name in names if "__pycache__" not in name and name not in there)


def main(wheel: Path) -> None:
    """Try it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    print(f"{wheel.name}: {wheel.stat().st_size / 1e3:,.0f} kB", flush=True)
    if lacking := missing(wheel):
        raise SystemExit(f"not in the wheel: {', '.join(lacking)}: add them to package-data")
    # Nothing of the caller's: neither the repository nor its environment may be found.
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environ.setdefault("JAX_PLATFORMS", "cpu")
    with tempfile.TemporaryDirectory() as place:
        venv.create(Path(place) / "env", with_pip=True)
        programs = Path(place) / "env" / ("Scripts" if os.name == "nt" else "bin")
        python, command = programs / "python", programs / "jaxrl-pg"
        here = Path(place) / "empty"
        here.mkdir()

        def step(name: str, *words: str | Path, code: int = 0, says: str = "") -> None:
            began = time.monotonic()
            done = subprocess.run(
                words, cwd=here, env=environ, capture_output=True, text=True, check=False
            )
            if done.returncode != code or says not in done.stdout + done.stderr:
                raise SystemExit(
                    f"{name}: exit code {done.returncode}, expected {code} and {says!r} in\n"
                    f"{done.stdout}{done.stderr}"
                )
            print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)

        step("install", python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, wheel.absolute())
        step("versions fit", python, "-m", "pip", "check")
        step("help", command, "--help", says="usage: jaxrl-pg")
        step("version", command, "--version", says=project["version"])
        step("train", command, "train", "ppo", *RUN, says="everything is in runs/first")
        step("resume", command, "resume", "runs/first", "--total-timesteps", "20000")
        step("evaluate", command, "evaluate", "runs/first", says="iteration 10: return")
        step("load", python, "-c", LOAD, says=project["version"])
        step("no experiments", command, "sweep", "x", code=2, says="there is no folder experiments")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
