"""Sample folders to damage, and the property that everything which reads them must have.

The property: what is damaged is refused in one line and nothing on disk is changed by that, or the
result is right. The samples are made by an agent that learns nothing and compiles at once.
"""

import contextlib
import functools
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from fuzz_data import damaged_bytes
from hypothesis import strategies as st

import jaxrl_pg
from jaxrl_pg.config import BaseConfig
from jaxrl_pg.types import Agent, TrainState

SECONDS = 10  # within which everything must have been refused or read
LONGEST = 2_000  # characters that a line may have
HIDDEN = ("lock", "lock.owner")  # a lock that was taken and given back changes nothing


class Config(BaseConfig):
    """Nothing of its own."""


def _init(config: Config, key: jax.Array) -> TrainState[Any]:
    learner = {"kernel": jax.random.normal(key, (3, 4)), "bias": jnp.zeros(5)}
    return TrainState(learner, (), jnp.zeros((4, 2)), key, jnp.int32(0))


def _iterate(config: Config, state: TrainState[Any]):
    """Move every array, so that no two states are alike."""
    i = state.iteration + 1
    learner = jax.tree.map(lambda x: x + i / 8, state.learner)
    metrics = {"loss/total": 1.0 / i, "grad_norm": learner["bias"][0]}
    return TrainState(learner, (), state.memory + i, jax.random.split(state.key)[0], i), metrics


def _act(config, learner, obs, key, deterministic):
    return jnp.zeros(len(obs), jnp.int32)


def _value(config, learner, obs):
    return jnp.full(len(obs), learner["bias"][0])


TOY = Agent("toy", Config, _init, _iterate, _act, _value)
CONFIG = Config(num_envs=2, num_steps=4, total_timesteps=6 * 8)
OPTIONS = {"quiet": True, "num_evals": 3, "num_eval_episodes": 2, "keep_last": 99}


class Reached(BaseException):
    """Training would begin here. No `except Exception` of the library stops it."""


class Gate:
    """A logger at which a run stops before it trains."""

    def start(self, config, run_dir, timesteps):
        raise Reached

    def write(self, rows):
        pass

    def close(self):
        pass


@functools.cache
def sample_run() -> Path:
    """A finished run's folder with three checkpoints. Copy it; it is shared."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) / "run"
    jaxrl_pg.run(CONFIG, folder, 5, **OPTIONS)
    return folder


def forget_samples():
    """Remove the sample folders, and those below which they were damaged."""
    if sample_run.cache_info().currsize:
        shutil.rmtree(sample_run().parent)
    sample_run.cache_clear()


class Seen(NamedTuple):
    """A file, folder or link as it is on disk, without its times."""

    kind: int
    mode: int
    content: bytes


def forbidden_or_not(path: Path) -> bytes:
    """Read a file of our own, whatever its permissions say."""
    if os.access(path, os.R_OK):
        return path.read_bytes()
    mode = path.stat().st_mode
    path.chmod(0o600)
    content = path.read_bytes()
    path.chmod(mode)
    return content


def digest(root: Path) -> dict[str, Seen]:
    """What is below a folder, by path; links are not followed."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(folder, name)
            if name in HIDDEN:
                continue
            info = path.lstat()
            content = b""
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path).encode()
            elif stat.S_ISREG(info.st_mode):
                content = forbidden_or_not(path)
            kind = stat.S_IFMT(info.st_mode)
            found[str(path.relative_to(root))] = Seen(kind, stat.S_IMODE(info.st_mode), content)
    return found


@contextlib.contextmanager
def within(seconds: float):
    """Fail a block that does not end in time; give the test's own alarm back afterwards."""

    def stop(number, frame):
        raise AssertionError(f"no answer in {seconds} seconds")

    handler = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)


def require_line(message: str) -> None:
    """A message is one line that a person can read; only leaves that differ are a list."""
    assert message, "no message"
    if "does not fit this config:\n" in message:
        return
    assert len(message.splitlines()) == 1, f"more than one line: {message!r}"
    assert message.isprintable(), f"control characters: {message!r}"
    assert len(message) <= LONGEST, f"{len(message)} characters: {message[:200]!r}"


def answer_of(call, root: Path, named: str = "", but: str = "") -> tuple[Any, str]:
    """Return what a call returns, or None and the line in which it refuses.

    Where it refuses, the line says where (it has `named` in it, else a path below `root`), and
    nothing below `root` has changed, `but` this one file.
    """
    before = digest(root)
    try:
        with within(SECONDS):
            return call(), ""
    except (ValueError, OSError) as error:
        line = str(error)
    require_line(line)
    assert (named or str(root)) in line, f"it does not say where: {line}"
    after = digest(root)
    changed = {path for path in {**before, **after} if before.get(path) != after.get(path)} - {but}
    assert not changed, f"refused ({line}), and yet changed: {changed}"
    return None, line


@contextlib.contextmanager
def copied(sample: Path):
    """A folder that holds a copy of a sample, and beside it what must not be touched."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        root = Path(name)
        shutil.copytree(sample, root / sample.name)
        outside = root / "outside"
        outside.mkdir()
        (outside / "file").write_bytes(b"mine")
        (outside / "7").mkdir()
        (outside / "7" / "file").write_bytes(b"mine too")
        yield root


def remove(path: Path) -> None:
    """Remove a file, link or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def permissions_count() -> bool:
    """Whether this process may be forbidden to read a file; the system's own user may not."""
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0)
        return not os.access(file.name, os.R_OK)


@st.composite
def damage(draw, sample: Path):
    """A change of one file or folder of a copy: a name for it, the path, and a function."""
    paths = sorted(str(p.relative_to(sample)) for p in sample.rglob("*"))
    paths = [path for path in paths if not path.endswith("curve.png")]
    path = draw(st.sampled_from(paths))
    names = sorted(p.name for p in (sample / path).parent.iterdir() if p.is_dir())
    kinds = ["remove", "empty", "link", "loop", "dangling", "folder", "fifo", "move", "foreign"]
    if permissions_count():
        kinds.append("forbid")
    if (sample / path).is_file():
        kinds += ["bytes"] * 6
    kind = draw(st.sampled_from(kinds))
    data = b""
    if kind == "bytes":
        data = draw(damaged_bytes((sample / path).read_bytes()))
    numbers = [*names, "7", "99", "x.deleted", "3.deleted", "20260101", "4.damaged", "-1", "٣"]
    other = draw(st.sampled_from(numbers))

    def apply(run: Path) -> None:
        at, outside = run / path, run.parent / "outside"
        target = outside / ("7" if at.is_dir() else "file")
        if kind == "move":
            if not (at.parent / other).exists():
                at.rename(at.parent / other)
            return
        if kind == "foreign":
            foreign = (run / path).parent / other
            if not foreign.exists():
                foreign.mkdir()
                (foreign / "notes.txt").write_text("mine")
            return
        if kind == "forbid":
            at.chmod(0)
            return
        remove(at)
        match kind:
            case "empty" | "bytes":
                at.write_bytes(data)
            case "link":
                at.symlink_to(target)
            case "loop":
                at.symlink_to(at.name)
            case "dangling":
                at.symlink_to(outside / "new")
            case "folder":
                at.mkdir()
            case "fifo":
                os.mkfifo(at)

    detail = {"bytes": repr(data[:80]), "move": other, "foreign": other}.get(kind, "")
    return f"{kind} {path} {detail}", apply


def bits(tree) -> list[bytes]:
    """The bytes of every leaf, random keys too."""
    leaves = jax.tree.leaves(tree)
    plain = [
        jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in leaves
    ]
    return [np.asarray(x).tobytes() for x in plain]
