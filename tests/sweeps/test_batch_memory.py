"""The memory of a batch, as it is estimated and as the compiler plans it."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_pg import dqn
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.sweeps import batch
from jaxrl_pg.training import population

# The states are nearly all of it: a replay of some megabytes beside little work.
CONFIG = dqn.Config(num_envs=4, buffer_size=100_000, hidden_sizes=(8,))


def planned(num_members, layout):
    """Bytes that XLA plans on each device for a piece of a batch, as `BatchRun` compiles it."""
    configs = population.stack([CONFIG] * num_members)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_members))
    members = jax.eval_shape(lambda *args: population.init(*args, layout), configs, keys)
    number, evaluate = (jax.ShapeDtypeStruct((), kind) for kind in (jnp.int32, bool))
    advance = jax.jit(population.advance, static_argnums=(4, 5), donate_argnums=1)
    lowered = advance.lower(configs, members, number, evaluate, 4, layout)
    plan = lowered.compile({"xla_backend_optimization_level": 0}).memory_analysis()
    own_outputs = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + plan.temp_size_in_bytes + own_outputs


def test_states_of_members_that_are_trained_in_a_loop_count_twice():
    number = 8 * jax.device_count()
    of_a_device = planned(number, "map")
    assert of_a_device < batch.num_bytes(CONFIG, number, "map") < 1.2 * of_a_device


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_as_many_members_are_chosen_as_are_estimated_to_fit(layout, monkeypatch):
    devices = jax.device_count()
    for number in (1, 2, 3, 9):
        need = batch.num_bytes(CONFIG, number * devices, layout) * devices
        have = int(need / batch._MEMORY_SHARE) + 2 * devices
        monkeypatch.setattr(memory_estimate, "available", lambda have=have: have)
        most = batch.max_members(CONFIG, layout)
        assert most == number * devices
        assert batch.num_bytes(CONFIG, most, layout) * devices <= need
