"""Every seed is a run of its own, however large it is, and whatever kind of whole number it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg.agents import ppo
from jaxrl_pg.sweeps import search, study
from jaxrl_pg.training import seeding

CONFIG = ppo.Config(num_envs=2, num_steps=2, num_minibatches=1, total_timesteps=4)
LOW = [0, 1, 12345, 2**31 - 1, 2**31, 2**32 - 1]
HIGH = [2**32, 2**32 + 1, 2**33 + 12345, 3 * 2**40 + 1, 2**62, 2**63 - 1]


def words(seed):
    return tuple(np.asarray(jax.random.key_data(seeding.key_of_seed(seed))).tolist())


def test_a_seed_of_32_bits_is_the_seed_of_jax():
    for seed in LOW:
        expected = jax.random.key_data(jax.random.key(seed))
        assert words(seed) == tuple(np.asarray(expected).tolist())


def test_seeds_that_differ_in_any_bit_have_different_keys():
    bits = [2**i for i in range(63)]
    seeds = {*LOW, *HIGH, *bits, *(5 + bit for bit in bits[3:])}
    assert len({words(seed) for seed in seeds}) == len(seeds)


def test_large_seeds_are_those_of_jax_with_64_bits():
    expected = {}
    with jax.enable_x64(True):
        for seed in HIGH:
            expected[seed] = tuple(np.asarray(jax.random.key_data(jax.random.key(seed))).tolist())
    assert {seed: words(seed) for seed in HIGH} == expected


def test_other_kinds_of_key_keep_seeds_apart_too():
    with jax.default_prng_impl("rbg"):
        assert len({words(seed) for seed in LOW + HIGH}) == len(LOW + HIGH)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, np.array, jnp.asarray])
def test_any_whole_number_is_a_seed(kind):
    assert words(kind(41)) == words(41)
    assert type(seeding.require_seed(kind(41))) is int


@pytest.mark.parametrize(
    "seed",
    [
        *[True, np.bool_(False), 3.0, np.float32(3), -1, np.int64(-7), 2**63, "3", None, [3]],
        *[np.array([1, 2]), np.array(2.0), jax.random.key(3)],
    ],
)
def test_what_is_no_seed_is_refused_before_anything_is_written(seed, tmp_path):
    with pytest.raises(ValueError, match=r"^seed=.*: give a whole number from 0 to 2\^63 - 1$"):
        jaxrl_pg.run(CONFIG, tmp_path / "run", seed)
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_takes_large_seeds_and_refuses_bad_ones(tmp_path):
    table = {"agent": "ppo", "env": "CartPole-v1", "seeds": [3, 2**40]}
    assert list(study._seeds(table["seeds"])) == [3, 2**40]
    for seed in (-2, 1.5, True, 2**63):
        with pytest.raises(ValueError, match=r"a seed=.*give a whole number"):
            study._seeds([seed])
        with pytest.raises(ValueError, match=r"a seed=.*give a whole number"):
            search.successive_halving([CONFIG], [seed], 4)
