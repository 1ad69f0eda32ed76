"""The optimiser: worked steps, a loop, and optax put together differently."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxrl_pg.components import optim

STEP = jax.jit(optim.apply_gradients)
EPS = 1e-5


def floats(*numbers):
    return np.array(numbers, np.float32)


def random_trees(seed, num):
    """Gradients whose global norm is now above 1, now below."""
    rng = np.random.default_rng(seed)
    for i in range(num):
        size = 10.0 ** (1 - i % 3)
        yield {
            "a": {"kernel": np.float32(size * rng.normal(size=(3, 2)))},
            "b": np.float32(size * rng.normal(size=4)),
            "c": np.float32(0.01 * size * rng.normal(size=())),
        }


def adam_loop(params, gradients, learning_rate, max_grad_norm):
    """Kingma and Ba's algorithm 1 behind a clip, element by element, in float64."""
    params = [float(x) for x in params]
    m, v = [0.0] * len(params), [0.0] * len(params)
    for t, gradient in enumerate(gradients, start=1):
        norm = sum(float(g) ** 2 for g in gradient) ** 0.5
        scale = max_grad_norm / norm if norm > max_grad_norm else 1.0
        for i, g in enumerate(gradient):
            m[i] = 0.9 * m[i] + 0.1 * scale * float(g)
            v[i] = 0.999 * v[i] + 0.001 * (scale * float(g)) ** 2
            m_hat, v_hat = m[i] / (1 - 0.9**t), v[i] / (1 - 0.999**t)
            params[i] -= learning_rate * m_hat / (v_hat**0.5 + EPS)
    return params


def ravel(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


# --- worked numbers -----------------------------------------------------------------------------


def test_the_first_step_worked():
    # m_hat = g and sqrt(v_hat) = |g|, so p - lr g / (|g| + 1e-5). Gradients of the size of eps
    # show where eps stands: 1e-5 moves by half of the learning rate, 3e-5 by three quarters.
    params = {"a": floats(1.0, 1.0), "b": floats(1.0)}
    grads = {"a": floats(1e-5, -3e-5), "b": floats(0.25)}
    new, _, norm = STEP(params, optim.init(params), grads, 0.1, 10.0)
    assert_allclose(new["a"], [0.95, 1.075], rtol=1e-5)
    assert_allclose(new["b"], [0.9], rtol=1e-4)
    assert_allclose(norm, 0.25, rtol=1e-6)


def test_the_clip_scales_all_leaves_together():
    # Norm 5e-5 over both leaves, at most 1e-5 allowed: the gradients become .6e-5 and .8e-5,
    # and p - lr g / (g + 1e-5) with lr 1 is -.6/1.6 = -.375 and -.8/1.8 = -.4444. Clipped leaf
    # by leaf or element by element both would be 1e-5, and both steps -.5.
    params = {"a": floats(0.0), "b": floats(0.0, 0.0)}
    grads = {"a": floats(3e-5), "b": floats(4e-5, 0.0)}
    new, _, norm = STEP(params, optim.init(params), grads, 1.0, 1e-5)
    assert_allclose(new["a"], [-0.375], rtol=1e-4)
    assert_allclose(new["b"], [-4 / 9, 0.0], rtol=1e-4)
    assert_allclose(norm, 5e-5, rtol=1e-5)  # the norm before the clip


def test_linear_anneal_worked():
    anneal = jax.jit(optim.linear_anneal, static_argnums=2)
    for iteration, want in ((0, 0.3), (5, 0.15), (9, 0.03), (10, 0.0), (12, 0.0)):
        assert_allclose(anneal(0.3, jnp.int32(iteration), 10), want, rtol=1e-5, atol=1e-8)


# --- loop and oracle ----------------------------------------------------------------------------


def run(trees, learning_rate, max_grad_norm):
    params = jax.tree.map(np.ones_like, trees[0])
    state, norms = optim.init(params), []
    for grads in trees:
        params, state, norm = STEP(params, state, grads, learning_rate, max_grad_norm)
        norms.append(norm)
    return params, norms


@pytest.mark.parametrize("max_grad_norm", [1.0, 1e6])
def test_many_steps_are_their_loop(max_grad_norm):
    trees = list(random_trees(0, 20))
    params, norms = run(trees, 0.01, max_grad_norm)
    want = adam_loop(np.ones(11), [ravel(g) for g in trees], 0.01, max_grad_norm)
    assert_allclose(ravel(params), want, rtol=1e-4)
    assert_allclose(norms, [np.linalg.norm(ravel(g)) for g in trees], rtol=1e-5)
    assert any(n > 1 for n in norms)
    assert any(n < 1 for n in norms)


def test_against_optax():
    trees = list(random_trees(1, 9))
    oracle = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01, eps=EPS))
    update = jax.jit(oracle.update)
    want = jax.tree.map(np.ones_like, trees[0])
    state = oracle.init(want)
    for grads in trees:
        updates, state = update(grads, state)
        want = jax.tree.map(np.add, want, updates)
    params, _ = run(trees, 0.01, 1.0)
    assert jax.tree.structure(params) == jax.tree.structure(want)
    assert_allclose(ravel(params), ravel(want), rtol=1e-5)


# --- edges --------------------------------------------------------------------------------------


def test_no_gradient_no_step():
    params = {"a": floats(1.0, 2.0), "b": floats(3.0)}
    zeros = jax.tree.map(np.zeros_like, params)
    new, _, norm = STEP(params, optim.init(params), zeros, 0.1, 0.5)
    assert norm == 0
    jax.tree.map(assert_array_equal, new, params)


def test_learning_rate_and_clip_can_be_vmapped():
    params, grads = {"a": floats(0.0)}, {"a": floats(3e-5)}
    rates, norms = floats(1.0, 2.0), floats(1e-5, 1.0)
    step = jax.jit(jax.vmap(optim.apply_gradients, (None, None, None, 0, 0)))
    new, _, _ = step(params, optim.init(params), grads, rates, norms)
    # g = 1e-5 after the clip: -1/2; g = 3e-5: -2 * 3/4
    assert_allclose(new["a"], [[-0.5], [-1.5]], rtol=1e-4)


def test_it_descends():
    def loss(params):
        return jnp.sum(jnp.square(params["a"] - 3.0)) + jnp.square(params["b"] + 1.0)

    def step(carry, _):
        params, state = carry
        params, state, _ = optim.apply_gradients(params, state, jax.grad(loss)(params), 0.05, 1.0)
        return (params, state), None

    params = {"a": jnp.zeros(2), "b": jnp.zeros(())}
    start = params, optim.init(params)
    (params, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, length=400))(start)
    assert_allclose(params["a"], [3.0, 3.0], atol=1e-2)
    assert_allclose(params["b"], -1.0, atol=1e-2)
