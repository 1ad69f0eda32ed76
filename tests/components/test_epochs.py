"""Passes over a rollout in minibatches, against the same steps written as a Python loop."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_pg.components import epochs, optim
from jaxrl_pg.ops import batching

CONFIG = SimpleNamespace(num_epochs=3, num_minibatches=4, max_grad_norm=0.7, optimizer=None)
KEY, RATE = jax.random.key(5), jnp.float32(0.1)


def loss(rows, params):
    """Half the squared error of a line; the unused parameter has no gradient."""
    x, y = rows
    error = x * params["slope"] - y
    return 0.5 * jnp.mean(error**2), {"loss": 0.5 * jnp.mean(error**2), "seen": jnp.sum(x)}


def problem():
    x = jnp.arange(1.0, 13.0)
    params = {"slope": jnp.float32(0.2), "unused": jnp.float32(3.0)}
    return (x, 2.0 * x), params, optim.init(params)


def test_a_fit_is_the_loop_over_its_minibatches():
    rows, params, opt_state = problem()
    carry, metrics = epochs.fit(CONFIG, loss, rows, (params, opt_state), KEY, RATE)
    steps = []
    for indices in batching.minibatch_indices(KEY, 12, 3, 4):
        minibatch = tuple(part[indices] for part in rows)
        grads, measured = jax.grad(loss, argnums=1, has_aux=True)(minibatch, params)
        params, opt_state, norm = optim.apply_gradients(params, opt_state, grads, RATE, 0.7)
        steps.append({**measured, "grad_norm": norm})
    for name in ("slope", "unused"):
        np.testing.assert_allclose(carry[0][name], params[name], rtol=1e-6)
    for name in ("loss", "seen", "grad_norm"):
        last = [step[name] for step in steps[-4:]]
        np.testing.assert_allclose(metrics[name], last, rtol=1e-5)


def test_every_pass_visits_every_row_once_and_leaves_alone_what_has_no_gradient():
    rows, params, opt_state = problem()
    (after, _), metrics = epochs.fit(CONFIG, loss, rows, (params, opt_state), KEY, RATE)
    assert metrics["seen"].shape == (4,)
    assert float(jnp.sum(metrics["seen"])) == 78.0  # 1 + 2 + ... + 12
    assert float(after["unused"]) == 3.0
    # Twelve steps of Adam at 0.1 from a slope of 0.2 towards 2: each at most about 0.1.
    assert 1.0 < float(after["slope"]) < 0.2 + 12 * 0.11


def test_a_fit_in_pieces_is_the_fit_of_whole_minibatches(monkeypatch):
    def traced(rows, params):
        assert rows[0].shape == (size,)
        total, metrics = loss(rows, params)
        return total, {"loss": metrics["loss"], "x_min": jnp.min(rows[0])}

    rows, params, opt_state = problem()
    size = 3  # 12 rows in 4 minibatches
    whole = epochs.fit(CONFIG, traced, rows, (params, opt_state), KEY, RATE)
    size = 1
    asked = []

    def one_row(networks, rows, obs):
        asked.append((rows[0].shape, obs.shape))
        return 1

    monkeypatch.setattr(epochs.collectives, "rows_at_once", one_row)
    pieces = epochs.fit(CONFIG, traced, rows, (params, opt_state), KEY, RATE, lambda rows: rows[0])
    assert asked == [((3,), (3,))]
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(pieces), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
