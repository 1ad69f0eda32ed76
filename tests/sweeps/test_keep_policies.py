"""A sweep that keeps every agent's policy, each found by the id that is in the table."""

import jax
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg.sweeps import experiment, folder, parts, sweep

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
        "normalize_obs": True,
    },
    # So that an agent of the second setting diverges at once.
    "grid": {"learning_rate": [1e-2, 1e38]},
}
TINY = experiment.parse("tiny", TABLE)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("sweep") / "tiny"
    return sweep.sweep(TINY, run_dir, quiet=True, keep_policies=True)


def test_every_agent_that_has_not_diverged_is_found_by_its_id(kept):
    rows = parts.finished_rows(kept, TINY)
    good = {i for i, its_rows in rows.items() if its_rows[-1]["status"] == "ok"}
    assert (len(good), len(rows)) == (2, 4)
    assert {path.name for path in (kept / "policies").iterdir()} == good
    for point in TINY.points[:2]:
        assert point.id in good
        policy = jaxrl_pg.load(kept / "policies" / point.id)
        assert (policy.config, policy.step) == (point.config, 6)


def test_it_is_the_policy_that_a_single_run_learns_to_the_last_bit(kept):
    point = TINY.points[1]
    state, _ = jax.jit(jaxrl_pg.train, static_argnums=(2, 3))(
        point.config, jax.random.key(point.seed), 2, 4
    )
    learner = jaxrl_pg.load(kept / "policies" / point.id).state.learner
    jax.tree.map(np.testing.assert_array_equal, learner.params, state.learner.params)
    jax.tree.map(np.testing.assert_array_equal, learner.normalizer, state.learner.normalizer)


def test_a_policy_left_by_a_killed_sweep_is_written_again(kept, tmp_path):
    """Policies come before the part, so that a kill in between leaves a batch still to train."""

    class Trained:
        """What `finish` uses of a batch."""

        batch = sweep.batches.make_batch("group", TINY.points[:1])
        config, rows, seconds, timed, digest = TINY.points[0].config, [], 0.0, 0, ""

        def policies(self):
            yield "abc", jaxrl_pg.load(kept / "policies" / TINY.points[0].id)

    (tmp_path / "policies" / "abc").mkdir(parents=True)
    (tmp_path / "parts").mkdir()
    folder.begin(tmp_path, Trained.batch)
    folder.finish(tmp_path, Trained(), keep_policies=True)
    assert jaxrl_pg.load(tmp_path / "policies" / "abc").step == 6


def test_policies_are_kept_only_if_that_is_asked_for(tmp_path):
    one = experiment.parse("one", {**TABLE, "seeds": 1, "grid": {"gamma": [0.9]}})
    assert not (sweep.sweep(one, tmp_path / "one", quiet=True) / "policies").exists()
