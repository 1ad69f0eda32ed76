"""Passes over a rollout in minibatches, against the same steps written as a Python loop."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxrl_pg import natural_gradient, reps
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


# --- an optimiser that decays weights -------------------------------------------------------------


def decay(rate):
    """Every parameter loses this share of itself in every step, whatever the gradient."""
    return optax.chain(optax.scale(0.0), optax.add_decayed_weights(-rate))


class Own(nn.Module):
    """A trunk that both use, and a head for each."""

    spec: object

    def setup(self):
        self.trunk, self.actor, self.critic = nn.Dense(3), nn.Dense(2), nn.Dense(1)

    def policy(self, obs):
        return self.actor(nn.relu(self.trunk(obs)))

    def value(self, obs):
        return self.critic(nn.relu(self.trunk(obs)))[:, 0]


def shares(before, after):
    """What the heads' weights are of what they were."""
    heads = ("policy_head", "value_head")
    norms = ([np.linalg.norm(x[name]["kernel"]) for name in heads] for x in (before, after))
    return dict(zip(heads, np.divide(*reversed([*norms])), strict=True))


ONE_STEP = {"num_envs": 2, "num_steps": 4, "num_minibatches": 2, "num_epochs": 1}


def iterated(agent, **values):
    """Shares that parameters lost in one iteration of an agent, at a rate of .1 a step."""
    config = agent.Config(
        **ONE_STEP, hidden_sizes=(4,), learning_rate=0.1, anneal_lr=False, optimizer=decay, **values
    )
    state = jax.jit(agent.init)(config, KEY)
    after, _ = jax.jit(agent.iterate)(config, state)
    return shares(state.learner.params["params"], after.learner.params["params"])


def test_decay_by_the_values_steps_leaves_the_policy():
    """Two steps of the value, .9^2; a natural step of no length of the policy."""
    found = iterated(natural_gradient, max_kl=1e-20)
    assert found == pytest.approx({"policy_head": 1.0, "value_head": 0.81}, rel=1e-4)


def test_decay_by_either_steps_of_reps_leaves_the_other():
    """Two steps of the policy, .9^2; four of the value, .9^4."""
    found = iterated(reps, critic_epochs=2)
    assert found == pytest.approx({"policy_head": 0.81, "value_head": 0.6561}, rel=1e-4)


@pytest.mark.parametrize(("method", "other"), [("value", "actor"), ("policy", "critic")])
def test_what_an_output_of_ones_own_network_depends_on_moves(method, other):
    network = Own(None)
    obs = jnp.ones((1, 2))
    old = network.init(KEY, obs, method=lambda m, obs: (m.policy(obs), m.value(obs)))
    new = jax.tree.map(lambda x: x + 1.0, old)
    config = SimpleNamespace(optimizer=decay)
    held = epochs.hold(config, network, method, obs, old, new)["params"]
    for name, part in held.items():
        expected = (old if name == other else new)["params"][name]
        np.testing.assert_array_equal(part["kernel"], expected["kernel"])
    assert epochs.hold(CONFIG, network, method, obs, old, new) is new
