"""Try what is to be released as a stranger would: in a clean environment, from an empty folder.

    python tools/try_dist.py dist      (make dist)

Looks first whether every file of src/ is in the wheel, and that the source distribution holds what
it takes to build and test, and nothing that was made here. Then installs the wheel into a virtual
environment of its own, with the versions pinned for the Python that runs this, and there trains,
resumes, evaluates, loads and asks for help. Prints how long each step took; ends with an error at
the first that fails.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints" / f"{sys.version_info.major}.{sys.version_info.minor}.txt"
NEEDED = {
    *("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "Makefile", "pyproject.toml"),
    *("constraints", "docs", "examples", "experiments", "src", "tests", "tools"),
}
MADE_HERE = {"runs", "dist", "build", "wandb", "__pycache__"}  # and what is hidden, but for .ci
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


def require_sound(sdist: Path) -> None:
    """Refuse a source distribution that lacks something, or holds what was made here."""
    with tarfile.open(sdist) as archive:
        names = [name.split("/")[1:] for name in archive.getnames()]
    parts = [part for name in names for part in name]
    odd = {part for part in parts if part in MADE_HERE or part.startswith(".")} - {".ci"}
    lacking = NEEDED - {name[0] for name in names if name}
    if odd or lacking:
        raise SystemExit(
            f"{sdist.name} holds {sorted(odd)} or lacks {sorted(lacking)}: MANIFEST.in"
        )


def main(folder: Path) -> None:
    """Try what is in the folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    if lacking := missing(wheel):
        raise SystemExit(f"not in the wheel: {', '.join(lacking)}: add them to package-data")
    require_sound(sdist)
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
