"""Experiments whose runs start from an old policy."""

import shutil

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import ppo
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.sweeps import experiment, results, sweep
from programs import SMALL_PPO

FIXED = {**SMALL_PPO, "hidden_sizes": [8, 8]}
TABLE = {
    "agent": "ppo",
    "env": "CartPole-v1",
    "seeds": 2,
    "num_evals": 1,
    "num_eval_episodes": 2,
    "total_timesteps": 128,
    "fixed": FIXED,
    "init_from": "old",
    "study": [{"name": "scratch", "init_from": "none"}, {"name": "tuned"}],
}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """An old policy, of random parameters, in the folder `old`."""
    monkeypatch.chdir(tmp_path)
    config, rng = ppo.Config(**SMALL_PPO), np.random.default_rng(0)
    shapes = jax.eval_shape(ppo.init, config, jax.random.key(0))._replace(key=())
    state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    policy = Policy(config, state._replace(iteration=np.int32(3)), 3)
    policy.save("old")
    return policy


def test_ids_and_groups_contain_it_and_those_of_other_runs_stay_as_they_were():
    points = experiment.parse("tiny", TABLE).points
    assert [point.init_from for point in points] == ["", "", "old", "old"]
    assert len({point.id for point in points}) == 4
    plain = {key: x for key, x in TABLE.items() if key not in ("init_from", "study")}
    assert [point.id for point in experiment.parse("tiny", plain).points] == [
        point.id for point in points[:2]
    ]
    other = experiment.parse("tiny", {**plain, "init_from": "other"}).points
    assert not {point.id for point in other} & {point.id for point in points}
    groups = experiment.groups(points)
    assert [len(group.points) for group in groups] == [2, 2]
    assert "from old" in experiment.describe(experiment.parse("tiny", TABLE), groups)
    with pytest.raises(ValueError, match="init_from=3: give the folder of a run or of a saved"):
        experiment.parse("tiny", {**plain, "init_from": 3})


def test_its_runs_are_those_that_start_from_it(old, tmp_path):
    tiny = experiment.parse("tiny", TABLE)
    folder = sweep.sweep(tiny, tmp_path / "sweep", quiet=True, keep_policies=True)
    point = tiny.points[3]
    train = jax.jit(
        lambda config, key, learner: jaxrl_pg.train(config, key, 1, 2, initial_policy=learner)
    )
    state, metrics = train(point.config, jax.random.key(point.seed), old.state.learner)
    learner = jaxrl_pg.load(folder / "policies" / point.id).state.learner
    jax.tree.map(np.testing.assert_array_equal, learner.params, state.learner.params)
    columns = results.read(folder / "results.csv").columns
    assert list(columns["init_from"]) == [None, None, "old", "old"]
    assert columns["return_mean"][3] == pytest.approx(float(metrics["eval/return_mean"][0]))
    # More runs do not start from another policy that has come to its place.
    shutil.rmtree("old")
    other = jax.tree.map(lambda x: x + 1 if x.dtype == np.float32 else x, old.state)
    Policy(old.config, other, 3).save("old")
    with pytest.raises(ValueError, match="started from another policy than is now in init_from"):
        sweep.sweep(experiment.parse("tiny", {**TABLE, "seeds": 3}), folder, quiet=True)
    # What is finished does not need it again.
    shutil.rmtree("old")
    assert sweep.sweep(tiny, folder, quiet=True) == folder


def test_a_policy_that_is_not_there_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_train", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="no run in old"):
        sweep.sweep(experiment.parse("tiny", TABLE), "sweep", quiet=True)
