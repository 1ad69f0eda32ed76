"""Random keys as they are at hand: typed, raw, or mistaken for a seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blank import state_of

import jaxrl_pg
from jaxrl_pg.agents import ppo
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.training import seeding

CONFIG = ppo.Config(num_envs=2, num_steps=2, num_minibatches=1, total_timesteps=4)
KEY = jax.random.key(7)
RAW = jax.random.PRNGKey(7)


@pytest.fixture(scope="module")
def state():
    return state_of(CONFIG)


def shapes(fn, *args):
    return [(x.shape, str(x.dtype)) for x in jax.tree.leaves(jax.eval_shape(fn, *args))]


def test_a_raw_key_is_the_typed_key_of_its_words():
    for key in (RAW, np.asarray(RAW)):
        wrapped = seeding.require_key(key)
        assert wrapped.dtype == KEY.dtype
        np.testing.assert_array_equal(jax.random.key_data(wrapped), RAW)


def test_every_door_takes_both_kinds(state):
    doors = [
        lambda key: jaxrl_pg.train(CONFIG, key),
        lambda key: jaxrl_pg.init(CONFIG, key),
        lambda key: jaxrl_pg.evaluate(CONFIG, state, key, 2),
        lambda key: Policy(CONFIG, state, 0)(jnp.zeros(4), key),
        lambda key: Policy(CONFIG, state, 0).evaluate(key, 2),
    ]
    for door in doors:
        assert shapes(door, RAW) == shapes(door, KEY)


def test_both_kinds_can_be_mapped_over():
    typed, raw = jax.random.split(KEY, 3), jax.random.split(RAW, 3)
    init = jax.vmap(lambda key: jaxrl_pg.init(CONFIG, key))
    assert shapes(init, typed) == shapes(init, raw)


@pytest.mark.parametrize("key", [0, 7, np.int32(3), jnp.asarray(3), None, "0", 1.5, [0, 7], ()])
def test_what_is_no_key_is_answered_with_how_to_make_one(key, state):
    doors = [
        lambda: jaxrl_pg.train(CONFIG, key),
        lambda: jaxrl_pg.init(CONFIG, key),
        lambda: jaxrl_pg.evaluate(CONFIG, state, key),
        lambda: Policy(CONFIG, state, 0).evaluate(key),
        lambda: seeding.require_key(np.float32([1, 2])),
        lambda: seeding.require_key(np.zeros(3, np.uint32)),
    ]
    if key is not None:  # a policy without a key takes the most probable action
        doors.append(lambda: Policy(CONFIG, state, 0)(jnp.zeros(4), key))
    for door in doors:
        with pytest.raises(ValueError, match=r"^key=.*such as jax\.random\.key\(0\)$"):
            door()


def test_a_number_traced_as_a_key_is_answered_so_too():
    with pytest.raises(ValueError, match=r"such as jax\.random\.key\(0\)"):
        jax.jit(jaxrl_pg.train)(CONFIG, 11)


@pytest.mark.parametrize("keys", [jax.random.split(KEY, 5), jax.random.split(RAW, 5)])
def test_several_keys_need_vmap(keys, state):
    for door in (
        lambda: jaxrl_pg.train(CONFIG, keys),
        lambda: jaxrl_pg.init(CONFIG, keys),
        lambda: jaxrl_pg.evaluate(CONFIG, state, keys),
    ):
        with pytest.raises(ValueError, match=r"key has shape \(5,\): give one key, or jax\.vmap"):
            door()
