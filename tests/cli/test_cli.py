"""The command line: what it refuses, in a line and before any work, and one run from end to end."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxrl_pg.cli import commands
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.running.run_folder import RunFolder

CLI = [sys.executable, "-c", "import sys; from jaxrl_pg.cli import main; sys.exit(main())"]
TINY = [
    *("--num-envs", "8", "--num-steps", "8", "--num-epochs", "2", "--num-minibatches", "2"),
    *("--hidden-sizes", "8", "8", "--learning-rate", "0.01", "--total-timesteps", "2560"),
    *("--num-evals", "20", "--num-eval-episodes", "2"),
]
# Packages that take long to import; the late ones only when they are used.
LATE = {"gymnax", "matplotlib", "tyro", "tensorboardX"}
HEAVY = LATE | {"jax", "numpy", "flax", "optax", "orbax", "rich"}


# JAX 0.9 logs an error, and goes on, for every program that it loads from its cache on a CPU.
LOGGING = {"TF_CPP_MIN_LOG_LEVEL": "3"} if jax.__version_info__ < (0, 10) else {}


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return {
        **os.environ,
        **LOGGING,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "compiled"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
        "XLA_FLAGS": "",
    }


@pytest.fixture(autouse=True)
def compiled(tmp_path_factory):
    """A folder that gets a file for everything compiled; JAX's settings are put back."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    folder = tmp_path_factory.mktemp("compiled")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(environ, tmp_path_factory):
    """A run that the command line made, and what it printed."""
    run_dir = tmp_path_factory.mktemp("cli") / "run"
    command = ["train", "ppo", *TINY, "--seed", "3", "--run-dir", str(run_dir)]
    return run_dir, call(environ, *command)


def call(environ, *command):
    return subprocess.run(
        [*CLI, *command], env=environ, capture_output=True, text=True, timeout=120
    )


def refusal(capsys, *command):
    """What a refused command says: one line, with no frame around it."""
    assert commands.main(command) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"jaxrl-pg: [^\n\u2500-\u257f]+\n", printed.err), printed.err
    return printed.err.removesuffix("\n")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian ppo", "unknown command 'trian': give one of: train, resume,"),
        ("train pop", "unknown agent 'pop': give one of: ppo"),
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
        ("train ppo --learning-rate 0", "learning_rate=0.0: give a number >= 1e-12"),
        ("train ppo --learning-rate nan", "learning_rate=nan: give a number >= 1e-12"),
        ("train ppo --num_envs=abc --gamma 0.5", "jaxrl-pg: num_envs='abc': give a whole number"),
        ("train ppo --no-aneal-lr", "unknown option --no-aneal-lr: did you mean --no-anneal-lr?"),
        ("train ppo --zzz", "unknown option --zzz: `jaxrl-pg train ppo --help` lists all"),
        ("train ppo --hidden-sizes 8 x", "hidden_sizes='8 x': give whole numbers"),
        ("train ppo --clip-eps-vf x", "clip_eps_vf='x': give a number, or None"),
        ("train ppo --clip-eps -1", "jaxrl-pg: clip_eps=-1.0: give a number >= 1e-12"),
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
        ("train ppo --num-envs 80000000", "beyond the 2^31 rows that can be indexed: lower one"),
        ("train ppo --num-evals -1", "num_evals=-1: give a whole number >= 0"),
        ("train ppo --num-eval-episodes 0", "num_eval_episodes=0: give a whole number >= 1"),
        ("train ppo --seed one", "seed='one': give a whole number"),
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
        ("sweep nothing --launcher roy", "launcher='roy': give one of: local, ray"),
        ("sweep nothing --max-agents -1", "jaxrl-pg: max_agents=-1: give a number >= 0"),
        ("resume", "the run folder. (required)"),
        ("resume nothing", "no run in nothing: expected nothing/config.json"),
        (
            "resume nothing --total-timesteps many",
            "total_timesteps='many': give a whole number, or None",
        ),
        ("evaluate", "the run folder. (required)"),
        ("evaluate nothing", "no run in nothing: expected nothing/config.json"),
        ("evaluate nothing --num-episodes 0", "num_episodes=0: give a whole number >= 1"),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(here, compiled, capsys, command, message):
    assert message in refusal(capsys, *command.split())
    assert list(here.iterdir()) == []
    assert not programs(compiled)


def programs(compiled):
    """The agent's programs among all that was compiled (drawing a key is one, too)."""
    names = [path.name for path in compiled.iterdir()]
    return [name for name in names if name.startswith(("jit_i", "jit_train", "jit_evaluat"))]


def test_what_does_not_fit_in_memory_is_refused(here, compiled, capsys, monkeypatch):
    monkeypatch.setattr(memory_estimate, "available", lambda: 10**5)
    message = refusal(capsys, "train", "ppo", "--run-dir", "run")
    assert "one iteration needs about" in message
    assert "lower num_envs=64 or num_steps=32" in message
    assert list(here.iterdir()) == []
    assert not programs(compiled)


def test_a_folder_that_cannot_be_made_is_refused(here, compiled, capsys):
    (here / "file").write_text("")
    message = refusal(capsys, "train", "ppo", *TINY, "--run-dir", "file/run")
    assert message == (
        "jaxrl-pg: cannot write file/run (file is not a folder): choose another --run-dir"
    )
    assert [path.name for path in here.iterdir()] == ["file"]
    assert not programs(compiled)


def test_a_run_that_is_there_is_never_written_over(here, compiled, capsys, trained):
    run_dir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    message = refusal(capsys, "train", "ppo", *TINY, "--run-dir", str(run_dir))
    resume = f"jaxrl-pg resume {run_dir}"
    assert f"already holds a run (ppo on CartPole-v1): resume it with `{resume}`" in message
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before
    assert not programs(compiled)


def test_runs_and_checkpoints_that_are_there_are_named(here, capsys, trained):
    run_dir, _ = trained
    message = refusal(capsys, "evaluate", str(run_dir.with_name("runn")))
    assert message.endswith(f"did you mean {run_dir}?")
    message = refusal(capsys, "evaluate", str(run_dir), "--checkpoint", "77")
    assert re.search(r"no checkpoint 77 in .*run/checkpoints: choose from \[.*38, 40\]$", message)
    with RunFolder.open(run_dir):
        assert "is in use by process" in refusal(capsys, "resume", str(run_dir))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json holds no JSON object"),
        ('{"agent": "ppo"}', "config.json has no good 'config'"),
        ('{"agent": "ppo", "config": 3, "options": {}}', "config.json has no good 'config'"),
    ],
)
@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_a_broken_config_is_refused(here, capsys, trained, command, text, message):
    shutil.copytree(trained[0], here / "run")
    (here / "run" / "config.json").write_text(text)
    assert message in refusal(capsys, command, "run")


def test_a_diverged_run_ends_with_status_1_and_one_line(here, environ, capsys):
    jax.config.update("jax_compilation_cache_dir", environ["JAX_COMPILATION_CACHE_DIR"])
    command = ["train", "ppo", *TINY, "--learning-rate", "1e30", "--run-dir", "run"]
    assert commands.main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("jaxrl-pg: ")
    assert "in iteration 1; none was saved yet. Likely causes: learning_rate" in error
    assert error.count("\n") == 1


# --- help and imports -----------------------------------------------------------------------------


def python(code):
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def imported(code):
    """Packages in memory after some code."""
    last = python(f"{code}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})")
    return set(last.splitlines()[-1].split())


@pytest.mark.parametrize("argument", ["'--help'", "'help'", "'-h'", ""])
def test_help_needs_no_library(argument):
    code = f"from jaxrl_pg.cli import main; assert main([{argument}]) == 0"
    assert not HEAVY & imported(code)


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
    assert not HEAVY & imported("import jaxrl_pg")
    every = "import jaxrl_pg; [getattr(jaxrl_pg, name) for name in jaxrl_pg.__all__]"
    assert not LATE & imported(every)
    assert not (LATE | {"orbax"}) & imported("from jaxrl_pg import ppo, train, evaluate")


@pytest.mark.parametrize(
    ("command", "words"),
    [
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


def test_train_says_what_came_out_and_where(trained, environ):
    run_dir, result = trained
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    rows = RunFolder.open(run_dir).rows()
    assert last == (
        f"return {rows[-1]['eval/return_mean']:.2f} after 2,560 steps; everything is in {run_dir}"
    )
    assert "100%  2,560/2,560" in result.stderr
    saved = json.loads((run_dir / "config.json").read_text())
    assert saved["seed"] == 3
    assert saved["config"]["hidden_sizes"] == [8, 8]
    assert saved["options"]["num_evals"] == 20


def test_its_programs_were_kept_on_disk(trained, environ):
    names = os.listdir(environ["JAX_COMPILATION_CACHE_DIR"])
    assert any(name.startswith("jit_iterations") for name in names)
    assert any(name.startswith("jit_init") for name in names)


def test_evaluate_prints_the_return_of_a_checkpoint(trained, environ, capsys):
    command = ["evaluate", str(trained[0]), "--num-episodes", "3", "--seed", "5"]
    result = call(environ, *command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("iteration 40: return ")
    assert " over 3 episodes (lowest " in result.stdout
    assert commands.main(command) == 0
    assert capsys.readouterr().out == result.stdout
    assert commands.main([*command, "--checkpoint", "38"]) == 0
    assert capsys.readouterr().out.startswith("iteration 38: return ")


def test_resume_goes_on_from_the_newest_checkpoint(here, trained, environ):
    shutil.copytree(trained[0], here / "run")
    shutil.rmtree(here / "run" / "checkpoints" / "40")
    result = call(environ, "resume", "run", "--quiet", "True")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "after 2,560 steps; everything is in run" in result.stdout
    rows = [RunFolder.open(run).rows() for run in (here / "run", trained[0])]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds", None)
    assert rows[0] == rows[1]
