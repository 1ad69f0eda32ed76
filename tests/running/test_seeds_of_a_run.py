"""Several seeds in one run: each is what it would be alone, and the run goes on bit for bit."""

import shutil

import jax
import numpy as np
import pytest

import jaxrl_pg
from compare import assert_bit_equal, leaves_of
from jaxrl_pg import ppo
from jaxrl_pg.cli import commands
from jaxrl_pg.report import sources
from jaxrl_pg.running import over_seeds
from jaxrl_pg.running.loop import DivergedError
from jaxrl_pg.running.run_folder import RunFolder
from jaxrl_pg.sweeps import results
from jaxrl_pg.training import members, seeding

CONFIG = ppo.Config(
    num_envs=4,
    num_steps=8,
    num_epochs=1,
    num_minibatches=2,
    hidden_sizes=(8,),
    learning_rate=0.01,
    total_timesteps=8 * 32,
)
OPTIONS = {"quiet": True, "num_evals": 4, "num_eval_episodes": 2, "keep_last": 9}
SEEDS = (5, 6, 7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds") / "run"
    return jaxrl_pg.run(CONFIG, folder, SEEDS[0], num_seeds=len(SEEDS), **OPTIONS)


def rows_of(folder):
    return [
        {name: x for name, x in row.items() if name != "seconds"}
        for row in RunFolder.open(folder).rows()
    ]


def test_each_member_is_the_run_of_its_seed(run):
    alone = jax.jit(jaxrl_pg.train)
    for number, seed in enumerate(SEEDS):
        state, _ = alone(CONFIG, jax.random.key(seed))
        member = members.member(run.state, number)
        for name, x in leaves_of(state.learner.params).items():
            np.testing.assert_allclose(leaves_of(member.learner.params)[name], x, atol=1e-5)


def test_rows_have_the_mean_and_the_spread_over_seeds(run):
    alone = [jaxrl_pg.train(CONFIG, jax.random.key(seed))[1]["loss/total"] for seed in SEEDS]
    np.testing.assert_allclose(run.metrics["loss/total"], np.mean(alone, axis=0), atol=1e-5)
    np.testing.assert_allclose(run.metrics["loss/total/std"], np.std(alone, axis=0), atol=1e-5)
    assert run.metrics["timesteps"].tolist() == [32 * (i + 1) for i in range(8)]
    each = [run.metrics[f"eval/return_mean/seed_{seed}"] for seed in SEEDS]
    np.testing.assert_allclose(run.metrics["eval/return_mean"], np.mean(each, axis=0))
    np.testing.assert_allclose(run.metrics["eval/return_mean/std"], np.std(each, axis=0))


def test_a_mean_over_episodes_is_over_the_members_that_had_one():
    found = over_seeds.reduced(
        {
            "timesteps": np.array([[32], [32]]),
            "train/return_mean": np.array([[np.nan], [4.0]]),
            "train/length_mean": np.array([[np.nan], [np.nan]]),
            "loss/total": np.array([[np.nan], [1.0]]),
            "loss/value": np.array([[np.inf], [1.0]]),
        }
    )
    assert found["timesteps"].tolist() == [32]
    assert found["train/return_mean"].tolist() == [4.0]
    assert found["train/return_mean/std"].tolist() == [0.0]
    assert np.isnan(found["train/length_mean"]).all()
    assert np.isinf(found["loss/value"]).all()
    assert np.isnan(found["loss/total"]).all()  # or a member that diverged would go unnoticed


def test_a_stopped_run_goes_on_bit_for_bit(run, tmp_path):
    stopped = shutil.copytree(run.run_dir, tmp_path / "stopped")
    for step in (6, 8):
        shutil.rmtree(stopped / "checkpoints" / str(step))
    result = jaxrl_pg.resume(stopped)
    assert_bit_equal(result.state, run.state)
    assert rows_of(stopped) == rows_of(run.run_dir)
    config = RunFolder.open(stopped).config
    assert (config["seed"], config["num_seeds"]) == (SEEDS[0], len(SEEDS))


def test_devices_share_out_the_seeds_and_each_is_what_it_is_on_one(run, tmp_path):
    split = CONFIG.replace(num_devices=2)
    result = jaxrl_pg.run(split, tmp_path / "run", SEEDS[0], num_seeds=4, **OPTIONS)
    assert len(result.state.key.devices()) == 2
    for number, seed in enumerate(SEEDS):
        member, alone = members.member(result.state, number), members.member(run.state, number)
        for name, x in leaves_of(alone.learner.params).items():
            np.testing.assert_allclose(leaves_of(member.learner.params)[name], x, atol=1e-5)
        policy = jaxrl_pg.load(result.run_dir, seed=seed)
        assert_bit_equal(policy.state.learner, member.learner)
    assert_bit_equal(result.policy.state.learner, members.member(result.state, 0).learner)
    before = rows_of(result.run_dir)
    for step in (6, 8):
        shutil.rmtree(result.run_dir / "checkpoints" / str(step))
    assert_bit_equal(jaxrl_pg.resume(result.run_dir).state, result.state)
    assert rows_of(result.run_dir) == before


def test_the_policy_of_each_seed_is_loaded(run):
    for number, seed in enumerate(SEEDS):
        policy = jaxrl_pg.load(run.run_dir, seed=seed)
        member = members.member(run.state, number)
        assert_bit_equal(policy.state.learner, member.learner)
    assert_bit_equal(jaxrl_pg.load(run.run_dir).state.learner, run.policy.state.learner)
    with pytest.raises(ValueError, match=r"seed=8 but .* has seed 5 to 7: give one it has"):
        jaxrl_pg.load(run.run_dir, seed=8)


def test_evaluate_has_a_line_for_each_seed_and_one_for_all(run, capsys):
    command = ["evaluate", str(run.run_dir), "--num-episodes", "2"]
    assert commands.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[:3]] == ["seed 5", "seed 6", "seed 7"]
    assert lines[3].startswith("3 seeds: return ")


def test_a_report_has_every_seed(run):
    (setting,) = results.settings(sources.run_table(run.run_dir))
    assert setting.seeds.tolist() == list(SEEDS)
    assert setting.timesteps.tolist() == [64, 128, 192, 256]
    each = [run.metrics[f"eval/return_mean/seed_{seed}"] for seed in SEEDS]
    np.testing.assert_allclose(setting.returns, each)


def test_the_seed_that_diverges_is_named(tmp_path):
    wild = CONFIG.replace(learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"seed 5 of 3: \w+.* is nan in iteration 1; none was"):
        jaxrl_pg.run(wild, tmp_path / "run", 5, num_seeds=3, **OPTIONS)
    assert [row["diverged/seed"] for row in rows_of(tmp_path / "run")] == [5]
    table = sources.run_table(tmp_path / "run")
    assert list(zip(table.columns["id"], table.columns["status"], strict=True)) == [
        ("run-5", "diverged")
    ]


def test_the_first_seed_to_diverge_is_the_one_of_the_row_that_is_kept():
    losses = np.ones((4, 5))
    assert over_seeds.first_diverged({"loss/total": losses, "timesteps": losses}) is None
    losses[0, 3] = losses[2, 1] = losses[3, 1] = np.nan
    norms = np.where(np.arange(5) == 4, np.inf, np.ones((4, 5)))
    assert over_seeds.first_diverged({"loss/total": losses, "grad_norm": norms}) == 2


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({}, {"num_seeds": 0}, "num_seeds=0: give a whole number from 1 to 10,000"),
        ({}, {"num_seeds": 2.0}, "num_seeds=2.0: give a whole number"),
        ({}, {"num_seeds": 2, "seed": 2**63 - 1}, "the last seed=9223372036854775808: give a who"),
        ({"num_devices": 2}, {"num_seeds": 3}, "num_seeds=3 does not split over num_devices=2, "),
    ],
)
def test_what_cannot_be_trained_side_by_side_is_refused(tmp_path, changes, given, message):
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG.replace(**changes), tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_run_of_one_seed_is_as_it_was(tmp_path):
    config = CONFIG.replace(total_timesteps=32)
    result = jaxrl_pg.run(config, tmp_path / "run", 5, num_seeds=1, **OPTIONS)
    assert "num_seeds" not in RunFolder.open(result.run_dir).config
    assert not [name for name in result.metrics if "/std" in name or "seed" in name]
    assert_bit_equal(seeding.key_of_seed(5), jax.random.key(5))
