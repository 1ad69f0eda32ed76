"""Sweeps on a local Ray: the same table, also when a worker is lost."""

import os
import signal
import sys

import pytest

from jaxrl_pg.sweeps import experiment, launch_ray, sweep
from jaxrl_pg.sweeps.batch import SweepOptions

TABLE = {
    "agent": "ppo",
    "env": "CartPole-v1",
    "seeds": 2,
    "num_evals": 2,
    "num_eval_episodes": 4,
    "total_timesteps": 6 * 64,
    "fixed": {"num_steps": 8, "num_epochs": 1, "num_minibatches": 1, "hidden_sizes": [8]},
    "grid": {"num_envs": [8, 16]},
}
QUIET = SweepOptions(quiet=True, checkpoint_seconds=0)


def test_without_ray_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(launch_ray, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs the extra: pip install "jaxrl-pg\[ray\]"'):
        launch_ray.run_with_ray(experiment.parse("tiny", TABLE), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def lose_the_first_worker(*args):
    """The task of a group, whose worker is killed once, after its first batch file is there."""
    folder, group = args[3], args[2]
    mark = os.path.join(folder, f"killed-{group}")
    if not os.path.exists(mark):
        with open(mark, "w") as file:
            file.write("once")
        os.kill(os.getpid(), signal.SIGKILL)
    launch_ray.train_group(*args)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_local_cluster_gives_the_same_table_and_survives_a_lost_worker(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    some = experiment.parse("tiny", TABLE)
    local = sweep.sweep(some, tmp_path / "local", QUIET)
    clustered = launch_ray.run_with_ray(some, tmp_path / "ray", QUIET)
    want = (local / "results.csv").read_text()
    assert (clustered / "results.csv").read_text() == want
    monkeypatch.setattr(launch_ray, "train_group", lose_the_first_worker)
    lost = launch_ray.run_with_ray(some, tmp_path / "lost", QUIET)
    assert (lost / "results.csv").read_text() == want
    assert len(list(lost.glob("killed-*"))) == 2
