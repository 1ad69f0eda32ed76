"""A wrapper has an effect, or is refused by its name: whatever layer it is and however written."""

import gymnax
import jax
import jax.numpy as jnp
import pytest
from gymnax import wrappers
from gymnax.environments import spaces
from gymnax.environments.classic_control import cartpole
from gymnax.wrappers.purerl import GymnaxWrapper
from lines import Line
from numpy.testing import assert_array_equal

from jaxrl_pg import envs
from jaxrl_pg.envs.adapters import jaxmarl

CART = cartpole.CartPole()


class Paid(GymnaxWrapper):
    """As most are written: rewards times ten, around `step`."""

    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = self._env.step(key, state, action, params)
        return obs, state, 10.0 * reward, *rest


class Blind(GymnaxWrapper):
    """Overrides what `step_env` of the environment inside calls, which calls its own."""

    def get_obs(self, state, params=None, key=None):
        return 0.0 * self._env.get_obs(state)


class Started(GymnaxWrapper):
    def reset(self, key, params=None):
        return self._env.reset(key, params)


class Batched(GymnaxWrapper):
    """Methods that are attributes of the object."""

    def __init__(self, env):
        super().__init__(env)
        self.step = jax.vmap(env.step, (0, 0, 0, None))


class Slotted:
    """No class of gymnax's, and the environment inside is in a slot."""

    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Late(cartpole.CartPole):
    """No wrapper but a subclass."""

    def step(self, key, state, action, params=None):
        return super().step(key, state, 1 - action, params)


class Through(GymnaxWrapper):
    """Written as it should be, and does nothing."""

    def reset_env(self, key, params):
        return self._env.reset_env(key, params)

    def step_env(self, key, state, action, params):
        return self._env.step_env(key, state, action, params)


class Restarting(Through):
    """Starts new episodes by itself, since it steps the environment inside by `step`."""

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, _, info = self._env.step(key, state, action, params)
        return obs, state, reward, terminated, info


class Doubled(Through):
    """Written as it should be: rewards, observations, their space, parameters."""

    @property
    def default_params(self):
        return self._env.default_params.replace(max_steps_in_episode=3)

    def reset_env(self, key, params):
        obs, state = self._env.reset_env(key, params)
        return jnp.concatenate([obs, obs]), state

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, info = self._env.step_env(key, state, action, params)
        return jnp.concatenate([obs, obs]), state, 2.0 * reward, terminated, info

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (8,))


@pytest.mark.parametrize(
    ("env", "layer", "method"),
    [
        (wrappers.StickyActionWrapper(gymnax.make("Catch-bsuite")[0], 0.5), "StickyAction", "step"),
        (wrappers.FlattenObservationWrapper(Line()), "FlattenObservationWrapper", "step"),
        (wrappers.LogWrapper(Line()), "LogWrapper", "step"),
        (wrappers.LegacyStepAPIWrapper(CART), "LegacyStepAPIWrapper", "step"),
        (wrappers.GymnaxToDmEnvWrapper(CART), "GymnaxToDmEnvWrapper", "step"),
        (wrappers.GymnaxToGymWrapper(CART), "GymnaxToGymWrapper", "step"),
        (Paid(CART), "Paid", "step"),
        (Blind(CART), "Blind", "get_obs"),
        (Started(CART), "Started", "reset"),
        (Batched(CART), "Batched", "step"),
        (Late(), "Late", "step"),
        (Through(Paid(CART)), "Paid", "step"),
        (Through(Slotted(Through(Late()))), "Late", "step"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else x,
)
def test_one_that_would_be_passed_over_is_refused(env, layer, method):
    with pytest.raises(ValueError, match=rf"^{layer}.* overrides '{method}' .*override '\w+_env'"):
        envs.make(env)


def test_one_that_starts_episodes_itself_is_refused():
    with pytest.raises(ValueError, match=r"CartPole-v1: step_env calls gymnax's step, .*: call"):
        envs.make(Restarting(CART))


def test_one_that_is_registered_under_a_name_is_refused_too(monkeypatch):
    monkeypatch.setattr(gymnax, "registered_envs", ["Paid-test"])
    monkeypatch.setattr(gymnax, "make", lambda _: (Paid(CART), None))
    with pytest.raises(ValueError, match=r"^Paid overrides 'step'"):
        envs.make("Paid-test")


def test_all_that_is_overridden_as_it_should_be_counts():
    plain, doubled = envs.make(CART), envs.make(Doubled(Slotted(Through(CART))))
    assert doubled.spec == plain.spec._replace(obs_shape=(8,))
    assert (envs.time_limit(plain), envs.time_limit(doubled)) == (500, 3)
    key, action = jax.random.key(0), jnp.ones((), jnp.int32)
    (obs, state), (both, _) = (env.core.reset_env(key, env.params) for env in (plain, doubled))
    assert_array_equal(both, [*obs, *obs])
    (obs, _, paid, *_), (both, _, twice, *_) = (
        env.core.step_env(key, state, action, env.params) for env in (plain, doubled)
    )
    assert_array_equal(both, [*obs, *obs])
    assert twice == 2.0 * paid


class Players:
    """What a JaxMARL environment has, as far as it is looked at here."""

    agents = ()

    def step(self, key, state, actions):
        return self.step_env(key, state, actions)

    def step_env(self, key, state, actions):
        return {}, state, {}, {}, {}


class Loud(GymnaxWrapper):
    def step(self, key, state, actions):
        return self._env.step(key, state, actions)


def test_wrappers_of_games_are_refused_likewise():
    jaxmarl.from_jaxmarl(Players(), 5)
    with pytest.raises(ValueError, match=r"^Loud overrides 'step' and not 'step_env'"):
        jaxmarl.from_jaxmarl(Loud(Players()), 5)
