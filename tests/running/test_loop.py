"""The host loop: what a run leaves behind, and that stopping it, even rudely, changes nothing."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxrl_pg
from jaxrl_pg import checkpoint, cli, ppo
from jaxrl_pg.running import loop, run_folder
from jaxrl_pg.running.interrupt import Interrupt
from jaxrl_pg.running.loop import DivergedError, Options
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.training import devices, program
from jaxrl_pg.training.program import chunk_length, evaluation_iterations

SIZES = {
    "num_envs": 8,
    "num_steps": 8,
    "num_epochs": 2,
    "num_minibatches": 2,
    "hidden_sizes": (8, 8),
}
STEPS = 64  # of an iteration
NUM = 40  # iterations
CONFIG = ppo.Config(**SIZES, learning_rate=0.01, total_timesteps=NUM * STEPS)
OPTIONS = {"quiet": True, "num_evals": 20, "num_eval_episodes": 2}  # chunks of two iterations
SEED = 3
CLI = [sys.executable, "-c", "import sys; from jaxrl_pg.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed: what those that are stopped and killed are compared with."""
    return jaxrl_pg.run(CONFIG, tmp_path_factory.mktemp("runs") / "run", SEED, **OPTIONS)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished run, to damage."""
    return shutil.copytree(finished.run_dir, tmp_path / "copy")


def assert_same_state(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True
    ):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        name = jax.tree_util.keystr(path)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=name, strict=True)


def rows_of(run_dir):
    """Every row without its wall-clock time."""
    rows = run_folder.RunFolder.open(run_dir).rows()
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_run(run_dir, reference):
    """State, rows and checkpoints are those of the run that was never stopped."""
    policy = jaxrl_pg.load(run_dir)
    assert policy.step == reference.config.num_iterations
    assert_same_state(policy.state, reference.state)
    assert rows_of(run_dir) == rows_of(reference.run_dir)
    kept = [checkpoint.steps(folder / "checkpoints") for folder in (run_dir, reference.run_dir)]
    assert kept[0][-2:] == kept[1][-2:]


def snapshot(folder):
    """Every file's bytes; the lock is nobody's result."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def edit_config(run_dir, part, **changes):
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values[part].update(changes)
    path.write_text(json.dumps(values))


# --- what is learned ------------------------------------------------------------------------------


def test_a_run_learns_what_train_learns_bit_for_bit(finished):
    state, metrics = jax.jit(jaxrl_pg.train)(CONFIG, jax.random.key(SEED))
    assert_same_state(finished.state, state)
    for name, values in metrics.items():
        np.testing.assert_array_equal(finished.metrics[name], values, err_msg=name)


@pytest.mark.parametrize("options", [{"num_evals": 0, "checkpoint_seconds": 0}, {"num_evals": 8}])
def test_how_often_it_evaluates_and_saves_changes_nothing(finished, options, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "_CHUNK_TIMESTEPS", 5 * STEPS)
    result = jaxrl_pg.run(CONFIG, tmp_path / "run", SEED, **{**OPTIONS, "keep_last": 99, **options})
    assert_same_state(result.state, finished.state)
    for name in set(finished.metrics) - {"seconds"}:
        if "eval/" not in name:
            np.testing.assert_array_equal(result.metrics[name], finished.metrics[name])
    assert checkpoint.steps(result.run_dir / "checkpoints") == list(range(5, NUM + 1, 5))
    assert len(result.metrics.get("eval/return_mean", ())) == options["num_evals"]


def test_chunks_divide_the_run_and_end_where_it_is_evaluated():
    for num_iterations in range(1, 40):
        config = CONFIG.replace(total_timesteps=num_iterations * STEPS)
        for num_evals in (0, 1, 3, 10, 100):
            chunk = chunk_length(config, num_evals)
            points = evaluation_iterations(config, num_evals)
            assert num_iterations % chunk == 0
            assert all(point % chunk == 0 for point in points)
            assert points == sorted(set(points))
            assert points[-1:] == ([num_iterations] if num_evals else [])
            assert len(points) == min(num_evals, num_iterations // chunk)


# --- what is left behind --------------------------------------------------------------------------


def test_the_folder_holds_the_config_the_rows_the_curve_and_checkpoints(finished):
    names = {path.name for path in finished.run_dir.iterdir()}
    files = {"config.json", "metrics.jsonl", "history.jsonl", "curve.png", "lock"}
    assert names == {*files, "checkpoints"}
    assert (finished.run_dir / "curve.png").read_bytes().startswith(b"\x89PNG")
    saved = checkpoint.steps(finished.run_dir / "checkpoints")
    assert saved[-3:] == [NUM - 4, NUM - 2, NUM]
    assert len(saved) <= 4  # the best is kept as well


def test_config_json_says_all_that_was_asked(finished):
    saved = json.loads((finished.run_dir / "config.json").read_text())
    assert saved["agent"] == "ppo"
    assert saved["env"] == "CartPole-v1"
    assert saved["seed"] == SEED
    assert saved["options"] == dataclasses.asdict(Options(**OPTIONS))
    again = ppo.Config(**{**saved["config"], "hidden_sizes": (8, 8)})
    assert again == CONFIG


def test_there_is_a_row_for_each_iteration_and_each_evaluation(finished):
    rows = run_folder.RunFolder.open(finished.run_dir).rows()
    evaluations = [row for row in rows if "eval/return_mean" in row]
    iterations = [row for row in rows if "loss/policy" in row]
    assert len(rows) == len(evaluations) + len(iterations)
    assert [row["iteration"] for row in rows][:6] == [1, 2, 2, 3, 4, 4]
    assert [row["iteration"] for row in iterations] == list(range(1, NUM + 1))
    assert [row["iteration"] for row in evaluations] == list(range(2, NUM + 1, 2))
    assert all(row["timesteps"] == STEPS * row["iteration"] for row in rows)
    shared = {"iteration", "timesteps"}
    statistics = {"return_mean", "return_std", "length_mean", "finished", "num_episodes"}
    assert all(set(row) == shared | {f"eval/{s}" for s in statistics} for row in evaluations)
    assert all(set(row) == set(iterations[0]) for row in iterations)
    assert {"seconds", "grad_norm", "train/return_mean"} < set(iterations[0])
    seconds = [row["seconds"] for row in iterations]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_the_result_holds_the_rows_by_column(finished):
    assert finished.config == CONFIG
    assert int(finished.state.iteration) == NUM
    steps = STEPS * np.arange(1, NUM + 1)
    np.testing.assert_array_equal(finished.metrics["timesteps"], steps)
    np.testing.assert_array_equal(finished.metrics["eval/timesteps"], steps[1::2])
    assert finished.metrics["eval/return_mean"].shape == (20,)
    assert np.all(np.isfinite(finished.metrics["eval/return_mean"]))
    unknown = np.isnan(finished.metrics["train/return_mean"])
    np.testing.assert_array_equal(unknown, finished.metrics["train/episodes"] == 0)


def test_a_quiet_run_prints_nothing_and_another_its_progress(copied, capfd):
    jaxrl_pg.resume(copied)
    assert capfd.readouterr() == ("", "")
    shutil.rmtree(copied / "checkpoints" / str(NUM))
    jaxrl_pg.resume(copied, quiet=False)
    assert "100%  2,560/2,560" in capfd.readouterr().err


# --- going on -------------------------------------------------------------------------------------


def interrupt_at(monkeypatch, timesteps):
    """Send this process SIGINT once, after the rows of the chunk that ends there are shown."""
    update = Progress.update

    def update_and_interrupt(progress, done, row):
        update(progress, done, row)
        if done == timesteps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Progress, "update", update_and_interrupt)


def test_half_a_run_and_the_rest_are_the_whole(finished, tmp_path, monkeypatch):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        interrupt_at(patch, CONFIG.total_timesteps // 2)
        with pytest.raises(KeyboardInterrupt, match=f"jaxrl-pg resume {tmp_path}"):
            jaxrl_pg.run(CONFIG, tmp_path / "run", SEED, **OPTIONS)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == NUM // 2
    jaxrl_pg.resume(tmp_path / "run")
    assert_same_run(tmp_path / "run", finished)


def test_a_finished_run_is_resumed_by_doing_nothing(finished, copied, monkeypatch):
    monkeypatch.setattr(loop.Session, "advance", None)  # it would be called to train
    rows = rows_of(copied)
    result = jaxrl_pg.resume(copied)
    assert_same_state(result.state, finished.state)
    assert rows_of(copied) == rows
    np.testing.assert_array_equal(result.metrics["loss/policy"], finished.metrics["loss/policy"])


def test_a_run_of_an_earlier_version_keeps_its_minutes_as_seconds(copied):
    path = copied / "config.json"
    values = json.loads(path.read_text())
    assert values["options"].pop("checkpoint_seconds") == 300.0
    values["options"]["checkpoint_minutes"] = 2.5
    path.write_text(json.dumps(values))
    jaxrl_pg.resume(copied)
    options = json.loads(path.read_text())["options"]
    assert options == {**dataclasses.asdict(Options(**OPTIONS)), "checkpoint_seconds": 150.0}
    with pytest.raises(ValueError, match="unknown option 'checkpoint_minutes': did you mean"):
        jaxrl_pg.resume(copied, checkpoint_minutes=1)


def test_fewer_timesteps_than_are_done_are_refused(copied):
    before = (copied / "config.json").read_text()
    done = CONFIG.num_iterations * STEPS
    with pytest.raises(ValueError, match=rf"total_timesteps=64 but .* has done {done:,} steps"):
        jaxrl_pg.resume(copied, total_timesteps=64)
    assert (copied / "config.json").read_text() == before


def test_more_timesteps_go_on_from_the_end(finished, copied):
    before = rows_of(copied)
    result = jaxrl_pg.resume(copied, total_timesteps=44 * STEPS, num_evals=0)
    assert int(result.state.iteration) == 44
    assert result.config.total_timesteps == 44 * STEPS
    assert rows_of(copied)[: len(before)] == before
    np.testing.assert_array_equal(result.metrics["timesteps"], STEPS * np.arange(1, 45))
    # From here on the learning rate falls along the new line, to 0 at iteration 44.
    line = 0.01 * (1 - np.arange(40, 44) / 44)
    np.testing.assert_allclose(result.metrics["learning_rate"][40:], line, rtol=1e-5)
    saved = json.loads((copied / "config.json").read_text())
    assert saved["config"]["total_timesteps"] == 44 * STEPS
    assert saved["options"]["num_evals"] == 0
    assert jaxrl_pg.load(copied).step == 44


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(finished, copied, capsys):
    arrays = copied / "checkpoints" / str(NUM) / "state" / "manifest.ocdbt"
    arrays.write_bytes(arrays.read_bytes()[:-9])
    jaxrl_pg.resume(copied, quiet=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"checkpoint {NUM} is damaged (")
    assert lines[0].endswith(f", set aside as {NUM}.damaged; restored {NUM - 2}")
    assert_same_run(copied, finished)


def test_what_is_not_the_runs_own_is_passed_over_and_stays(finished, copied, capsys):
    saves = copied / "checkpoints"
    (saves / str(NUM)).rename(saves / str(NUM + 4))
    (saves / "x.deleted").write_text("mine")
    (saves / "20260101").mkdir()
    (saves / "20260101" / "notes").write_text("mine")
    jaxrl_pg.resume(copied)
    assert capsys.readouterr().err == (
        f"checkpoint {NUM + 4} is not what its name says (it was saved as checkpoint {NUM}), "
        f"set aside as {NUM + 4}.damaged; restored {NUM - 2}\n"
    )
    assert_same_run(copied, finished)
    assert (saves / "x.deleted").read_text() == (saves / "20260101" / "notes").read_text() == "mine"


def test_a_run_of_an_earlier_version_without_an_id_goes_on(finished, copied):
    edited = json.loads((copied / "config.json").read_text())
    del edited["run"]
    (copied / "config.json").write_text(json.dumps(edited))
    for step in checkpoint.steps(copied / "checkpoints"):
        path = copied / "checkpoints" / str(step) / "_CHECKPOINT_METADATA"
        metadata = json.loads(path.read_text())
        del metadata["custom_metadata"]["manifest"]["run"]
        sealed = checkpoint.manifest.seal(metadata["custom_metadata"]["manifest"])
        path.write_text(json.dumps({**metadata, "custom_metadata": sealed}))
    shutil.rmtree(copied / "checkpoints" / str(NUM))
    jaxrl_pg.resume(copied)
    assert_same_run(copied, finished)
    assert "run" not in json.loads((copied / "config.json").read_text())


def test_what_was_evaluated_and_trained_past_the_checkpoint_is_not_counted_twice(finished, copied):
    for step in (NUM - 2, NUM):
        shutil.rmtree(copied / "checkpoints" / str(step))
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 41, "timesteps"')  # torn by a kill
    jaxrl_pg.resume(copied)
    assert_same_run(copied, finished)


# --- being stopped --------------------------------------------------------------------------------


def train_command(run_dir):
    return [
        *("train", "ppo", "--num-envs", "8", "--num-steps", "8", "--num-epochs", "2"),
        *("--num-minibatches", "2", "--hidden-sizes", "8", "8", "--learning-rate", "0.01"),
        *("--total-timesteps", str(CONFIG.total_timesteps), "--run-dir", str(run_dir)),
        *("--seed", str(SEED), "--num-evals", "20", "--num-eval-episodes", "2"),
    ]


def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(finished, tmp_path, monkeypatch, capfd):
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(devices, "prepare", lambda num_devices: None)  # JAX is in use already
        interrupt_at(patch, 8 * STEPS)
        status = cli.main(train_command(run_dir))
    printed, errors = capfd.readouterr()
    output = printed + errors
    assert status == 130, output
    saved = checkpoint.steps(run_dir / "checkpoints")[-1]
    assert rows_of(run_dir)[-1]["iteration"] == saved == 8
    last = output.splitlines()[-1]
    assert last == f"interrupted: saved; go on with: jaxrl-pg resume {run_dir}"
    assert "Traceback" not in output
    jaxrl_pg.resume(run_dir, quiet=True)
    assert_same_run(run_dir, finished)


def test_killed_in_another_process_it_ends_as_if_never_killed(finished, tmp_path):
    run_dir = tmp_path / "run"
    metrics, saves = run_dir / "metrics.jsonl", run_dir / "checkpoints"
    process = subprocess.Popen(
        [*CLI, *train_command(run_dir)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while process.poll() is None:
        if checkpoint.steps(saves) and metrics.read_bytes().count(b"\n") >= 9:
            break
        time.sleep(0.005)
    process.kill()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    jaxrl_pg.resume(run_dir, quiet=True)
    assert_same_run(run_dir, finished)


class KilledError(Exception):
    """Ends a save where a process is killed."""


def kill_at(monkeypatch, run_dir, operation, is_there, left_behind):
    """End a run before a file operation of a save, and copy the folder as a kill would leave it.

    Args:
        monkeypatch: undoes it.
        run_dir: the run's folder.
        operation: module and name of the operation.
        is_there: says of the operation's paths whether the run ends there.
        left_behind: where the copy goes.
    """
    call = getattr(*operation)

    def kill_or_call(*paths, **options):
        if is_there(*map(str, paths)):
            # Checkpoints first, for rows are written meanwhile: a kill may leave rows without
            # their checkpoint, but never a checkpoint without its rows.
            shutil.copytree(run_dir / "checkpoints", left_behind / "checkpoints")
            others = shutil.ignore_patterns("checkpoints")
            shutil.copytree(run_dir, left_behind, dirs_exist_ok=True, ignore=others)
            raise KilledError
        return call(*paths, **options)

    monkeypatch.setattr(*operation, kill_or_call)


RENAME, REMOVE = (os, "rename"), (shutil, "rmtree")
MOMENTS = {
    "before the first checkpoint is complete": (
        RENAME,
        lambda a, b: a.endswith("/2.orbax-checkpoint-tmp"),
    ),
    "before a later one is complete": (RENAME, lambda a, b: a.endswith("/14.orbax-checkpoint-tmp")),
    "before an old one is renamed": (RENAME, lambda a, b: b.endswith(".deleted")),
    "before an old one is deleted": (REMOVE, lambda a: a.endswith(".deleted")),
}


def start_or_resume(run_dir):
    if run_dir.exists():
        jaxrl_pg.resume(run_dir)
    else:
        jaxrl_pg.run(CONFIG, run_dir, SEED, **OPTIONS)


def test_killed_again_and_again_it_ends_as_if_never_killed(finished, tmp_path, monkeypatch):
    run_dir = tmp_path / "run"
    for session, (operation, is_there) in enumerate(MOMENTS.values()):
        left_behind = tmp_path / f"killed{session}"
        with monkeypatch.context() as patch:
            kill_at(patch, run_dir, operation, is_there, left_behind)
            with pytest.raises(RuntimeError, match="KilledError"):
                start_or_resume(run_dir)
        run_dir = left_behind
        saved = checkpoint.steps(run_dir / "checkpoints")
        assert saved[-1:] == [[], [12], [14], [16]][session]
    jaxrl_pg.resume(run_dir)
    assert_same_run(run_dir, finished)


@pytest.fixture
def _interruptible():
    """Python's own handler: a process that was started in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_a_first_signal_only_asks_and_a_second_acts_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt, match="saved"):
        interrupt.raise_if_received("saved")


def test_sigterm_ends_with_the_status_of_a_terminated_process(capsys):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        interrupt.raise_if_received("saved")
    assert caught.value.code == 143
    assert capsys.readouterr().out == "saved\n"


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(finished, copied):
    shutil.rmtree(copied / "checkpoints")
    checkpoint.prepare(copied / "checkpoints")  # as it is before the first save is finished
    jaxrl_pg.resume(copied)
    assert_same_run(copied, finished)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("config", {"gamma": 0.5}, r"config\.json does not fit .*gamma: checkpoint 0\.99, .* 0\.5"),
        ("config", {"num_epochs": 3}, "num_epochs: checkpoint 2, config 3"),
        ("config", {"hidden_sizes": [8, 16]}, "hidden_sizes: checkpoint"),
        ("config", {"gama": 0.5}, "unknown field 'gama': did you mean 'gamma'"),
        ("config", {"gamma": 2.0}, r"gamma=2\.0: give a number from 0 to 1"),
        ("options", {"num_eval": 3}, "unknown option 'num_eval': did you mean 'num_evals'"),
    ],
)
def test_a_config_that_was_edited_is_refused_and_nothing_is_touched(copied, part, change, message):
    edit_config(copied, part, **change)
    before = snapshot(copied)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        jaxrl_pg.resume(copied)
    assert snapshot(copied) == before


def test_a_folder_that_holds_a_run_or_anything_else_is_refused(copied, tmp_path):
    before = snapshot(copied)
    with pytest.raises(ValueError, match=r"already holds a run \(ppo on CartPole-v1\): resume it"):
        jaxrl_pg.run(CONFIG, copied, SEED, **OPTIONS)
    assert snapshot(copied) == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"is not empty \(it holds diary\.txt\)"):
        jaxrl_pg.run(CONFIG, tmp_path / "notes", SEED, **OPTIONS)
    assert snapshot(tmp_path / "notes") == {"diary.txt": b"mine"}


def test_a_run_in_use_is_refused(copied):
    before = snapshot(copied)
    in_use = pytest.raises(ValueError, match=f"copy is in use by process {os.getpid()}")
    with run_folder.RunFolder.open(copied), in_use:
        jaxrl_pg.resume(copied)
    assert snapshot(copied) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_evals": -1}, r"num_evals=-1: give a whole number >= 0"),
        ({"num_eval_episodes": 0}, r"num_eval_episodes=0: give a whole number >= 1"),
        ({"keep_last": 0}, r"keep_last=0: give a whole number >= 1"),
        ({"checkpoint_seconds": -0.5}, r"checkpoint_seconds=-0\.5: give a number >= 0"),
        ({"checkpoint_seconds": float("nan")}, r"checkpoint_seconds=nan: give a number >= 0"),
        ({"quite": True}, "unknown option 'quite': did you mean 'quiet'"),
        ({"num_evals": 2.5}, r"num_evals=2\.5"),
        ({"num_eval_episodes": 1.5}, r"num_eval_episodes=1\.5"),
        ({"keep_last": 2.5}, r"keep_last=2\.5"),
        ({"num_evals": "3"}, "num_evals='3'"),
    ],
)
def test_options_are_checked_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG, tmp_path / "run", SEED, **{**OPTIONS, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [1.5, "1", 2**70])
def test_a_seed_is_checked_before_anything_is_written(tmp_path, seed):
    with pytest.raises(ValueError, match="seed="):
        jaxrl_pg.run(CONFIG, tmp_path / "run", seed, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_learning_rates_is_no_run(tmp_path):
    config = CONFIG.replace(learning_rate=jnp.array([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"config\.learning_rate is an array: give a number"):
        jaxrl_pg.run(config, tmp_path / "run", SEED, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


# --- an environment of one's own, and divergence --------------------------------------------------


@struct.dataclass
class WalkParams(environment.EnvParams):
    max_steps_in_episode: int = 1000
    broken_after: float = 1e9


class Walk(environment.Environment[environment.EnvState, WalkParams]):
    """Rewards 1 for action 1, and infinity once `broken_after` steps are behind it."""

    @property
    def default_params(self):
        return WalkParams()

    def reset_env(self, key, params):
        state = environment.EnvState(time=0)
        return jnp.zeros(2), state

    def step_env(self, key, state, action, params):
        reward = jnp.where(state.time >= params.broken_after, jnp.inf, 1.0 * action)
        state = environment.EnvState(time=state.time + 1)
        return jnp.full(2, 0.01 * state.time), state, reward, jnp.array(False), {}

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0.0, 1.0, (2,), jnp.float32)


# All that follow share one compiled program: chunks of two iterations of four.
WALK = CONFIG.replace(
    env=Walk(), env_params={"broken_after": 1e9}, anneal_lr=False, total_timesteps=4 * STEPS
)
WALK_OPTIONS = {**OPTIONS, "num_evals": 2}
IN_THE_THIRD = {"broken_after": 20.0}
IN_THE_FOURTH = {"broken_after": 28.0}


def test_an_environment_object_is_asked_for_again(tmp_path):
    whole = jaxrl_pg.run(WALK, tmp_path / "whole", SEED, **WALK_OPTIONS)
    half, half_options = WALK.replace(total_timesteps=2 * STEPS), {**OPTIONS, "num_evals": 1}
    jaxrl_pg.run(half, tmp_path / "run", SEED, **half_options)
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["env"] == f"{__name__}:Walk"
    with pytest.raises(
        ValueError, match=f"was given an object of {__name__}:Walk: in Python, pass env="
    ):
        jaxrl_pg.resume(tmp_path / "run")
    jaxrl_pg.resume(tmp_path / "run", 4 * STEPS, env=WALK.env, num_evals=2)
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    restored = jaxrl_pg.load(tmp_path / "run", env=WALK.env)
    assert_same_state(restored.state, whole.state)


def finite(run_dir, step):
    learner = jaxrl_pg.load(run_dir, step=step, env=WALK.env).state.learner
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(learner))


def test_infinite_rewards_end_the_run_and_reach_no_checkpoint(tmp_path):
    run_dir = tmp_path / "run"
    with pytest.raises(DivergedError) as caught:
        jaxrl_pg.run(WALK.replace(env_params=IN_THE_THIRD), run_dir, SEED, **WALK_OPTIONS)
    message = str(caught.value)
    found = r"(loss/\w+|grad_norm) is (nan|-?inf) in iteration 3; .*learning_rate"
    assert re.match(found, message)
    assert all(knob in message for knob in ("max_grad_norm", "normalize_reward", "normalize_obs"))
    assert "\n" not in message
    rows = rows_of(run_dir)
    assert [row["iteration"] for row in rows if "loss/policy" in row] == [1, 2, 3]
    assert rows[-1]["loss/policy"] is None
    assert checkpoint.steps(run_dir / "checkpoints") == [2]
    assert finite(run_dir, 2)
    with run_folder.RunFolder.open(run_dir):
        pass  # the lock is free


def test_the_last_good_checkpoint_is_named(tmp_path, monkeypatch):
    write = checkpoint.Checkpoints._write

    def slowly(*args):
        time.sleep(0.5)
        write(*args)

    monkeypatch.setattr(checkpoint.Checkpoints, "_write", slowly)
    config = WALK.replace(env_params=IN_THE_THIRD)
    with pytest.raises(DivergedError, match="the last good checkpoint is 2"):
        jaxrl_pg.run(config, tmp_path / "run", SEED, **WALK_OPTIONS)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == [2]


def test_the_rows_before_the_diverged_one_are_kept(tmp_path):
    config = WALK.replace(env_params=IN_THE_FOURTH)
    with pytest.raises(DivergedError, match="in iteration 4; "):
        jaxrl_pg.run(config, tmp_path / "run", SEED, **WALK_OPTIONS)
    rows = rows_of(tmp_path / "run")
    assert [row["iteration"] for row in rows if "loss/policy" in row] == [1, 2, 3, 4]


def test_a_learning_rate_beyond_reason_ends_the_run(tmp_path):
    config = CONFIG.replace(learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"in iteration 1; .*learning_rate too high"):
        jaxrl_pg.run(config, tmp_path / "run", SEED, **OPTIONS)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints") == []


def test_a_learning_rate_that_float32_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="learning_rate="):
        ppo.Config(learning_rate=1e39)
