"""How many rows networks are applied to at once on a CPU."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_pg.ops import collectives

KERNEL = jnp.ones((400, 5))


def test_numbers_that_grow_with_rows_are_counted():
    """Two rows make 2 (5 + 5) numbers more than none; the turned kernel is no row's."""

    def network(x):
        return jnp.tanh(x @ KERNEL.T.T)

    assert collectives.numbers_per_row(network, jnp.ones((7, 400))) == 10
    assert collectives.numbers_per_row(lambda x: 1.0, jnp.ones((7, 400))) == 1


def repeated(times):
    return lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], times, x.shape[1]))


@pytest.mark.parametrize(
    ("width", "times", "rows"),
    [
        (4, 10, 0),  # narrow: all at once on one device
        (400, 1, 4096),  # 11e6 / (400 + 400): as many as 13,750 would fit
        (400, 50, 539),  # 11e6 / (400 + 50 * 400)
        (400, 10**5, 1),
    ],
)
def test_the_more_numbers_a_row_makes_the_fewer_rows_are_read_at_once(width, times, rows):
    obs = jnp.ones((8, width))
    assert collectives.rows_at_once(repeated(times), obs, obs) == rows


def test_on_an_accelerator_all_rows_are_read_at_once(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    obs = jnp.ones((8, 400))
    assert collectives.rows_at_once(repeated(50), obs, obs) == 0
