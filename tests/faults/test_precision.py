"""The switch jax_enable_x64: agents train under it, and a run does not go on across it."""

import warnings

import jax
import numpy as np
import pytest
from blank import state_of

import jaxrl_pg
from jaxrl_pg import checkpoint
from jaxrl_pg.agents import analytical_replay, ppo, reinforce, sac, td3
from jaxrl_pg.running import initial_state
from jaxrl_pg.running.run_folder import RunFolder

KEY = jax.random.key(0)
SIZES = {"num_envs": 2, "num_steps": 8, "hidden_sizes": (4,), "total_timesteps": 16}
BOX = {"env": "Pendulum-v1", "env_params": {"max_steps_in_episode": 6}}
REPLAY = {"num_updates": 2, "batch_size": 4, "buffer_size": 32, "learning_starts": 8}
CASES = {
    "ppo": ppo.Config(**SIZES, **BOX, num_minibatches=2, normalize_obs=True),
    "reinforce": reinforce.Config(**SIZES, **BOX, baseline="optimal", discount="from_start"),
    "reinforce-average": reinforce.Config(**SIZES, **BOX, baseline="average", returns="trajectory"),
    "sac": sac.Config(**SIZES, **BOX, **REPLAY),
    "td3": td3.Config(**SIZES, **BOX, **REPLAY),
    "analytical_replay": analytical_replay.Config(**SIZES, **BOX, **REPLAY, covariance="full"),
}


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_agents_train_with_64_bits_without_a_warning(config):
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("error")
        state, _ = jax.eval_shape(lambda key: jaxrl_pg.train(config, key, 1, 2), KEY)
    assert {x.dtype for x in jax.tree.leaves(state.learner.params)} == {np.dtype("float64")}


@pytest.mark.parametrize("wide", [False, True])
def test_a_run_is_not_resumed_across_the_switch(wide, tmp_path):
    config = CASES["ppo"]
    saved = {"agent": "ppo", "env": "Pendulum-v1", "config": {}, "options": {}, "seed": 0}
    folder = RunFolder.create(tmp_path / "run", saved)
    with jax.enable_x64(wide), checkpoint.Checkpoints(folder.checkpoints_dir) as saves:
        saves.save(1, state_of(config), {"seconds": 0.0, "config": {}})
    with jax.enable_x64(not wide), pytest.raises(ValueError, match=f"jax_enable_x64={wide}"):
        initial_state._find(config, folder, jaxrl_pg.training.devices.state_shapes(config))


def test_a_state_of_the_other_precision_is_named():
    state = state_of(CASES["ppo"])
    with jax.enable_x64(True), pytest.raises(ValueError, match=r"float32.*jax_enable_x64"):
        jaxrl_pg.iterate(CASES["ppo"], state, 1)
