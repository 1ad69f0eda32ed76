"""Two devices: one run split over both, or members shared out; and what is left of it on one."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import jaxrl_pg
from jaxrl_pg import checkpoint, ppo
from jaxrl_pg.cli import main
from jaxrl_pg.components import on_policy
from jaxrl_pg.ops import collectives, running_stats
from jaxrl_pg.running import run_folder
from jaxrl_pg.training import devices
from two_devices import CONFIG, OPTIONS, assert_same_state, numbers

SAME, EACH = PartitionSpec(), PartitionSpec("devices")


def copies_of(tree):
    """For every leaf, what each device holds of it."""
    return [[np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in numbers(tree)]


def on_both(fn, *args, out):
    """Return what `fn` gives on two devices, which share the first axis of each argument."""
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
    specs = tuple(EACH for _ in args)
    split = jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    return jax.jit(split)(*args)


# --- on two devices -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two devices."""
    folder = tmp_path_factory.mktemp("devices") / "whole"
    return jaxrl_pg.run(CONFIG, folder, 3, **OPTIONS)


def test_a_run_is_train_and_the_learner_is_the_same_on_both(whole):
    state, metrics = jax.jit(jaxrl_pg.train)(CONFIG, jax.random.key(3))
    for copies in copies_of(state.learner):
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)
    for copies in copies_of(state.actor):
        assert [len(copy) for copy in copies] == [4, 4]
    assert not np.array_equal(*copies_of(state.actor.obs)[0])
    assert all(np.isfinite(metrics["loss/total"]))
    np.testing.assert_array_equal(metrics["timesteps"], [64, 128, 192, 256])
    assert_same_state(whole.state, state)
    np.testing.assert_array_equal(whole.metrics["loss/total"], metrics["loss/total"])


def test_the_command_line_resumes_on_as_many_devices_bit_for_bit(whole, tmp_path):
    half = tmp_path / "half"
    config = CONFIG.replace(total_timesteps=128)
    result = jaxrl_pg.run(config, half, 3, **{**OPTIONS, "num_evals": 1})
    assert int(result.state.iteration) == 2
    assert checkpoint.steps(half / "checkpoints") == [2]
    assert main(["resume", str(half), "--total-timesteps", "256", "--quiet", "True"]) == 0
    assert_same_state(jaxrl_pg.load(half).state, jaxrl_pg.load(whole.run_dir).state)
    rows = [run_folder.RunFolder.open(run).rows() for run in (half, whole.run_dir)]
    for row in (*rows[0], *rows[1]):
        row.pop("seconds", None)
    assert [r for r in rows[0] if "loss/total" in r] == [r for r in rows[1] if "loss/total" in r]


def test_members_shared_out_are_the_members_trained_alone():
    config = CONFIG.replace(num_devices=1, num_epochs=1, num_minibatches=1, normalize_obs=False)
    keys = jax.random.split(jax.random.key(0), 4)
    shared = devices.over_members(
        lambda config, keys: jax.lax.map(partial(jaxrl_pg.train, config), keys), (None, 0)
    )
    states, metrics = jax.jit(shared)(config, keys)
    learners = jax.device_get(states.learner)
    train = jax.jit(jaxrl_pg.train)
    for row, key in enumerate(keys):
        # Another program around the same member: equal up to the order of sums.
        single = jax.tree.leaves(train(config, key)[0].learner)
        member = [x[row] for x in jax.tree.leaves(learners)]
        for a, b in zip(member, single, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert np.all(np.isfinite(metrics["loss/total"]))
    assert len(copies_of(states.iteration)[0]) == 2


def test_a_pooled_minibatch_gives_the_gradient_of_one_device():
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

    def update(batch):
        model, rate = on_policy.build(one), on_policy.learning_rate(one, jnp.int32(0))
        return ppo._update(one, model, learner, batch, keys[0], rate)

    alone, metrics = jax.jit(update)(batch)
    together, shared = on_both(
        lambda batch: jax.tree.map(lambda x: x[None], update(batch)), batch, out=EACH
    )
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(b[0], b[1])
        np.testing.assert_allclose(b[0], a, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        shared["grad_norm"], jnp.stack([metrics["grad_norm"]] * 2), rtol=1e-5
    )
    np.testing.assert_allclose(jnp.mean(shared["loss/total"]), metrics["loss/total"], rtol=1e-4)


def test_mean_averages_every_leaf():
    tree = {
        "a": jnp.arange(12.0).reshape(2, 2, 3),
        "b": (jnp.array([1.0, 5.0]), jnp.array([[-0.5], [0.25]])),
    }
    means = on_both(lambda x: collectives.mean(jax.tree.map(lambda y: y[0], x)), tree, out=SAME)
    for mean, leaf in zip(jax.tree.leaves(means), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(mean, np.mean(leaf, axis=0))


def test_merged_moments_are_those_of_all_samples():
    # Small integers: every sum is exact, so the answer is too.
    samples = jax.random.randint(jax.random.key(2), (2, 8, 4, 3), -8, 8).astype(jnp.float32)
    samples = samples.at[:, 0, 0].add(-jnp.sum(samples, axis=(1, 2)) % 32)  # means are exact
    stats = on_both(lambda x: running_stats.moments(x[0], 2), samples, out=SAME)
    pooled = np.asarray(samples, np.float64).reshape(-1, 3)
    assert stats.count == len(pooled)
    np.testing.assert_array_equal(stats.mean, pooled.mean(axis=0))
    np.testing.assert_array_equal(stats.m2, len(pooled) * pooled.var(axis=0))


def test_every_device_has_keys_of_its_own():
    def draw(nothing):
        del nothing
        keys = collectives.device_keys(list(jax.random.split(jax.random.key(5), 3)))
        return jnp.stack([jax.random.bits(key) for key in keys])

    assert len(np.unique(on_both(draw, jnp.zeros(2), out=EACH))) == 6


def test_more_devices_than_two_are_refused(tmp_path):
    message = r"num_devices=4 but JAX has 2 \(cpu\): give at most 2, or .*JAX_NUM_CPU_DEVICES=4"
    with pytest.raises(ValueError, match=message):
        jaxrl_pg.run(CONFIG.replace(num_devices=4), tmp_path / "never", **OPTIONS)
    assert not (tmp_path / "never").exists()


# --- what two devices left, on one ----------------------------------------------------------------


def alone(folder):
    """What a process with one device does with the run's folder."""
    assert jax.device_count() == 1
    policy = jaxrl_pg.load(folder)
    assert policy.config.num_devices == 2
    assert policy.step == 4
    assert set(np.asarray(policy(jnp.zeros((5, 4))))) <= {0, 1}
    returns = jaxrl_pg.evaluate(policy.config, policy.state, jax.random.key(0), 3)
    assert returns.shape == (3,)
    with pytest.raises(
        ValueError, match=r"num_devices=2 but JAX has 1 \(cpu\): give at most 1, or "
    ):
        jaxrl_pg.resume(folder)


def test_a_policy_of_two_devices_acts_on_one_and_its_run_is_not_resumed_there(whole):
    code = f"import pathlib, test_devices; test_devices.alone(pathlib.Path({str(whole.run_dir)!r}))"
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    env = {**os.environ, "PYTHONPATH": path, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_a_run_is_not_resumed_on_another_number_of_devices(whole):
    path = whole.run_dir / "config.json"
    text = path.read_text()
    path.write_text(text.replace('"num_devices": 2', '"num_devices": 1'))
    with pytest.raises(ValueError, match="num_devices: checkpoint 2, config 1"):
        jaxrl_pg.resume(whole.run_dir)
    path.write_text(text)


# --- one device -----------------------------------------------------------------------------------


def test_on_one_device_nothing_is_sent():
    tree = {"a": jnp.ones(3)}
    keys = [jax.random.key(0)]
    assert collectives.mean(tree) is tree
    moments = str(jax.make_jaxpr(lambda x: running_stats.moments(x, 1))(tree["a"]))
    assert "reduce_sum" in moments
    assert "psum" not in moments
    assert collectives.device_keys(keys) is keys
    assert collectives.split(len, 1, SAME, SAME) is len
    assert devices.state_shardings(1) is None
    shapes = devices.state_shapes(CONFIG.replace(num_devices=1))
    assert all(x.sharding is None for x in jax.tree.leaves(shapes))


def test_on_two_devices_moments_are_sent():
    """The check above, where something is sent."""
    split = collectives.split(lambda x: running_stats.moments(x, 1), 2, (EACH,), SAME)
    assert "psum" in str(jax.make_jaxpr(split)(jnp.ones(4)))


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(
        ValueError, match=r"num_devices=3 but JAX has 2 \(cpu\): give at most 2, or "
    ):
        devices.require_devices(3)
    devices.require_devices(2)
