"""Two devices: one run split over both, or agents shared out. A CPU is made to be two devices.

JAX counts its devices when it starts, so what needs two of them is a `check_...` function here and
runs in one other process; the test of the same name looks at what came of it.
"""

import json
import os
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxrl_pg
from jaxrl_pg import checkpoint, ppo
from jaxrl_pg.components import on_policy
from jaxrl_pg.ops import collectives, running_stats
from jaxrl_pg.running import run_folder
from jaxrl_pg.training import devices
from two_devices import CLI, CONFIG, OPTIONS, assert_same_state, numbers

SAME, EACH = PartitionSpec(), PartitionSpec("devices")


def copies_of(tree):
    """For every leaf, what each device holds of it."""
    return [[np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in numbers(tree)]


def on_both(fn, *args, out):
    """Call `fn` on two devices, which share the first axis of each argument."""
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
    specs = tuple(EACH for _ in args)
    split = jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    return jax.jit(split)(*args)


# --- on two devices -------------------------------------------------------------------------------


def check_a_run_is_train_and_the_learner_is_the_same_on_both(folder):
    state, metrics = jax.jit(jaxrl_pg.train)(CONFIG, jax.random.key(3))
    for copies in copies_of(state.learner):
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
    for copies in copies_of(state.actor):
        assert [len(copy) for copy in copies] == [4, 4]
    assert not np.array_equal(*copies_of(state.actor.obs)[0])
    assert all(np.isfinite(metrics["loss/total"]))
    np.testing.assert_array_equal(metrics["timesteps"], [64, 128, 192, 256])
    result = jaxrl_pg.run(CONFIG, folder / "whole", 3, **OPTIONS)
    assert_same_state(result.state, state)
    np.testing.assert_array_equal(result.metrics["loss/total"], metrics["loss/total"])


def check_half_a_run_is_left_for_others(folder):
    half = CONFIG.replace(total_timesteps=128)
    result = jaxrl_pg.run(half, folder / "half", 3, **{**OPTIONS, "num_evals": 1})
    assert int(result.state.iteration) == 2


def check_agents_shared_out_are_the_agents_trained_alone(folder):
    config = CONFIG.replace(num_devices=1, num_epochs=1, num_minibatches=1, normalize_obs=False)
    keys = jax.random.split(jax.random.key(0), 4)
    shared = devices.over_agents(
        lambda config, keys: jax.lax.map(partial(jaxrl_pg.train, config), keys), (None, 0)
    )
    states, metrics = jax.jit(shared)(config, keys)
    train = jax.jit(jaxrl_pg.train)
    for row, key in enumerate(keys):
        # Another program around the same agent: equal up to the order of sums.
        single = jax.tree.leaves(train(config, key)[0].learner)
        agent = jax.tree.leaves(jax.tree.map(lambda x, row=row: x[row], states.learner))
        for a, b in zip(agent, single, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert np.all(np.isfinite(metrics["loss/total"]))
    assert len(copies_of(states.iteration)[0]) == 2


def check_a_pooled_minibatch_gives_the_gradient_of_one_device(folder):
    keys = jax.random.split(jax.random.key(1), 5)
    batch = on_policy.Batch(
        obs=jax.random.normal(keys[0], (64, 4)),
        action=jax.random.randint(keys[1], (64,), 0, 2),
        log_prob=jnp.full(64, jnp.log(0.5)),
        value=jax.random.normal(keys[2], (64,)),
        advantage=3.0 + 2.0 * jax.random.normal(keys[3], (64,)),
        target=jax.random.normal(keys[4], (64,)),
    )
    one = CONFIG.replace(num_epochs=1, num_minibatches=1, num_devices=1)
    learner = jax.jit(ppo.init)(one, jax.random.key(0)).learner
    update = partial(ppo._update, learner=learner, key=keys[0], iteration=jnp.int32(0))
    alone, metrics = jax.jit(partial(update, one))(batch=batch)
    two = one.replace(num_devices=2)
    together, shared = on_both(
        lambda batch: jax.tree.map(lambda x: x[None], update(two, batch=batch)),
        batch,
        out=EACH,
    )
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(b[0], b[1])
        np.testing.assert_allclose(b[0], a, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        shared["grad_norm"], jnp.stack([metrics["grad_norm"]] * 2), rtol=1e-5
    )
    np.testing.assert_allclose(jnp.mean(shared["loss/total"]), metrics["loss/total"], rtol=1e-4)


def check_mean_averages_every_leaf(folder):
    tree = {
        "a": jnp.arange(12.0).reshape(2, 2, 3),
        "b": (jnp.array([1.0, 5.0]), jnp.array([[-0.5], [0.25]])),
    }
    found = on_both(lambda x: collectives.mean(jax.tree.map(lambda y: y[0], x), 2), tree, out=SAME)
    for mine, leaf in zip(jax.tree.leaves(found), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(mine, np.mean(leaf, axis=0))


def check_merged_moments_are_those_of_all_samples(folder):
    # Small integers: every sum is exact, so the answer is too.
    samples = jax.random.randint(jax.random.key(2), (2, 8, 4, 3), -8, 8).astype(jnp.float32)
    samples = samples.at[:, 0, 0].add(-jnp.sum(samples, axis=(1, 2)) % 32)  # means are exact
    found = on_both(
        lambda x: collectives.merge_moments(running_stats.moments(x[0], 2), 2), samples, out=SAME
    )
    pooled = np.asarray(samples, np.float64).reshape(-1, 3)
    assert found.count == len(pooled)
    np.testing.assert_array_equal(found.mean, pooled.mean(axis=0))
    np.testing.assert_array_equal(found.m2, len(pooled) * pooled.var(axis=0))


def check_every_device_has_keys_of_its_own(folder):
    def draw(nothing):
        del nothing
        keys = collectives.device_keys(list(jax.random.split(jax.random.key(5), 3)), 2)
        return jnp.stack([jax.random.bits(key) for key in keys])

    assert len(np.unique(on_both(draw, jnp.zeros(2), out=EACH))) == 6


def check_more_devices_than_two_are_refused(folder):
    message = r"num_devices=4 but JAX has 2 \(cpu\): give at most 2, or .*JAX_NUM_CPU_DEVICES=4"
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG.replace(num_devices=4), folder / "never", **OPTIONS)
    assert not (folder / "never").exists()


CHECKS = {name.removeprefix("check_"): fn for name, fn in globals().items() if "check_" in name}


def main(folder):
    """Run every check and write down what went wrong."""
    assert jax.device_count() == 2
    jax.config.update("jax_numpy_rank_promotion", "raise")
    outcomes = {}
    for name, check in CHECKS.items():
        try:
            check(folder)
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    (folder / "outcomes.json").write_text(json.dumps(outcomes))


@pytest.fixture(scope="module")
def environ():
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
    }


@pytest.fixture(scope="module")
def folder(environ, tmp_path_factory):
    """Where the other process left its runs and its outcomes."""
    folder = tmp_path_factory.mktemp("two_devices")
    code = f"import pathlib, test_parallel; test_parallel.main(pathlib.Path({str(folder)!r}))"
    subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "JAX_NUM_CPU_DEVICES": "2"},
        timeout=280,
        check=True,
    )
    return folder


@pytest.mark.parametrize("name", CHECKS)
def test_on_two_devices(folder, name):
    outcome = json.loads((folder / "outcomes.json").read_text())[name]
    assert not outcome, outcome


# --- what two devices left, on one ----------------------------------------------------------------


def test_the_command_line_resumes_on_as_many_devices_bit_for_bit(folder, environ):
    half, whole = folder / "half", folder / "whole"
    assert checkpoint.steps(half / "checkpoints") == [2]
    command = ["resume", str(half), "--total-timesteps", "256", "--quiet", "True"]
    result = subprocess.run(
        [*CLI, *command], env=environ, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert_same_state(jaxrl_pg.load(half).state, jaxrl_pg.load(whole).state)
    rows = [run_folder.RunFolder.open(run).rows() for run in (half, whole)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds", None)
    assert [r for r in rows[0] if "loss/total" in r] == [r for r in rows[1] if "loss/total" in r]


def test_a_policy_of_two_devices_acts_on_one(folder):
    policy = jaxrl_pg.load(folder / "whole")
    assert policy.config.num_devices == 2
    assert policy.step == 4
    assert set(np.asarray(policy(jnp.zeros((5, 4))))) <= {0, 1}
    returns = jaxrl_pg.evaluate(policy.config, policy.state, jax.random.key(0), 3)
    assert returns.shape == (3,)


def test_a_run_of_two_devices_is_not_resumed_on_one(folder, tmp_path):
    with pytest.raises(ValueError, match="num_devices=2 but JAX has 1"):
        jaxrl_pg.resume(folder / "whole")
    path = folder / "whole" / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"num_devices": 2', '"num_devices": 1'))
    with pytest.raises(ValueError, match="num_devices: checkpoint 2, config 1"):
        jaxrl_pg.resume(folder / "whole")
    path.write_text(text)


# --- one device -----------------------------------------------------------------------------------


def test_on_one_device_nothing_is_sent():
    tree = {"a": jnp.ones(3)}
    stats = running_stats.init((3,))
    keys = [jax.random.key(0)]
    assert collectives.mean(tree, 1) is tree
    assert collectives.merge_moments(stats, 1) is stats
    assert collectives.device_keys(keys, 1) is keys
    assert devices.over_environments(len, 1) is len
    assert devices.state_shardings(1) is None
    assert devices.place_shapes(tree, 1) is tree


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(
        ValueError, match=r"num_devices=2 but JAX has 1 \(cpu\): give at most 1, or "
    ):
        devices.require_devices(2)
    devices.require_devices(1)
