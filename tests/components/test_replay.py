"""The replay against a deque; what its samples are; and that adding copies nothing.

A statistical test passes when its p-value is above 1e-6: the share of seeds on which a correct
sampler would fail it.
"""

import collections
import re
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from jaxrl_pg.components import replay

FALSE_ALARM = 1e-6
ADD = jax.jit(replay.add)


def sample(ring, key, num):
    return replay.take(ring, replay.draw(ring, key, num))


class Row(NamedTuple):
    number: jax.Array
    image: jax.Array
    flag: jax.Array


def rows_of(numbers):
    """Rows that all say which number they are, in the dtypes of images and flags too."""
    numbers = jnp.asarray(numbers, jnp.int32)
    image = jnp.broadcast_to(numbers[:, None, None], (len(numbers), 2, 3)).astype(jnp.uint8)
    return Row(numbers.astype(jnp.float32), image, numbers % 2 == 1)


EMPTY = jax.tree.map(lambda x: x[0], rows_of([0]))


def filled(capacity, counts):
    """A replay after adding 1, 2, 3, ... in pieces of these sizes, and a deque after the same."""
    ring, twin, last = replay.init(EMPTY, capacity), collections.deque(maxlen=capacity), 0
    for count in counts:
        numbers = range(last + 1, last + count + 1)
        ring, last = ADD(ring, rows_of(numbers)), last + count
        twin.extend(numbers)
    return ring, list(twin)


def oldest_first(ring):
    """The rows' numbers from the oldest to the newest."""
    size, position = int(ring.size[0]), int(ring.position[0])
    capacity = ring.data.number.shape[0]
    index = (position - size + np.arange(size)) % capacity
    return np.asarray(ring.data.number)[index].astype(int).tolist()


def test_a_ring_worked_by_hand():
    # Five places, three rows at a time: 1 2 3 . . -> 6 2 3 4 5 -> 6 7 8 9 5.
    expected = {1: ([1, 2, 3, 0, 0], 3, 3), 2: ([6, 2, 3, 4, 5], 1, 5), 3: ([6, 7, 8, 9, 5], 4, 5)}
    for adds, (numbers, position, size) in expected.items():
        ring, _ = filled(5, [3] * adds)
        assert_array_equal(ring.data.number, numbers)
        assert (ring.position.tolist(), ring.size.tolist()) == ([position], [size])


@pytest.mark.parametrize(
    ("capacity", "counts"),
    [
        (7, [3] * 9),  # 3 does not divide 7
        (6, [3] * 5),  # 3 divides 6
        (4, [4, 4, 4]),  # all of it at once
        (4, [3, 9, 2]),  # more than fit
        (1, [1, 2, 1]),
        (5, [1, 4, 2, 5, 3, 3]),
    ],
)
def test_it_holds_what_a_deque_holds(capacity, counts):
    for length in range(1, len(counts) + 1):
        ring, twin = filled(capacity, counts[:length])
        assert oldest_first(ring) == twin
        number = np.asarray(ring.data.number)
        assert_array_equal(
            ring.data.image, np.broadcast_to(number[:, None, None], (capacity, 2, 3))
        )
        assert_array_equal(ring.data.flag, number % 2 == 1)


def test_dtypes_stay_what_they_are():
    ring, _ = filled(4, [3])
    assert [x.dtype for x in ring.data] == [jnp.float32, jnp.uint8, jnp.bool_]
    assert [x.shape for x in ring.data] == [(4,), (4, 2, 3), (4,)]
    sampled = sample(ring, jax.random.key(0), 2)
    assert [x.dtype for x in sampled] == [jnp.float32, jnp.uint8, jnp.bool_]
    assert [x.shape for x in sampled] == [(2,), (2, 2, 3), (2,)]


def test_a_batch_of_rings_is_each_ring_alone():
    """Positions differ, so that each member writes elsewhere and wraps at another time."""
    alone = [filled(5, counts)[0] for counts in ([2], [4], [5, 3])]
    together = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    rows = rows_of([50, 51, 52])
    added = jax.vmap(replay.add, (0, None))(together, rows)
    for i, ring in enumerate(alone):
        jax.tree.map(lambda x, y, i=i: assert_array_equal(x[i], y), added, ADD(ring, rows))
    keys = jax.random.split(jax.random.key(0), 3)
    sampled = jax.vmap(sample, (0, 0, None))(added, keys, 6)
    for i, ring in enumerate(alone):
        single = sample(ADD(ring, rows), keys[i], 6)
        jax.tree.map(lambda x, y, i=i: assert_array_equal(x[i], y), sampled, single)


@pytest.mark.parametrize("counts", [[5], [8], [6, 7]])
def test_samples_are_uniform_over_what_was_written(counts):
    """Partly filled, just full, and wrapped; the parts of a row stay together."""
    ring, twin = filled(8, counts)
    rows = sample(ring, jax.random.key(1), 20_000)
    numbers = np.asarray(rows.number).astype(int)
    assert set(numbers) == set(twin)
    assert_array_equal(rows.image[:, 0, 0], numbers)
    assert_array_equal(rows.flag, numbers % 2 == 1)
    counted = np.array([np.sum(numbers == number) for number in twin])
    assert stats.chisquare(counted).pvalue > FALSE_ALARM


def test_draws_are_independent_and_follow_the_key():
    ring, _ = filled(8, [8])
    draws = [sample(ring, jax.random.key(k), 5000).number for k in (0, 0, 1)]
    assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    # Neighbours agree in an eighth of the cases, as independent draws with replacement do.
    same = int(np.sum(np.asarray(draws[0])[1:] == np.asarray(draws[0])[:-1]))
    assert stats.binomtest(same, 4999, 1 / 8).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("capacity", "num_devices"), [(0, 1), (5, 2), (1, 2)])
def test_a_capacity_that_does_not_split_is_refused(capacity, num_devices):
    with pytest.raises(ValueError, match=rf"a replay of {capacity} rows does not split over"):
        replay.init(EMPTY, capacity, num_devices)


def test_every_device_has_a_share_and_a_position():
    ring = replay.init(EMPTY, 6, num_devices=3)
    assert ring.position.shape == ring.size.shape == (3,)
    assert all(leaf.shape[0] % 3 == 0 for leaf in jax.tree.leaves(ring))


# --- cost -----------------------------------------------------------------------------------------

CAPACITY = 12_347  # a number that nothing else in the programs has


def add_and_sample(num, ring, key):
    """Adding five rows and sampling sixteen, `num` times, as training does it."""

    def body(carry, step_key):
        ring, total = carry
        ring = replay.add(ring, rows_of(range(5)))
        return (ring, total + jnp.sum(sample(ring, step_key, 16).number)), None

    return jax.lax.scan(body, (ring, 0.0), jax.random.split(key, num))[0]


def compiled(options, capacity, num, members):
    fn, ring, key = partial(add_and_sample, num), replay.init(EMPTY, capacity), jax.random.key(0)
    if members:
        fn, key = jax.vmap(fn), jax.random.split(key, members)
        ring = jax.tree.map(lambda x: jnp.broadcast_to(x, (members, *x.shape)), ring)
    program = jax.jit(fn, donate_argnums=0).lower(ring, key).compile(options)
    return program, ring, key


def buffers_made(program, capacity):
    """Operations of an optimised program whose result is a new array as large as the replay.

    Those that update in place, or only pass on what there is, make none.
    """
    in_place = "dynamic-update-slice|scatter|parameter|get-tuple-element|tuple|while|bitcast|call"
    made = []
    for line in program.as_text().splitlines():
        match = re.search(r" = \w+\[([\d,]*)\]\S* ([\w-]+)\(", line)
        if match and str(capacity) in match[1].split(","):
            aliased = re.search(r"calls=\S*(dynamic-update-slice|scatter)", line)
            if not re.fullmatch(in_place, match[2]) and not aliased:
                made.append(line.strip())
    return made


@pytest.mark.parametrize("members", [0, 3])
def test_the_compiled_loop_makes_no_second_replay(members, optimised):
    program, *_ = compiled(optimised, CAPACITY, 10, members)
    assert str(CAPACITY) in program.as_text()
    assert not buffers_made(program, CAPACITY)
    assert program.memory_analysis().temp_size_in_bytes < CAPACITY


def test_a_copy_would_be_seen(optimised):
    """The check above, on a program that does write a new replay every time."""

    def shifted(num, ring):
        numbers = jnp.arange(num, dtype=jnp.float32)
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.concatenate([x[num:], numbers]), ring)

    lowered = jax.jit(partial(shifted, 5), donate_argnums=0).lower(jnp.zeros(CAPACITY))
    program = lowered.compile(optimised)
    assert buffers_made(program, CAPACITY)


@pytest.mark.slow
@pytest.mark.parametrize("members", [0, 4])
def test_time_does_not_grow_with_the_capacity(members, optimised):
    """From 10,000 to 1,000,000 rows; what is left is that large arrays miss the caches."""
    seconds = {}
    for capacity in (10_000, 1_000_000):
        program, ring, key = compiled(optimised, capacity, 2000, members)
        spent = []
        for _ in range(4):
            start = time.perf_counter()
            ring, total = program(ring, key)
            total.block_until_ready()
            spent.append(time.perf_counter() - start)
        seconds[capacity] = min(spent)
    print(f"{members or 1} members: { ({c: s / 2000 * 1e6 for c, s in seconds.items()}) } us")
    assert seconds[1_000_000] < 10 * seconds[10_000]
