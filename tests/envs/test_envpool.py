"""EnvPool: a stand-in that resets as EnvPool does, and the library itself if it is installed."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import envs, ppo
from jaxrl_pg.envs.adapters import suites
from jaxrl_pg.types import EnvSpec

END = 7  # an episode starts at 0 to 4 and goes up by what the action adds; it terminates here
B = 6
real = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="needs envpool"),
    pytest.mark.filterwarnings("default"),  # EnvPool's bounds are of other types than it says
]


class Config(NamedTuple):
    """Fields of every config of EnvPool's, and one of the task's own."""

    num_envs: int = 1
    batch_size: int = 1
    num_threads: int = 0
    max_num_players: int = 1
    seed: int = 42
    max_episode_steps: int = 50
    breaks_at: int = 10**6


class Pool:
    """Walks that are reset as EnvPool's: the step after an end gives a first observation."""

    def __init__(self, config, images):
        self.config, self.images, self.closed = config, images, False
        self.rngs = [np.random.default_rng(seed) for seed in config.seed]
        self.place, self.time = np.zeros((2, len(self.rngs)), int)
        self.ended = np.ones(len(self.rngs), bool)
        self.acted = 0

    def reset(self, env_id=None):
        env_id = np.arange(len(self.rngs), dtype=np.int32) if env_id is None else env_id
        assert env_id.dtype == np.int32
        for i in env_id:
            self.place[i], self.time[i], self.ended[i] = self.rngs[i].integers(5), 0, False
        return self._seen(env_id), {}

    def step(self, action):
        self.acted += 1
        if self.acted > self.config.breaks_at:
            raise RuntimeError("a segment\nfault")
        over = np.flatnonzero(self.ended).astype(np.int32)
        self.place, self.time = self.place + action, self.time + 1
        self.reset(over)  # the action is passed over
        terminated = self.place == END
        truncated = self.time >= self.config.max_episode_steps
        self.ended = terminated | truncated
        everyone = np.arange(len(self.rngs))
        return self._seen(everyone), terminated.astype(np.float64), terminated, truncated, {}

    def close(self):
        self.closed = True

    def _seen(self, env_id):
        place = self.place[env_id].astype(np.float64)
        if not self.images:
            return place[:, None]
        # The channel, the row and the column are in the number, beside the place.
        picture = 100 * np.arange(2)[:, None, None] + 10 * np.arange(3)[:, None] + np.arange(4)
        return {"image": (picture + place[:, None, None, None]).astype(np.uint8), "place": place}


@pytest.fixture
def pools(monkeypatch):
    """The pools that a stand-in for EnvPool has made."""
    suites.make.cache_clear()
    made, box = [], gymnasium.spaces.Box
    place = box(-np.inf, np.inf, (), np.float64)
    structure = {"image": box(0, 255, (2, 3, 4), np.uint8), "place": place}
    spaces = {
        "Walk-v0": box(-np.inf, np.inf, (1,), np.float64),
        "Picture-v0": gymnasium.spaces.Dict(structure),
        "Game-v0": place,
    }
    defaults = {"Game-v0": Config(max_num_players=2)}

    def make_spec(task, **given):
        if task == "Qt-v0":
            raise ImportError("this needs Qt\nand more")
        config = defaults.get(task, Config())._replace(**given)
        return SimpleNamespace(
            config=config,
            gymnasium_observation_space=spaces[task],
            gymnasium_action_space=gymnasium.spaces.Discrete(3),
        )

    def make_gymnasium(task, **given):
        made.append(Pool(Config(**given), task == "Picture-v0"))
        return made[-1]

    module = ModuleType("envpool")
    module.__spec__ = ModuleSpec("envpool", None, origin="a test")
    module.list_all_envs = lambda: [*spaces, "Qt-v0"]
    module.make_spec, module.make_gymnasium = make_spec, make_gymnasium
    monkeypatch.setitem(sys.modules, "envpool", module)
    yield made
    suites.make.cache_clear()


def play(name, limit, num_steps, key):
    """First observations, and `num_steps` steps of every environment, one place each."""
    env = envs.make(name, {"max_steps_in_episode": limit})
    state, first = envs.reset(env, key, B)

    def body(state, _):
        return envs.step(env, key, key, state, jnp.ones(B, jnp.int32))

    state, timestep = jax.lax.scan(body, state, None, num_steps)
    envs.release(env, state)
    return first, timestep


def test_no_action_is_lost_at_an_end(pools):
    """Every step goes one place on from what was seen before it, the first of an episode too."""
    name, key = "envpool:Walk-v0", jax.random.key(0)
    assert int(envs.time_limit(envs.make(name))) == 50
    steps = jax.jit(lambda limit: play(name, limit, 24, key))
    for limit in (3, 200):
        first, timestep = jax.device_get(steps(limit))
        assert first.dtype == timestep.reward.dtype == np.float32
        place, time, starts = first[:, 0], np.zeros(B), []
        for t in range(24):
            place, time = place + 1, time + 1
            np.testing.assert_array_equal(timestep.final_obs[t, :, 0], place)
            ended, late = place == END, time == limit
            np.testing.assert_array_equal(timestep.terminated[t], ended)
            np.testing.assert_array_equal(timestep.truncated[t], late)
            np.testing.assert_array_equal(timestep.reward[t], ended)
            done, next_place = ended | late, timestep.obs[t, :, 0]
            np.testing.assert_array_equal(next_place[~done], place[~done])
            assert (next_place[done] <= 4).all()
            starts += list(next_place[done])
            place, time = np.where(done, next_place, place), np.where(done, 0, time)
        assert len(set(starts)) > 1
    again = jax.device_get(steps(200))
    jax.tree.map(np.testing.assert_array_equal, again, (first, timestep))
    jax.effects_barrier()
    assert [pool.closed for pool in pools] == [True] * 3
    assert len({tuple(pool.config.seed) for pool in pools}) == 1
    assert len(set(pools[0].config.seed)) == B
    assert min(pools[0].config.seed) >= 0


def test_images_have_their_channels_last(pools):
    env, key = envs.make("envpool:Picture-v0"), jax.random.key(0)
    assert dict(env.spec.obs_shape) == {"image": (3, 4, 2), "place": (1,)}
    state, obs = envs.reset(env, key, B)
    assert obs["image"].dtype == np.uint8
    action = jnp.zeros(B, jnp.int32)
    _, timestep = envs.step(env, key, key, state, action)
    for seen in (obs, timestep.obs, timestep.final_obs):
        picture = np.asarray(seen["image"]) - np.asarray(seen["place"])[:, :, None, None]
        assert picture[:, 2, 3, 1].tolist() == [100 + 20 + 3] * B
        assert picture[:, 1, 0, 0].tolist() == [10] * B


def test_options_are_the_fields_of_its_config(pools):
    name = "envpool:Walk-v0?breaks_at=2&num_threads=1"
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(play(name, 50, 4, jax.random.key(0)))
    assert f"{name}: step raises RuntimeError: a segment" in str(caught.value)
    assert pools[0].config.num_threads == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Wlak-v0", "unknown environment 'envpool:Wlak-v0': did you mean 'Walk-v0'"),
        ("Walk-v0?num_envs=8", "unknown option 'num_envs' of"),
        ("Walk-v0?max_episode_steps=8", "env_params gives the time limit"),
        ("Walk-v0?num_threads=half", "option 'num_threads' of .* its default, 0"),
        ("Game-v0", "^'envpool:Game-v0' has 2 players: give one with one"),
        ("Qt-v0", "^'envpool:Qt-v0' cannot be made here: this needs Qt$"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(pools, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        envs.make(f"envpool:{name}")
    assert "\n" not in str(caught.value)


def test_ppo_trains_and_is_reproducible(pools):
    config = ppo.Config(env="envpool:Walk-v0", num_envs=4, num_steps=8, num_minibatches=2)
    train = jax.jit(lambda: jaxrl_pg.train(config.replace(total_timesteps=64), jax.random.key(0)))
    first, again = jax.device_get((train(), train()))
    jax.tree.map(np.testing.assert_array_equal, first[0].learner, again[0].learner)


class TestReal:
    """The library itself."""

    pytestmark = real

    @pytest.mark.parametrize(
        ("task", "spec"),
        [
            ("CartPole-v1", EnvSpec((4,), True, 2, ())),
            ("HalfCheetah-v5", EnvSpec((17,), False, 6, (6,))),
            ("Pong-v5", EnvSpec((84, 84, 4), True, 6, ())),
        ],
    )
    def test_it_gives_what_envpool_gives(self, task, spec):
        """Its own numbers, stepped by hand from the same seeds, up to the first end of any."""
        import envpool

        env, key, num_steps = envs.make(f"envpool:{task}"), jax.random.key(3), 40
        assert env.spec == spec
        state, obs = envs.reset(env, key, 3)
        seeds = jax.device_get(jax.random.bits(key, (3,), jnp.uint32)) & 0x7FFFFFFF
        pool = envpool.make_gymnasium(task, num_envs=3, seed=[int(x) for x in seeds])
        theirs = pool.reset()[0]
        step = jax.jit(lambda state, action: envs.step(env, key, key, state, action))
        ended = np.zeros(3, bool)
        for t in range(num_steps):
            if theirs.ndim == 4:
                theirs = np.moveaxis(theirs, 1, -1)
            np.testing.assert_array_equal(obs[~ended], theirs[~ended].astype(obs.dtype))
            action = np.full(3, t % 2, np.int32) if spec.discrete else np.full((3, 6), 0.125)
            state, timestep = step(state, jnp.asarray(action))
            obs = timestep.final_obs
            theirs, reward, terminated, _, _ = pool.step(action)
            alive = ~ended
            np.testing.assert_array_equal(timestep.reward[alive], reward[alive].astype(np.float32))
            np.testing.assert_array_equal(timestep.terminated[alive], terminated[alive])
            ended |= terminated
        pool.close()

    def test_the_limit_cuts_off_and_begins_anew(self):
        """Three environments of HalfCheetah, whose episodes have four steps."""
        env = envs.make("envpool:HalfCheetah-v5", {"max_steps_in_episode": 4})
        key, action = jax.random.key(0), jnp.zeros((3, 6))
        state, first = envs.reset(env, key, 3)
        step = jax.jit(lambda state: envs.step(env, key, key, state, action))
        for t in range(1, 13):
            state, timestep = step(state)
            assert timestep.truncated.tolist() == [t % 4 == 0] * 3
            assert not timestep.terminated.any()
            assert (timestep.obs != timestep.final_obs).any(axis=1).tolist() == [t % 4 == 0] * 3
        assert (timestep.obs != first).any(axis=1).all()

    def test_ppo_learns_cartpole(self):
        """The gate is a mean return of 400 after 60,000 steps, for each of two seeds."""
        config = ppo.Config(env="envpool:CartPole-v1", num_envs=8, num_steps=128)
        config = config.replace(total_timesteps=60_000)
        train = jax.jit(lambda key: jaxrl_pg.train(config, key, 1, 16))
        for seed in range(2):
            assert train(jax.random.key(seed))[1]["eval/return_mean"][-1] > 400
