"""Soft actor-critic and TD3 on two devices."""

import jax
import numpy as np
import pytest

from jaxrl_pg import sac, td3
from jaxrl_pg.training import program
from programs import SMALL_REPLAY

VALUES = {"env": "Pendulum-v1", **SMALL_REPLAY, "num_devices": 2, "total_timesteps": 256}


@pytest.mark.parametrize("agent", [sac, td3], ids=["sac", "td3"])
def test_two_devices_share_the_replay_and_learn_the_same(agent):
    """The learner is the same on both, each has its own rows, and the state stays as it was."""
    config = agent.Config(**VALUES)
    before = jax.eval_shape(agent.init, config, jax.random.key(0))
    state, metrics = jax.jit(program.train)(config, jax.random.key(0))
    for leaf in jax.tree.leaves(state.learner):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
    # 32 rows an iteration on each, four times, in a share of 50.
    np.testing.assert_array_equal(state.memory.position, [128 % 50] * 2)
    np.testing.assert_array_equal(state.memory.size, [50, 50])
    obs = np.asarray(state.memory.data.obs)
    assert np.all(np.any(obs != 0, axis=1))
    assert len(np.unique(obs, axis=0)) == 100
    assert metrics["train/num_updates"].tolist() == [0, 4, 4, 4]
    assert np.all(np.isfinite(metrics["loss/q"]))
    shapes = [x.shape for x in jax.tree.leaves(before)]
    assert [x.shape for x in jax.tree.leaves(state)] == shapes
