"""PQN and DQN on two devices: one learner, and experience of each device's own."""

import jax
import numpy as np
import pytest

from jaxrl_pg import dqn, pqn
from jaxrl_pg.training import program
from programs import SMALL_PPO, SMALL_REPLAY

TWO = {"num_devices": 2, "total_timesteps": 256}
CONFIGS = {
    "pqn": pqn.Config(**SMALL_PPO, **TWO, normalize_obs=True),
    "dqn": dqn.Config(**SMALL_REPLAY, **TWO, n_step=2, duration_mu=2.0, target_period=3),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_two_devices_learn_the_same_of_what_each_has_seen(name):
    config = CONFIGS[name]
    before = jax.eval_shape(config.agent.init, config, jax.random.key(0))
    state, metrics = jax.jit(program.train)(config, jax.random.key(0))
    for leaf in jax.tree.leaves(state.learner):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
    assert np.all(np.isfinite(metrics["loss/q"]))
    assert [x.shape for x in jax.tree.leaves(state)] == [x.shape for x in jax.tree.leaves(before)]
    obs = np.asarray(state.actor.obs)
    assert len(np.unique(obs, axis=0)) == config.num_envs
    if name == "dqn":
        assert metrics["train/num_updates"].tolist() == [0, 4, 4, 4]
        assert int(state.learner.age) == 0
        assert len(np.unique(np.asarray(state.memory.data.obs), axis=0)) == config.buffer_size
        assert state.actor.hidden.left.shape == (config.num_envs,)
