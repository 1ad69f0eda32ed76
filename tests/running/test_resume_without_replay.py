"""Runs whose checkpoints leave the replay buffer out."""

import json

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import checkpoint, soft_q_learning

STEPS = 32  # an iteration: four environments, eight steps each
CONFIG = soft_q_learning.Config(
    env="CartPole-v1",
    total_timesteps=6 * STEPS,
    num_envs=4,
    num_steps=8,
    hidden_sizes=(8,),
    buffer_size=200,
    batch_size=16,
    num_updates=4,
    learning_starts=2 * STEPS,
)
OPTIONS = {"quiet": True, "num_evals": 1, "num_eval_episodes": 2}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run with and without the replay in its checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    for save in (True, False):
        jaxrl_pg.run(CONFIG, folder / str(save), seed=3, save_replay=save, **OPTIONS)
    return folder


def leaves(run_dir):
    manifest = checkpoint.manifest.read(run_dir / "checkpoints" / "6")
    return set(manifest["leaves"])


def test_the_replay_is_all_that_is_left_out_and_the_run_folder_says_so(runs):
    without, whole = leaves(runs / "False"), leaves(runs / "True")
    assert without < whole
    assert {name.split("/")[0] for name in whole - without} == {"memory"}
    for save in (True, False):
        config = json.loads((runs / str(save) / "config.json").read_text())
        assert config["options"]["save_replay"] is save


def test_leaving_it_out_changes_nothing_of_what_is_learned(runs):
    with_replay, without = (jaxrl_pg.load(runs / str(save)).state for save in (True, False))
    jax.tree.map(np.testing.assert_array_equal, with_replay.learner, without.learner)


def test_a_resumed_run_fills_a_new_replay_before_it_learns_again(runs, capsys):
    before = jaxrl_pg.load(runs / "False").state.learner
    waiting = jaxrl_pg.resume(runs / "False", 7 * STEPS, quiet=False)
    assert "was saved without the replay: filling a new one first" in capsys.readouterr().out
    # Learning starts from two iterations' rows, and there is only the seventh's.
    jax.tree.map(np.testing.assert_array_equal, before.params, waiting.state.learner.params)
    assert waiting.state.memory.size[0] == STEPS
    # That was saved without its rows too, hence one more of waiting, then two that learn.
    result = jaxrl_pg.resume(runs / "False", 10 * STEPS)
    updates = result.metrics["train/num_updates"]
    np.testing.assert_array_equal(updates, [0, 0, 4, 4, 4, 4, 0, 0, 4, 4])
    changed = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
        before.params,
        result.state.learner.params,
    )
    assert all(jax.tree.leaves(changed))


def test_a_run_saved_with_its_replay_goes_on_at_once_whatever_is_saved_from_then_on(runs):
    result = jaxrl_pg.resume(runs / "True", 7 * STEPS, save_replay=False)
    np.testing.assert_array_equal(result.metrics["train/num_updates"], [0, 0] + [4] * 5)
    saved = checkpoint.manifest.read(runs / "True" / "checkpoints" / "7")["leaves"]
    assert not any(name.startswith("memory/") for name in saved)
