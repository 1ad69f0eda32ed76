"""Where checkpoints are kept: paths with `..`, and with what Orbax would read as a pattern."""

import numpy as np
import pytest

from jaxrl_pg import checkpoint, files, load, ppo, report, resume, run, sweep
from programs import TINY

CONFIG = ppo.Config(env="CartPole-v1", total_timesteps=160, **TINY)  # ten iterations
SWEEP = """
# Is a path taken?
seeds = 1
num_evals = 1
num_eval_episodes = 1
[[study]]
name = "one"
agent = "ppo"
env = "CartPole-v1"
total_timesteps = 32
[study.fixed]
num_envs = 4
num_steps = 8
num_epochs = 1
num_minibatches = 1
hidden_sizes = [4]
"""
OPTIONS = {"checkpoint_seconds": 0.0, "keep_last": 1, "quiet": True, "num_eval_episodes": 1}


@pytest.mark.parametrize("name", ["ppo[lr=3e-4]", "[a", "what?", "a*", "a\\b"])
def test_a_name_that_is_a_pattern_is_refused_before_anything_is_written(tmp_path, name):
    path = tmp_path / name / "run"
    with pytest.raises(ValueError, match=r"with . in it\): choose another run_dir"):
        run(CONFIG, path, 0, **OPTIONS)
    with pytest.raises(ValueError, match="choose another"):
        checkpoint.save_tree(path, {"a": np.ones(3)}, {}, 0)
    (tmp_path / "one.toml").write_text(SWEEP)
    with pytest.raises(ValueError, match="choose another"):
        sweep(tmp_path / "one.toml", path)
    assert not path.exists()


def test_what_an_earlier_version_saved_below_such_a_name_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "require_no_pattern", lambda path: None)
    tree, path = {"a": np.arange(3.0)}, tmp_path / "ppo[1]" / "tree"
    checkpoint.save_tree(path, tree, {}, 0)
    assert not (path / "state" / "manifest.ocdbt").exists()
    assert np.array_equal(checkpoint.load_tree(path, tree)["a"], tree["a"])


def test_paths_with_two_dots_are_as_good_as_others(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    run(CONFIG, "../run", 0, **OPTIONS)
    resume("../run", total_timesteps=320, quiet=True)
    policy = load("../run")
    assert policy.step == 20
    policy.save("../kept/policy")
    assert load("../kept/policy").step == 20
    (tmp_path / "one.toml").write_text(SWEEP)
    sweep("../one.toml", "../swept", quiet=True)
    assert (tmp_path / "swept" / "results.csv").is_file()
    report.write(["../swept"])
    assert (tmp_path / "swept" / "report" / "report.html").is_file()


def test_two_dots_inside_a_folder_of_ours_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is outside"):
        files.require_no_link(tmp_path / "run" / ".." / "other", within=tmp_path / "run")
    files.require_no_link(tmp_path / ".." / tmp_path.name / "run", tmp_path / ".." / tmp_path.name)
