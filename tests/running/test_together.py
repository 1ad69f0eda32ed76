"""A journal that several processes share, seen from the first of them and from another."""

import math

import jax.numpy as jnp
import pytest

from jaxrl_pg import checkpoint, ppo
from jaxrl_pg.running import hosts
from jaxrl_pg.running.hooks import Hooks
from jaxrl_pg.running.journal import DivergedError, Journal
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.running.together import SharedJournal, journal_of
from jaxrl_pg.types import TrainState

CONFIG = ppo.Config(num_envs=8, num_steps=8, num_minibatches=2, total_timesteps=256)
OPTIONS = Options(quiet=True, checkpoint_seconds=1e9)
STATE = TrainState(jnp.ones(3), jnp.ones(2), (), jnp.zeros(2), jnp.int32(1))


def row(iteration, loss=1.0):
    return {"iteration": iteration, "timesteps": 64 * iteration, "loss/policy": loss}


@pytest.fixture
def folder(tmp_path):
    with RunFolder.create(tmp_path / "run", {"agent": "ppo", "env": "CartPole-v1"}) as folder:
        yield folder


def test_one_process_has_a_journal_of_its_own(folder):
    assert type(journal_of(CONFIG, folder, OPTIONS, 0, Hooks())) is Journal


@pytest.mark.parametrize("first", [True, False])
def test_of_several_processes_only_the_first_has_a_journal(folder, monkeypatch, first):
    monkeypatch.setattr(hosts, "alone", lambda: False)
    monkeypatch.setattr(hosts, "is_first", lambda: first)
    journal = journal_of(CONFIG, folder, OPTIONS, 0, Hooks())
    assert type(journal) is SharedJournal
    assert (journal._journal is not None) == first


def test_the_first_writes_as_it_would_alone(folder):
    with SharedJournal(Journal(CONFIG, folder, OPTIONS, 0, Hooks())) as journal:
        journal.require_finite([row(1)])
        journal.report([row(1)])
        assert journal.agree(0) == (False, 0, False)
        journal.save(STATE, seconds=2.0)
        assert journal.agree(15) == (False, 15, False)
        assert journal.finish() == [row(1)]
    restored = checkpoint.restore(folder.checkpoints_dir, STATE)
    assert (restored.step, restored.host["seconds"]) == (1, 2.0)


def test_what_fails_in_writing_is_raised_when_all_processes_meet(folder, monkeypatch):
    def no_space(self, rows):
        raise OSError("No space left on device")

    monkeypatch.setattr(RunFolder, "append", no_space)
    with SharedJournal(Journal(CONFIG, folder, OPTIONS, 0, Hooks())) as journal:
        journal.report([row(1)])
        journal.save(STATE, seconds=0.0)  # nothing is written after a failure
        with pytest.raises(OSError, match="No space left"):
            journal.agree(0)
        with pytest.raises(OSError, match="No space left"):
            journal.finish()
    assert checkpoint.steps(folder.checkpoints_dir) == []


def test_alone_what_fails_in_writing_is_raised_at_once(folder, monkeypatch):
    def no_space(self, rows):
        raise OSError("No space left on device")

    monkeypatch.setattr(RunFolder, "append", no_space)
    with (
        Journal(CONFIG, folder, OPTIONS, 0, Hooks()) as journal,
        pytest.raises(OSError, match="No space"),
    ):
        journal.report([row(1)])


def test_the_others_write_nothing_and_hear_of_a_failure(monkeypatch):
    with SharedJournal(None) as journal:
        journal.report([row(1)])
        journal.save(STATE, seconds=0.0)
        assert journal.agree(2) == (False, 2, False)
        monkeypatch.setattr(hosts, "highest", lambda *values: [0, 0, 0, 1])
        with pytest.raises(RuntimeError, match="process 0 could not write: see what it says"):
            journal.agree(0)


def test_all_processes_raise_when_the_loss_is_not_finite(folder):
    rows = [row(1), row(2, math.nan), row(3)]
    message = r"loss/policy is nan .* 2; none was saved yet"
    shared = SharedJournal(Journal(CONFIG, folder, OPTIONS, 0, Hooks()))
    with shared, pytest.raises(DivergedError, match=message):
        shared.require_finite(rows)
    assert [kept["iteration"] for kept in folder.rows()] == [1, 2]
    with pytest.raises(DivergedError, match="iteration 2; see process 0 for the last good"):
        SharedJournal(None).require_finite(rows)


def test_a_save_is_due_by_the_clock(folder):
    options = Options(quiet=True, checkpoint_seconds=0)
    with Journal(CONFIG, folder, options, 0, Hooks()) as journal:
        assert journal.agree(0) == (True, 0, False)
    with SharedJournal(Journal(CONFIG, folder, options, 0, Hooks())) as journal:
        assert journal.agree(0) == (True, 0, False)


def test_all_processes_hear_that_the_run_is_to_end(folder, monkeypatch):
    hooks = Hooks(on_rows=lambda rows: rows[-1]["iteration"] == 2)
    with SharedJournal(Journal(CONFIG, folder, OPTIONS, 0, hooks)) as journal:
        journal.report([row(1)])
        assert journal.agree(0) == (False, 0, False)
        journal.report([row(2)])
        assert journal.agree(0) == (False, 0, True)
    with SharedJournal(None) as journal:
        monkeypatch.setattr(hosts, "highest", lambda *values: [0, 0, 1, 0])
        assert journal.agree(0) == (False, 0, True)


def test_what_on_rows_raises_ends_the_run_and_is_raised_when_it_is_finished(folder):
    def on_rows(rows):
        raise LookupError("my own mistake")

    with SharedJournal(Journal(CONFIG, folder, OPTIONS, 0, Hooks(on_rows))) as journal:
        journal.report([row(1)])
        assert journal.agree(0) == (False, 0, True)
        journal.save(STATE, seconds=2.0)
        with pytest.raises(LookupError, match="my own mistake"):
            journal.finish()
    assert checkpoint.steps(folder.checkpoints_dir) == [1]
    assert folder.rows() == [row(1)]
