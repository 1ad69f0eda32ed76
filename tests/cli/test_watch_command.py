"""`jaxrl-pg watch`: a file for a run and for a saved policy, and what is refused in a line."""

import jax
import pytest
from PIL import Image

import jaxrl_pg
from jaxrl_pg import ppo
from jaxrl_pg.cli import main

CONFIG = ppo.Config(
    env="TMaze",
    num_envs=4,
    num_steps=4,
    num_minibatches=1,
    num_epochs=1,
    hidden_sizes=(4,),
    total_timesteps=32,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watch") / "run"
    result = jaxrl_pg.run(CONFIG, folder, num_evals=1, num_eval_episodes=2, quiet=True)
    result.policy.save(folder.with_name("policy"))
    return folder


def watch(capsys, *args):
    code = main(["watch", *map(str, args)])
    return code, *capsys.readouterr()


def test_a_runs_movie_is_in_its_folder_and_a_policys_beside_it(run, capsys):
    returns = jaxrl_pg.load(run).evaluate(jax.random.key(3), 2)
    for folder, out in (
        (run, run / "play.gif"),
        (run.with_name("policy"), run.with_name("policy.gif")),
    ):
        options = ["--num-episodes", 2, "--seed", 3, "--width", 120, "--every", 50]
        code, said, _ = watch(capsys, folder, *options)
        assert code == 0
        assert said.splitlines() == [
            f"episode 1: 100 steps, return {returns[0]:.2f}",
            f"episode 2: 100 steps, return {returns[1]:.2f}",
            f"iteration 2: 6 frames in {out}",
        ]
        with Image.open(out) as image:
            assert image.n_frames > 1


def test_a_file_may_be_named_and_long_episodes_are_cut(run, capsys, tmp_path):
    out = tmp_path / "a" / "b.html"
    code, said, _ = watch(
        capsys, run, "--out", out, "--max-steps", 3, "--width", 120, "--stochastic"
    )
    assert code == 0
    assert "episode 1: 3 steps, not over, see --max-steps" in said
    assert out.read_text().startswith("<!doctype html>")


def test_a_policy_of_the_zoo_is_shown_in_a_file_here_and_a_file_that_is_replaced_is_named(
    capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    args = ["zoo:CartPole-v1/ppo", "--max-steps", 2, "--width", 120]
    for ending in ("", ", which was replaced"):
        code, said, _ = watch(capsys, *args)
        assert code == 0
        assert said.splitlines()[-1].endswith(f"3 frames in CartPole-v1-ppo.gif{ending}")
        assert [path.name for path in tmp_path.iterdir()] == ["CartPole-v1-ppo.gif"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "play.png"], "play.png: give a path that ends in .gif or .html"),
        (["--fps", "0"], "fps=0: give a whole number from 1 to 50"),
        (["--step", "newest"], "step='newest': give latest, best, or one of"),
        (["--step", "77"], "77"),
        (["--num-episodes", "2000"], "num_episodes=2000: give a whole number from 1 to 1000"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_line(run, capsys, args, message):
    code, said, error = watch(capsys, run, *args)
    assert code == 2
    assert not said
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_without_a_policy_is_refused(tmp_path, capsys):
    code, _, error = watch(capsys, tmp_path / "nothing")
    assert code == 2
    assert "no run in" in error
