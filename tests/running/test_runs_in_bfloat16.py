"""Runs in bfloat16, and folders of runs that knew neither a dtype nor a precision."""

import json

import jax
import pytest

import jaxrl_pg
from compare import assert_bit_equal
from jaxrl_pg import config as configs
from jaxrl_pg import ppo

CONFIG = ppo.Config(
    dtype="bfloat16",
    core="gru",
    core_size=4,
    num_envs=4,
    num_steps=4,
    num_epochs=1,
    num_minibatches=2,
    hidden_sizes=(4,),
    anneal_lr=False,
    total_timesteps=64,
)
HALF = CONFIG.replace(total_timesteps=32)
OPTIONS = {"num_evals": 0, "quiet": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return jaxrl_pg.run(CONFIG, tmp_path_factory.mktemp("bfloat16") / "whole", 3, **OPTIONS)


def test_a_run_goes_on_bit_for_bit_and_its_folder_says_how_it_computes(whole, tmp_path):
    jaxrl_pg.run(HALF, tmp_path / "half", 3, **OPTIONS)
    saved = json.loads((tmp_path / "half" / "config.json").read_text())["config"]
    assert (saved["dtype"], saved["matmul_precision"]) == ("bfloat16", "highest")
    result = jaxrl_pg.resume(tmp_path / "half", total_timesteps=64, quiet=True)
    assert_bit_equal(result.state, whole.state)
    assert jaxrl_pg.load(tmp_path / "half").config == CONFIG


def test_a_run_that_knew_no_precision_goes_on_as_it_was(whole, tmp_path, monkeypatch):
    """Its products are left to JAX; on a CPU they are the same bits."""

    def without(config, to_dict=configs.to_dict):
        return {k: x for k, x in to_dict(config).items() if k != "matmul_precision"}

    monkeypatch.setattr(configs, "to_dict", without)
    jaxrl_pg.run(HALF.replace(matmul_precision="default"), tmp_path / "old", 3, **OPTIONS)
    monkeypatch.undo()
    saved = json.loads((tmp_path / "old" / "config.json").read_text())["config"]
    assert "matmul_precision" not in saved
    assert jaxrl_pg.load(tmp_path / "old").config.matmul_precision == "default"
    result = jaxrl_pg.resume(tmp_path / "old", total_timesteps=64, quiet=True)
    assert_bit_equal(result.state, whole.state)


def test_a_policy_in_bfloat16_starts_one_in_float32(whole):
    """Parameters are float32 in both."""
    wide = CONFIG.replace(dtype="float32")
    state = jax.eval_shape(lambda key: jaxrl_pg.init(wide, key, whole.policy), jax.random.key(0))
    assert {str(x.dtype) for x in jax.tree.leaves(state.learner.params)} == {"float32"}
