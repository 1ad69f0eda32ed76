"""The command line: what it refuses, in a line and before any work, and one run from end to end."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxrl_pg.cli import commands
from jaxrl_pg.envs import own
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.running.run_folder import RunFolder

CLI = [sys.executable, "-m", "jaxrl_pg.cli"]
TINY = [
    "--num-envs=8",
    "--num-steps=8",
    "--num-epochs=2",
    "--num-minibatches=2",
    "--learning-rate=0.01",
    "--total-timesteps=2560",
    "--num-evals=20",
    "--num-eval-episodes=2",
    "--hidden-sizes",
    "8",
    "8",
]
# Its programs are compiled by no other test, so that none is in memory.
OTHER = [*TINY, "--num-steps", "4"]
# Packages that take long to import; the late ones only when they are used.
LATE = {"gymnax", "matplotlib", "tensorboardX"}
HEAVY = LATE | {"jax", "numpy", "flax", "optax", "orbax", "rich"}


# JAX 0.9 logs an error, and goes on, for every program that it loads from its cache on a CPU.
LOGGING = {"TF_CPP_MIN_LOG_LEVEL": "3"} if jax.__version_info__ < (0, 10) else {}


@pytest.fixture(autouse=True)
def _settings_put_back():
    """Undo what the command line sets in JAX."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def keep_programs_in(folder):
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()


@pytest.fixture
def compiled(tmp_path):
    """Return a folder that gets a file for everything compiled."""
    folder = tmp_path.with_name(f"{tmp_path.name}-compiled")
    folder.mkdir()
    keep_programs_in(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Result(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def call(*command):
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = commands.main(command)
    return Result(code, out.getvalue(), err.getvalue())


def start(cache, *command, **environ):
    """Run a command in a process of its own."""
    return subprocess.run(
        [*CLI, *command],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), **LOGGING, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )


class Trained(NamedTuple):
    run_dir: Path
    result: subprocess.CompletedProcess
    cache: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run that a process has made, what it printed, and where its programs are."""
    folder = tmp_path_factory.mktemp("cli")
    command = ["train", "ppo", *TINY, "--seed", "3", "--run-dir", str(folder / "run")]
    return Trained(folder / "run", start(folder / "cache", *command), folder / "cache")


def refusal(capsys, *command):
    """Return what a refused command says: one line, with no frame around it."""
    assert commands.main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"jaxrl-pg: [^\n\u2500-\u257f]+\n", printed.err), printed.err
    return printed.err.removesuffix("\n")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian ppo", "unknown command 'trian': did you mean train? give one of: train"),
        ("train pop", "unknown agent 'pop': did you mean ppo? give one of: ppo"),
        ("train ppo --env CartPol-v1", "environment 'CartPol-v1': did you mean 'CartPole-v1'?"),
        ("train ppo --env-params masscar 2", "did you mean 'masscart'? allowed:"),
        (
            "train ppo --env-params length x",
            "env_params='length x': give pairs of a name and a number",
        ),
        (
            "train ppo --lerning-rate 1",
            "unknown option --lerning-rate: did you mean --learning-rate? `jaxrl-pg train ppo",
        ),
        ("train ppo --objective clp", "objective='clp': did you mean 'clip'?"),
        ("train ppo --activation relo", "activation='relo': did you mean 'relu'?"),
        ("train ppo --learning-rate fast", "learning_rate='fast': give a number"),
        ("train ppo --learning-rate 0", "learning_rate=0.0: give a number > 0"),
        ("train ppo --learning-rate nan", "learning_rate=nan: give a number > 0"),
        ("train ppo --num_envs=abc --gamma 0.5", "jaxrl-pg: num_envs='abc': give a whole number"),
        ("train ppo --config.seed 1", "unknown option --config.seed: did you mean --seed?"),
        ("train ppo --no-aneal-lr", "unknown option --no-aneal-lr: did you mean --no-anneal-lr?"),
        ("train ppo --zzz", "unknown option --zzz: `jaxrl-pg train ppo --help` lists all"),
        ("train ppo --hidden-sizes 8 x", "hidden_sizes='8 x': give whole numbers"),
        ("train ppo --clip-eps-vf x", "clip_eps_vf='x': give a number > 0, or None"),
        ("train ppo --clip-eps -1", "jaxrl-pg: clip_eps=-1.0: give a number > 0"),
        ("train ppo --gamma 1.5", "gamma=1.5: give a number from 0 to 1"),
        ("train ppo --num-envs 0", "num_envs=0: give a whole number >= 1"),
        ("train ppo --num-envs 1.5", "num_envs='1.5': give a whole number"),
        ("train ppo --hidden-sizes 8 0", "hidden_sizes=(8, 0): give a tuple of whole numbers"),
        ("train ppo --total-timesteps -1", "total_timesteps=-1: give a whole number >= 1"),
        ("train ppo --num-minibatches 7", "does not split into num_minibatches=7"),
        (
            "train ppo --num-envs 9 --num-devices 2",
            "num_envs=9 does not split over num_devices=2: give a multiple",
        ),
        ("train ppo --num-envs 80000000", "2,560,000,000 steps an iteration: lower one of them"),
        ("train ppo --num-evals -1", "num_evals=-1: give a whole number >= 0"),
        ("train ppo --num-eval-episodes 0", "num_eval_episodes=0: give a whole number >= 1"),
        ("train ppo --seed one", "seed='one': give a whole number"),
        ("train ppo --init-from nothing", "no run in nothing: expected nothing/config.json"),
        ("train ppo --run-dir", "run_dir has no value: give a text, or None"),
        ("train ppo extra", "unexpected 'extra': `jaxrl-pg train ppo --help` lists"),
        ("train ppo --process-id 1", "process_id=1 without coordinator: give HOST:PORT"),
        (
            "train ppo --coordinator here:1 --num-processes 2 --process-id 2",
            "process_id=2: give a whole number from 0 to 1 (num_processes=2)",
        ),
        (
            "train ppo --coordinator here:1 --num-processes 3 --process-id 0 --num-devices 2",
            "num_devices=2 do not split over num_processes=3: give a multiple",
        ),
        ("resume nothing --coordinator here", "coordinator='here': give HOST:PORT of process 0"),
        (
            "sweep nothing --launcher roy",
            "launcher='roy': did you mean ray? give one of: local, ray",
        ),
        ("sweep nothing --max-agents -1", "jaxrl-pg: max_agents=-1: give a whole number >= 0"),
        ("resume", "the run folder. (required)"),
        ("resume nothing", "no run in nothing: expected nothing/config.json"),
        (
            "resume nothing --total-timesteps many",
            "total_timesteps='many': give a whole number >= 1, or None",
        ),
        ("evaluate", "the folder of a run or of a saved policy"),
        ("evaluate nothing", "no run in nothing: expected nothing/config.json"),
        ("evaluate nothing --num-episodes 0", "num_episodes=0: give a whole number >= 1"),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(here, compiled, capsys, command, message):
    assert message in refusal(capsys, *command.split())
    assert list(here.iterdir()) == []
    assert not programs(compiled)


def programs(compiled):
    """Return the agent's programs among all that was compiled (drawing a key is one, too)."""
    names = [path.name for path in compiled.iterdir()]
    return [name for name in names if name.startswith(("jit_i", "jit_train", "jit_evaluat"))]


def test_what_does_not_fit_in_memory_is_refused(here, compiled, capsys, monkeypatch):
    monkeypatch.setattr(memory_estimate, "available", lambda: 10**5)
    message = refusal(capsys, "train", "ppo", "--run-dir", "run")
    assert "one iteration needs at least" in message
    assert "lower num_envs=64 or num_steps=32" in message
    assert list(here.iterdir()) == []
    assert not programs(compiled)


def test_a_folder_that_cannot_be_made_is_refused(here, compiled, capsys):
    (here / "file").write_text("")
    message = refusal(capsys, "train", "ppo", *OTHER, "--run-dir", "file/run")
    assert message == (
        "jaxrl-pg: cannot write file/run (file is not a folder): choose another run_dir"
    )
    assert [path.name for path in here.iterdir()] == ["file"]
    assert not programs(compiled)


def test_a_run_that_is_there_is_never_written_over(here, compiled, capsys, trained):
    run_dir = trained.run_dir
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    message = refusal(capsys, "train", "ppo", *OTHER, "--run-dir", str(run_dir))
    resume = f"jaxrl-pg resume {run_dir}"
    assert f"already holds a run (ppo on CartPole-v1): resume it with `{resume}`" in message
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before
    assert not programs(compiled)


def test_runs_and_checkpoints_that_are_there_are_named(here, capsys, trained):
    run_dir = trained.run_dir
    message = refusal(capsys, "evaluate", str(run_dir.with_name("runn")))
    assert message.endswith(f"did you mean {run_dir}?")
    message = refusal(capsys, "evaluate", str(run_dir), "--step", "77")
    assert re.search(r"no checkpoint 77 in .*run/checkpoints: choose from \[.*38, 40\]$", message)
    with RunFolder.open(run_dir):
        assert "is in use by process" in refusal(capsys, "resume", str(run_dir))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is not JSON"),
        ('{"agent": "ppo"}', "config.json has no good 'config'"),
        ('{"agent": "ppo", "config": 3, "options": {}}', "$.config: expected object, got int"),
    ],
)
@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_broken_config_is_refused(here, capsys, trained, command, text, message):
    shutil.copytree(trained.run_dir, here / "run")
    (here / "run" / "config.json").write_text(text)
    assert message in refusal(capsys, command, "run")


def test_a_diverged_run_ends_with_status_1_and_one_line(here, trained, capsys):
    keep_programs_in(trained.cache)
    command = ["train", "ppo", *TINY, "--learning-rate", "1e30", "--run-dir", "run"]
    assert commands.main(command) == 1
    first, compiling, error = capsys.readouterr().err.splitlines()
    assert first.endswith(", in run")
    assert compiling == "compiling"
    assert error.startswith("jaxrl-pg: ")
    assert "in iteration 1; none was saved yet. Likely causes: learning_rate" in error


# --- help and imports -----------------------------------------------------------------------------


def python(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def imported(code):
    """Return the packages in memory after some code."""
    last = python(f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})")
    return set(last.splitlines()[-1].split())


def test_help_needs_no_library():
    every = "[['--help'], ['help'], ['-h'], []]"
    code = f"from jaxrl_pg.cli import main; assert [main(x) for x in {every}] == [0] * 4"
    assert not HEAVY & imported(code)
    code = "from jaxrl_pg.cli import main; main(['train', 'ppo', '--help'])"
    assert HEAVY & imported(code) <= {"numpy"}  # the ranges of fields know its numbers


def test_help_answers_at_once():
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        text = python("from jaxrl_pg.cli import main; main(['--help'])")
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.5
    for word in ("train", "resume", "evaluate", "ppo", "--help"):
        assert word in text


def test_importing_the_package_imports_nothing_else():
    shown = "print(*{name.split('.')[0] for name in sys.modules})"
    alone, some, agents, every = python(
        f"""if True:
        import sys, jaxrl_pg; {shown}
        from jaxrl_pg import ppo, train, run; {shown}
        print(*(name for name in sys.modules if name.startswith("jaxrl_pg.agents.")))
        [getattr(jaxrl_pg, name) for name in jaxrl_pg.__all__]; {shown}"""
    ).splitlines()
    assert not HEAVY & set(alone.split())
    assert not (LATE | {"orbax"}) & set(some.split())
    assert agents == "jaxrl_pg.agents.ppo"
    assert not LATE & set(every.split())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("help train sac", ["usage: jaxrl-pg train sac", "--learn-alpha"]),
        ("train --help", ["usage: jaxrl-pg train ppo", "--learning-rate FLOAT"]),
        ("train ppo --help", ["--learning-rate FLOAT", "Adam's step size", "--run-dir", "--quiet"]),
        ("resume --help", ["--total-timesteps", "the run folder"]),
        ("evaluate --help", ["--num-episodes INT", "--stochastic"]),
    ],
)
def test_every_command_explains_its_options(capsys, command, words):
    assert commands.main(command.split()) == 0
    printed = capsys.readouterr().out
    for word in words:
        assert word in printed


# --- from end to end ------------------------------------------------------------------------------


def test_train_says_what_came_out_and_where(trained):
    run_dir, result, _ = trained
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    rows = RunFolder.open(run_dir).rows()
    assert last == (
        f"return {rows[-1]['eval/return_mean']:.2f} after 2,560 steps; everything is in {run_dir}"
    )
    first, second, *_ = result.stderr.splitlines()
    assert re.fullmatch(rf"ppo on CartPole-v1: 2,560 steps on \d x cpu, in {run_dir}", first)
    assert second == "compiling"
    assert "100%  2,560/2,560" in result.stderr
    (line,) = (run_dir / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["command"].startswith("jaxrl-pg train ppo --num-envs=8")
    saved = json.loads((run_dir / "config.json").read_text())
    assert saved["seed"] == 3
    assert saved["config"]["hidden_sizes"] == [8, 8]
    assert saved["options"]["num_evals"] == 20


def test_train_starts_from_an_old_policy(here, trained):
    one = [*TINY, "--total-timesteps", "64", "--num-evals", "0", "--env-params", "gravity", "20"]
    result = call("train", "ppo", *one, "--init-from", str(trained.run_dir), "--run-dir", "new")
    assert result.returncode == 0, result.stderr
    first = f"starting from {trained.run_dir} (ppo, iteration 40): all its networks"
    assert result.stdout.splitlines()[0] == first
    assert (here / "new" / "checkpoints" / "0").is_dir()


def test_a_class_of_ones_own_is_trained_in_and_found_again(here, monkeypatch):
    """By `--env module:Class`; the folder alone is enough to go on with the run."""
    code = "from corridor import Corridor\n\nclass Maze(Corridor):\n    name = 'Maze'\n"
    (here / "cli_maze.py").write_text(code)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    one = [*TINY, "--total-timesteps", "1.28e2", "--num-evals", "2", "--quiet"]
    trained = call("train", "ppo", *one, "--env", "cli_maze:Maze", "--run-dir", "run")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((here / "run" / "config.json").read_text())["env"] == "python:cli_maze:Maze"
    shutil.rmtree(here / "run" / "checkpoints" / "2")
    own.make.cache_clear()
    monkeypatch.delitem(sys.modules, "cli_maze")
    resumed = call("resume", "run")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert call("evaluate", "run", "--num-episodes", "2").stdout.startswith("iteration 2: return")


def test_seeds_are_trained_side_by_side(here):
    one = [*TINY, "--total-timesteps", "64", "--num-evals", "1"]
    result = call("train", "ppo", *one, "--seeds", "2", "--seed", "4", "--run-dir", "run")
    assert result.returncode == 0, result.stderr
    assert re.match(r"return [\d.]+ \+- [\d.]+ between seeds after 64 steps; ", result.stdout)
    assert "ppo on CartPole-v1, seeds 4 to 5: 64 steps" in result.stderr


def test_its_programs_were_kept_on_disk(trained):
    names = os.listdir(trained.cache)
    assert any(name.startswith("jit_iterations") for name in names)
    assert any(name.startswith("jit_init") for name in names)


def test_evaluate_prints_the_return_of_a_checkpoint(trained):
    keep_programs_in(trained.cache)
    command = ["evaluate", str(trained.run_dir), "--num-episodes", "3", "--seed", "5"]
    result = call(*command)
    assert result.returncode == 0
    assert result.stdout.startswith("iteration 40: return ")
    assert " over 3 episodes (lowest " in result.stdout
    assert call(*command).stdout == result.stdout
    assert call(*command, "--step", "38").stdout.startswith("iteration 38: return ")


def stopped(run_dir, finished):
    """Make a copy of a finished run that lacks its last checkpoint."""
    shutil.copytree(finished, run_dir)
    shutil.rmtree(run_dir / "checkpoints" / "40")


def assert_resumed(run_dir, finished, result):
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout == ""
    rows = [RunFolder.open(run).rows() for run in (run_dir, finished)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds", None)
    assert rows[0] == rows[1]


def test_resume_goes_on_from_the_newest_checkpoint(here, trained):
    keep_programs_in(trained.cache)
    stopped(here / "run", trained.run_dir)
    assert_resumed(here / "run", trained.run_dir, call("resume", "run", "--quiet"))


@pytest.mark.slow
def test_processes_evaluate_and_resume_what_one_has_trained(here):
    """With programs as users have them."""
    as_users = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}
    cache = here / "cache"
    train = ["train", "ppo", *TINY, "--seed", "3", "--run-dir", "one"]
    assert start(cache, *train, **as_users).returncode == 0
    command = ["evaluate", "one", "--num-episodes", "3", "--seed", "5"]
    result = start(cache, *command, **as_users)
    assert result.returncode == 0, result.stderr
    assert call(*command).stdout == result.stdout
    stopped(here / "run", here / "one")
    resumed = start(cache, "resume", "run", "--quiet", "True", **as_users)
    assert_resumed(here / "run", here / "one", resumed)
