"""Sweeps: members learn what single runs learn, nothing is lost, nothing is done twice."""

import json
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

import jaxrl_pg
from jaxrl_pg.sweeps import batch, experiment, folder, parts, sweep
from jaxrl_pg.sweeps.batch import SweepOptions
from jaxrl_pg.training import population, program

TABLE = {
    "agent": "ppo",
    "env": "CartPole-v1",
    "seeds": 2,
    "num_evals": 2,
    "num_eval_episodes": 4,
    "total_timesteps": 6 * 64,
    "fixed": {
        "num_envs": 8,
        "num_steps": 8,
        "num_epochs": 1,
        "num_minibatches": 1,
        "hidden_sizes": [8],
    },
    "grid": {"learning_rate": [1e-2, 1e-3]},
}
QUIET = SweepOptions(quiet=True)

# As a batch compiles them, so that a program is compiled once for all tests of this module.
_init = jax.jit(population.init, static_argnums=2)
_advance = jax.jit(population.advance, static_argnums=(4, 5), donate_argnums=1)
_train = jax.jit(program.train, static_argnums=(2, 3))


def tiny(**changes):
    return experiment.parse("tiny", {**TABLE, **changes})


def rows_of(run_dir):
    return parts.finished_rows(run_dir, tiny())


def csv_of(run_dir):
    return (run_dir / "results.csv").read_text()


def stacked(points):
    """Return the configs and keys of a population of these points."""
    keys = jnp.stack([jax.random.key(point.seed) for point in points])
    return population.stack([point.config for point in points]), keys


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return sweep.sweep(tiny(), tmp_path_factory.mktemp("sweep") / "tiny", QUIET)


def test_members_of_a_population_equal_single_runs_bit_for_bit():
    points = tiny().points
    configs, keys = stacked(points)
    members = _init(configs, keys, "map")
    members, _ = _advance(configs, members, jnp.int32(2), jnp.asarray(False), 4, "map")
    members, metrics = _advance(configs, members, jnp.int32(4), jnp.asarray(True), 4, "map")
    for i, point in enumerate(points):
        state, single = _train(point.config, jax.random.key(point.seed), 2, 4)
        ours = jax.tree.map(lambda x, i=i: x[i], members.states.learner)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(state.learner), strict=True):
            np.testing.assert_array_equal(a, b)
        assert metrics["eval/return_mean"][i] == single["eval/return_mean"][-1]


def test_vmapped_members_equal_them_up_to_the_order_of_sums():
    configs, keys = stacked(tiny().points)
    both = []
    for layout in population.LAYOUTS:
        members = _init(configs, keys, layout)
        args = (jnp.int32(2), jnp.asarray(False), 4, layout)
        both.append(jax.tree.leaves(_advance(configs, members, *args)[0].states.learner.params))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_configs_of_different_programs_are_not_stacked():
    with pytest.raises(ValueError, match="2 configs of 2 different static parts"):
        population.stack([jaxrl_pg.ppo.Config(num_envs=n) for n in (32, 64)])


def test_the_table_has_a_row_for_every_run_and_evaluation(finished):
    rows = [row for some in rows_of(finished).values() for row in some]
    assert len(rows) == 4 * 2
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["timesteps"] for row in rows} == {192, 384}
    assert {(row["learning_rate"], row["seed"]) for row in rows} == {
        (lr, seed) for lr in (1e-2, 1e-3) for seed in (0, 1)
    }
    assert all(row["hidden_sizes"] == "8" and row["num_episodes"] == 4 for row in rows)
    header, *lines = csv_of(finished).splitlines()
    assert header.startswith("id,study,agent,env,seed,total_timesteps,num_envs,")
    assert header.endswith(",timesteps,return_mean,return_std,length_mean,num_episodes,status")
    assert len(lines) == 8
    assert not list((finished / "batches").iterdir())


def test_results_are_those_of_single_runs(finished):
    point = tiny().points[2]
    _, metrics = _train(point.config, jax.random.key(point.seed), 2, 4)
    returns = [row["return_mean"] for row in rows_of(finished)[point.id]]
    np.testing.assert_array_equal(np.float32(returns), metrics["eval/return_mean"])


def test_a_finished_sweep_is_not_run_again(finished, monkeypatch):
    before = csv_of(finished)
    monkeypatch.setattr(sweep, "BatchRun", None)
    sweep.sweep(tiny(), finished, QUIET)
    assert csv_of(finished) == before


def test_a_finished_sweep_stays_that_of_the_machine_that_trained_it(finished, tmp_path):
    run_dir = tmp_path / "copy"
    shutil.copytree(finished, run_dir)
    facts = json.loads((run_dir / "sweep.json").read_text())
    facts |= {"device": "8 x H100", "versions": {"jax": "0.9.9"}}
    (run_dir / "sweep.json").write_text(json.dumps(facts))
    sweep.sweep(tiny(), run_dir, QUIET)
    again = json.loads((run_dir / "sweep.json").read_text())
    assert (again["device"], again["versions"]) == ("8 x H100", {"jax": "0.9.9"})


def test_a_sweep_of_several_machines_names_them_all(tmp_path, monkeypatch):
    for device, jax_version in (("1 x H100", "0.9"), ("2 x cpu", "0.10"), ("1 x H100", "0.10")):
        monkeypatch.setattr(folder.history, "device", lambda device=device: device)
        versions = {"jax": jax_version}
        monkeypatch.setattr(folder.history, "versions", lambda _, versions=versions: versions)
        with folder.opened(tmp_path / "new", tiny()):
            pass
    facts = json.loads((tmp_path / "new" / "sweep.json").read_text())
    assert (facts["device"], facts["versions"]) == ("1 x H100; 2 x cpu", {"jax": "0.9; 0.10"})


def test_an_extended_sweep_trains_only_what_is_new(finished, tmp_path, monkeypatch):
    run_dir = tmp_path / "copy"
    subprocess.run(["cp", "-r", finished, run_dir], check=True)
    trained = []
    start = batch.BatchRun.__init__

    def watched(self, some, *args):
        trained.extend(point.id for point in some.points)
        start(self, some, *args)

    monkeypatch.setattr(batch.BatchRun, "__init__", watched)
    extended = tiny(seeds=3)
    sweep.sweep(extended, run_dir, QUIET)
    assert sorted(trained) == sorted(p.id for p in extended.points if p.seed == 2)
    old, new = rows_of(finished), rows_of(run_dir)
    assert {i: new[i] for i in old} == old
    assert len(csv_of(run_dir).splitlines()) == 1 + 6 * 2


def test_batches_of_any_size_give_the_same_table(finished, tmp_path):
    options = SweepOptions(quiet=True, max_agents=3)
    run_dir = sweep.sweep(tiny(), tmp_path / "small", options)
    assert len(list((run_dir / "parts").iterdir())) == 2
    assert csv_of(run_dir) == csv_of(finished)


def test_a_run_that_diverges_is_marked_and_the_others_go_on(tmp_path):
    table = {**TABLE, "grid": {"learning_rate": [1e-3, 1e38]}, "num_evals": 3}
    table["fixed"] = {**TABLE["fixed"], "max_grad_norm": 1e30}
    wild = experiment.parse("wild", table)
    run_dir = sweep.sweep(wild, tmp_path / "wild", QUIET)
    for point in wild.points:
        statuses = [row["status"] for row in rows_of(run_dir)[point.id]]
        if point.config.learning_rate > 1:
            assert statuses[-1] == "diverged"
            assert statuses.count("diverged") == 1
        else:
            assert statuses == ["ok"] * 3


def test_out_of_memory_halves_the_batch(finished, tmp_path, monkeypatch):
    advance = batch.BatchRun.advance

    def greedy(self):
        if len(self.batch.points) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return advance(self)

    monkeypatch.setattr(batch.BatchRun, "advance", greedy)
    run_dir = sweep.sweep(tiny(), tmp_path / "tight", QUIET)
    assert len(list((run_dir / "parts").iterdir())) == 4
    assert csv_of(run_dir) == csv_of(finished)


# --- from Python ----------------------------------------------------------------------------------

FILE = """
agent = "ppo"
env = "CartPole-v1"
seeds = 2
num_evals = 2
num_eval_episodes = 4
total_timesteps = 384
[fixed]
num_envs = 8
num_steps = 8
num_epochs = 1
num_minibatches = 1
hidden_sizes = [8]
[grid]
learning_rate = [1e-2, 1e-3]
"""


def test_an_experiment_file_is_swept_by_path_with_options_by_name(finished, tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(FILE)
    for given in (path, str(path)):
        run_dir = sweep.sweep(given, tmp_path / "run", quiet=True)
        assert run_dir == tmp_path / "run"
        assert csv_of(run_dir) == csv_of(finished)
    assert capsys.readouterr().err == ""


def test_an_unknown_option_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="unknown option 'quit': did you mean 'quiet'"):
        sweep.sweep(tiny(), tmp_path / "run", quit=True)
    with pytest.raises(ValueError, match="max_agents=-1: give a whole number >= 0"):
        sweep.sweep(tiny(), tmp_path / "run", QUIET, max_agents=-1)
    assert not (tmp_path / "run").exists()


# --- interrupted ----------------------------------------------------------------------------------

# A sweep that saves after every iteration and says so.
CHILD = """
import json, sys
from jaxrl_pg.sweeps import batch, experiment, sweep
from jaxrl_pg.training import devices
devices.prepare(1)
advance = batch.BatchRun.advance
def slow(self):
    shown = advance(self)
    self.piece = 1
    print("piece", flush=True)
    return shown
batch.BatchRun.advance = slow
tiny = experiment.parse("tiny", json.loads(sys.argv[1]))
sweep.sweep(tiny, sys.argv[2], quiet=True, checkpoint_seconds=0, max_agents=2)
"""
CAREFUL = SweepOptions(quiet=True, checkpoint_seconds=0, max_agents=2)


def start_child(run_dir):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(TABLE), str(run_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def kill_after_pieces(child, pieces, number, pause):
    for _ in range(pieces):
        if not child.stdout.readline():
            break
    time.sleep(pause)
    child.send_signal(number)
    child.stdout.close()
    return child.wait(60)


def terminate_after_pieces(pieces, run_dir):
    """Sweep in this process, and send it SIGTERM after some pieces of one iteration."""
    advance, done = batch.BatchRun.advance, []

    def slow(self):
        shown = advance(self)
        self.piece = 1
        done.append(shown)
        if len(done) == pieces:
            signal.raise_signal(signal.SIGTERM)
        return shown

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch.BatchRun, "advance", slow)
        with pytest.raises(SystemExit, match="143"):  # as a shell reports SIGTERM
            sweep.sweep(tiny(), run_dir, CAREFUL)


def test_a_sweep_killed_and_terminated_ends_with_the_same_table(finished, tmp_path, capsys):
    run_dir = tmp_path / "killed"
    assert kill_after_pieces(start_child(run_dir), 3, signal.SIGKILL, 0.02) == -signal.SIGKILL
    terminate_after_pieces(2, run_dir)
    assert f"saved; go on with: jaxrl-pg sweep tiny --run-dir {run_dir}" in capsys.readouterr().out
    sweep.sweep(tiny(), run_dir, CAREFUL)
    assert csv_of(run_dir) == csv_of(finished)
    assert not list((run_dir / "batches").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("numbers", "seed"),
    [((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 0), ((signal.SIGKILL,) * 20, 1)],
)
def test_kills_at_random_moments_change_nothing(finished, tmp_path, numbers, seed):
    rng, run_dir = np.random.default_rng(seed), tmp_path / "killed"
    for number in numbers:
        child = start_child(run_dir)
        kill_after_pieces(child, int(rng.integers(0, 5)), number, rng.uniform(0, 0.05))
    last = start_child(run_dir)
    last.communicate(timeout=120)
    assert last.returncode == 0
    assert csv_of(run_dir) == csv_of(finished)
    assert not list((run_dir / "batches").iterdir())


def test_a_begun_batch_goes_on_although_the_sweep_grew(finished, tmp_path):
    run_dir = tmp_path / "grown"
    terminate_after_pieces(3, run_dir)
    begun = [path.parent.name for path in (run_dir / "batches").glob("*/batch.json")]
    assert len(begun) == 1
    sweep.sweep(tiny(seeds=3), run_dir, QUIET)
    assert (run_dir / "parts" / f"{begun[0]}.json").exists()
    old, new = rows_of(finished), rows_of(run_dir)
    assert {i: new[i] for i in old} == old


def test_a_checkpoint_of_another_batch_is_not_gone_on_with(tmp_path):
    """Batches of one group have states of one shape: only what is in them tells them apart."""
    run_dir = tmp_path / "mixed"
    terminate_after_pieces(3, run_dir)
    (begun,) = (run_dir / "batches").iterdir()
    other = batch.make_batch("g", tiny().points[2:])
    foreign = run_dir / "batches" / other.id
    begun.rename(foreign)
    note = {"group": experiment.groups(tiny().points)[0].id, "points": [p.id for p in other.points]}
    (foreign / "batch.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match=f"{foreign} has a checkpoint of another batch: delete"):
        sweep.sweep(tiny(), run_dir, CAREFUL)
    assert not list((run_dir / "parts").iterdir())


# --- bad input ------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a sweep"):
        sweep.sweep(tiny(), tmp_path, QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_rows_that_would_not_compare_are_refused(finished):
    with pytest.raises(ValueError, match=r"num_eval_episodes=8 but the results in .* have 4"):
        sweep.sweep(tiny(num_eval_episodes=8), finished, QUIET)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "vmpa"}, "did you mean 'vmap'"),
        ({"max_agents": -1}, "max_agents=-1: give a whole number >= 0"),
    ],
)
def test_bad_options_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SweepOptions(**change)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(finished, tmp_path):
    text = sweep.dry_run(tiny(), tmp_path / "new", SweepOptions(max_agents=3))
    assert re.search(
        r"4 of 4 agents in 2 batches of up to 2, about [\d.]+ GiB .*, time unknown", text
    )
    assert text.endswith("\nthe time of a group is unknown until its first batch is trained")
    assert not (tmp_path / "new").exists()
    again = sweep.dry_run(tiny(), finished)
    assert "0 of 4 agents in 0 batches" in again
    assert "unknown" not in again
    # With a finished batch, the time of what is missing follows from its speed.
    (part,) = (finished / "parts").iterdir()
    speed = json.loads(part.read_text())["steps_per_second"]
    grown = sweep.dry_run(tiny(seeds=3), finished)
    assert (
        f"2 of 6 agents in 1 batches of up to 2, about 0.00 GiB a device, {768 / speed:,.0f} s"
        in grown
    )
    assert re.search(r"in all about [\d.]+ minutes, and compiling$", grown)
