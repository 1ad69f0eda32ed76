"""Suites beside jax-envelope's adapters of them, a second reading of the same environments.

jax-envelope (`pip install "jax-envelope[adapters]"`, Python 3.12 and later) wraps gymnax, brax,
craftax, navix and jumanji with its own time limits and automatic resets. Both stacks are given the
same keys and actions, and must agree on every observation, reward and flag.
"""

import importlib
import importlib.util
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from jaxrl_pg import envs
from jaxrl_pg.envs.adapters import suites

envelope = pytest.importorskip("envelope", reason="needs jax-envelope and Python 3.12")

B = 16
# The suites' own modules warn of much.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
# Our name, theirs, a time limit and the steps in which some episodes reach it and some end before.
CASES = [
    ("CartPole-v1", "gymnax::CartPole-v1", 20, 100),
    ("Breakout-MinAtar", "gymnax::Breakout-MinAtar", 9, 100),
    ("brax:inverted_pendulum?backend=spring", "brax::inverted_pendulum", 12, 60),
    ("craftax:Craftax-Classic-Symbolic-v1", "craftax::Craftax-Classic-Symbolic-v1", 100, 400),
    ("jumanji:Snake-v1", "jumanji::Snake-v1", 9, 100),
    ("navix:Navix-Empty-Random-5x5-v0", "navix::Navix-Empty-Random-5x5-v0", 7, 100),
]
# Suites whose steps are random, by a key that is in envelope's state.
KEYED = ("gymnax", "craftax")
# Modules of theirs that split a key where we give one.
SPLITTING = ("adapters.gymnax_envelope", "adapters.craftax_envelope", "wrappers.autoreset_wrapper")


@pytest.fixture(params=CASES, ids=[case[0] for case in CASES])
def case(request, monkeypatch):
    """A case whose suite is installed; envelope is made to use the keys that it is given."""
    suite = request.param[1].partition("::")[0]
    known = suite == "gymnax" or suite in suites.SUITES
    if not known or importlib.util.find_spec(suite) is None:
        pytest.skip(f"{suite} is not installed")
    for module in SPLITTING:
        if f"adapters.{suite}" in module or module.startswith("wrappers"):
            module = importlib.import_module(f"envelope.{module}")
            given = SimpleNamespace(**{**vars(jax.random), "split": lambda key: (key, key)})
            monkeypatch.setattr(module, "jax", SimpleNamespace(**{**vars(jax), "random": given}))
    with jax.numpy_rank_promotion("allow"):
        yield request.param


def keys_and_actions(env, num_steps):
    """Keys of the first episodes, of steps and of resets, and random actions, `[T, B, ...]`."""
    first, steps, resets, actions = jax.random.split(jax.random.key(7), 4)
    shape = (num_steps, B)
    if env.spec.discrete:
        actions = jax.random.randint(actions, shape, 0, env.spec.num_actions)
    else:
        actions = jax.random.uniform(actions, (*shape, *env.spec.action_shape), minval=-1.0)
    key = lambda key: jax.random.split(key, shape)  # noqa: E731
    return jax.random.split(first, B), (key(steps), key(resets), actions)


def ours(env, first, inputs):
    """Play a batch of environments of one each, so that the keys are known."""
    of_each = lambda tree: jax.tree.map(lambda x: x[:, 0], tree)  # noqa: E731

    def body(state, inputs):
        step_key, reset_key, action = inputs
        state, timestep = jax.vmap(
            lambda k, r, s, a: envs.step(env, k, r, s, a[None]),
        )(step_key, reset_key, state, action)
        return state, of_each(timestep)

    state, obs = jax.vmap(lambda key: envs.reset(env, key, 1))(first)
    return of_each(obs), jax.lax.scan(body, state, inputs)[1]


def theirs(env, keyed, first, inputs):
    """Play theirs, with its own limit and automatic reset, on the keys that ours are given."""

    def step(state, inputs):
        step_key, reset_key, action = inputs
        if keyed:
            limited = state.inner_state
            inner = limited.inner_state.update(key=jax.random.split(step_key, 1)[0])
            state = state.replace(inner_state=limited.replace(inner_state=inner))
        # A reset of one environment takes the second of the two keys that are split off.
        state = state.replace(reset_key=jax.random.split(reset_key, 2)[1])
        return env.step(state, action)

    def body(state, inputs):
        state, info = jax.vmap(step)(state, inputs)
        kept = (info.obs, info.reward, info.terminated, info.truncated, info.final.obs)
        return jax.tree.map(lambda x, ref: x.astype(ref.dtype), state, carried), kept

    state, info = jax.vmap(env.init)(jax.vmap(lambda key: jax.random.split(key, 1)[0])(first))
    carried = state
    return info.obs, jax.lax.scan(body, state, inputs)[1]


def assert_same(mine, obs, where=()):
    """Compare observations, `where` of them; theirs may be a struct, and codes for our one-hots."""
    if isinstance(mine, dict):
        for name in mine:
            assert_same(mine[name], getattr(obs, name), where)
        return
    if mine.shape != obs.shape:
        parts = np.split(mine, np.cumsum((11, 6, 4))[:-1], axis=-1)
        mine = np.stack([part.argmax(-1) for part in parts], axis=-1)
    np.testing.assert_allclose(mine.astype(obs.dtype)[where], obs[where], atol=1e-4)


def test_both_say_the_same_of_every_step(case):
    """Limits, terminations, last observations and the starts of the episodes that follow."""
    name, their_name, limit, num_steps = case
    env = envs.make(name, {"max_steps_in_episode": limit})
    kwargs = {"backend": "spring"} if name.startswith("brax") else {}
    if name.startswith("navix"):
        import navix

        kwargs = {"observation_fn": navix.observations.symbolic}
    other = envelope.create(their_name, env_kwargs=kwargs, max_episode_steps=limit)
    other = envelope.AutoResetWrapper(env=other)
    keyed = their_name.partition("::")[0] in KEYED
    first, inputs = keys_and_actions(env, num_steps)
    our_first, mine = jax.device_get(jax.jit(lambda *args: ours(env, *args))(first, inputs))
    their_first, given = jax.device_get(
        jax.jit(lambda *args: theirs(other, keyed, *args))(first, inputs)
    )
    obs, reward, terminated, truncated, final_obs = given
    done = terminated | truncated
    assert (terminated & ~truncated).any()
    assert (truncated & ~terminated).any()
    assert_array_equal(mine.terminated, terminated)
    assert_array_equal(mine.truncated, truncated)
    np.testing.assert_allclose(mine.reward, reward, atol=1e-5)
    assert_same(our_first, their_first)
    assert_same(mine.obs, obs)
    # Theirs keeps the last observation of the episode before, until another ends.
    assert_same(mine.final_obs, final_obs, done)
    assert done.sum() > 3 * B
