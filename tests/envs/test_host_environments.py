"""Environments on the host: gymnasium's, which comes with gymnax, and handles that go astray."""

import importlib.util
import sys
from types import ModuleType

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import envs, ppo
from jaxrl_pg.cli import exits
from jaxrl_pg.envs import kept as host_table
from jaxrl_pg.envs.adapters import suites
from jaxrl_pg.sweeps import batch, sweep
from jaxrl_pg.sweeps.experiment import parse
from jaxrl_pg.training.program import chunk_length
from jaxrl_pg.types import EnvSpec

END = 7  # an episode starts at 0 to 4 and goes up by one each step; it terminates here
B = 6


class Walk(gymnasium.Env):
    """It cuts itself off at `cut`, and breaks after so many steps of its life.

    Its observations are one array, which it fills anew.
    """

    observation_space = gymnasium.spaces.Box(0.0, 1e300, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(3, start=-1)

    def __init__(self, cut: int = 99, lasts: int = 10**6):
        if cut < 0:
            raise AttributeError("no cut below 0")
        self.cut, self.lasts, self.seen = cut, lasts, np.zeros(1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        self.seen[0] = self.place
        return self.seen, {}

    def step(self, action):
        assert action == 1
        self.place, self.lasts = self.place + 1, self.lasts - 1
        if self.lasts < 0:
            raise OSError("the robot fell\nover")
        ended = self.place == END
        self.seen[0] = self.place
        return self.seen, float(ended), ended, self.place == self.cut, {}


class Picture(gymnasium.Env):
    """Spaces that are less common: an image, and real actions that are no vector."""

    observation_space = gymnasium.spaces.Box(0, 255, (4, 4, 1), np.uint8)
    action_space = gymnasium.spaces.Box(*np.array([[[-2, 0]], [[2, 1]]], np.float32))

    def reset(self, *, seed=None, options=None):
        return np.full((4, 4, 1), 9, np.uint8), {}

    def step(self, action):
        assert action.shape == (1, 2)
        assert action.dtype == np.float32
        return np.full((4, 4, 1), 255, np.uint8), action.sum(), False, False, {}


class Narrow(Walk):
    """Whose observations are not of the shape that it says."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,))


class Parts(gymnasium.Env):
    """A structure of observations with a mask, and actions of two components."""

    observation_space = gymnasium.spaces.Dict(
        {
            "body": gymnasium.spaces.Tuple(
                [gymnasium.spaces.Box(-1.0, 1.0, (2,)), gymnasium.spaces.Discrete(3, start=5)]
            ),
            "action_mask": gymnasium.spaces.MultiBinary(6),
        }
    )
    action_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[1, 0])

    def reset(self, *, seed=None, options=None):
        self.taken = np.zeros(2)
        return self._seen(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.taken = action
        return self._seen(), 0.0, False, False, {}

    def _seen(self):
        mask = np.array([1, 1, 1, 1, 1, 0], np.int8)
        return {"body": (self.taken.astype(np.float32), np.int64(7)), "action_mask": mask}


class Grid(gymnasium.Env):
    """Actions that are a box of whole numbers."""

    observation_space = gymnasium.spaces.Box(-9.0, 9.0, (1, 2), np.float32)
    action_space = gymnasium.spaces.Box(np.array([[-1, 2]]), np.array([[1, 3]]), (1, 2), np.int32)

    def reset(self, *, seed=None, options=None):
        return np.zeros((1, 2), np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return action.astype(np.float32), 0.0, False, False, {}


class Wide(Grid):
    action_space = gymnasium.spaces.Box(-(2**31), 2**31 - 1, (2,), np.int32)


class Words(Walk):
    observation_space = gymnasium.spaces.Text(5)


@pytest.fixture
def registered(monkeypatch):
    """The environments above, as a module that gymnasium is told of when it is imported."""
    suites.make.cache_clear()
    module = ModuleType("walks")
    monkeypatch.setitem(sys.modules, "walks", module)
    for kind in (Walk, Picture, Narrow, Parts, Grid, Wide, Words):
        gymnasium.register(f"walks/{kind.__name__}-v0", kind, max_episode_steps=50)
    yield
    suites.make.cache_clear()
    for name in [name for name in gymnasium.registry if name.startswith("walks/")]:
        del gymnasium.registry[name]


def play(name, limit, num_steps, key):
    """First observations, and `num_steps` steps of every environment."""
    env = envs.make(name, {"max_steps_in_episode": limit})
    state, first = envs.reset(env, key, B)
    action = jnp.full(B, 2)

    def body(state, _):
        return envs.step(env, key, key, state, action)

    state, timestep = jax.lax.scan(body, state, None, num_steps)
    envs.release(env, state)
    return first, timestep


def test_episodes_end_as_in_every_other_suite(registered):
    """A limit of three truncates at the third step, and a termination then is one all the same.

    The last observation is the true one, and the next episode starts anew from a draw of its own.
    What the environment cuts off itself is truncated too. One program serves every limit.
    """
    name, cut, kept = "gymnasium:walks/Walk-v0?cut=6", 6, len(host_table._KEPT)
    assert int(envs.time_limit(envs.make(name))) == 50
    steps = jax.jit(lambda limit, key: play(name, limit, 24, key))
    seen = {}
    for limit in (3, 5, 200):
        first, timestep = seen[limit] = jax.device_get(steps(limit, jax.random.key(0)))
        assert first.dtype == timestep.obs.dtype == np.float32
        place, time, starts = first[:, 0], np.zeros(B), []
        for t in range(24):
            place, time = place + 1, time + 1
            np.testing.assert_array_equal(timestep.final_obs[t, :, 0], place)
            ended, late = place == END, (time == limit) | (place == cut)
            np.testing.assert_array_equal(timestep.terminated[t], ended)
            np.testing.assert_array_equal(timestep.truncated[t], late)
            np.testing.assert_array_equal(timestep.reward[t], ended)
            done, next_place = ended | late, timestep.obs[t, :, 0]
            np.testing.assert_array_equal(next_place[~done], place[~done])
            assert (next_place[done] <= 4).all()
            starts += list(next_place[done])
            place, time = np.where(done, next_place, place), np.where(done, 0, time)
        assert len(set(starts)) > 1
    assert steps._cache_size() == 1
    again = jax.device_get(steps(200, jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, again, seen[200])
    others = jax.device_get(steps(200, jax.random.key(1)))
    assert (others[1].obs != again[1].obs).any()
    jax.effects_barrier()
    assert len(host_table._KEPT) == kept


def test_a_termination_at_the_limit_is_both(registered):
    steps = jax.jit(lambda limit: play("gymnasium:walks/Walk-v0", limit, 12, jax.random.key(0))[1])
    timestep = jax.device_get(steps(3))
    assert (timestep.terminated & timestep.truncated).any()
    assert (timestep.truncated & ~timestep.terminated).any()


def test_it_gives_what_gymnasium_gives():
    """CartPole's own numbers, stepped by hand from the same seeds."""
    env, key = envs.make("gymnasium:CartPole-v1"), jax.random.key(3)
    actions = np.random.default_rng(0).integers(0, 2, (60, 2))

    @jax.jit
    def ours(actions):
        state, first = envs.reset(env, key, 2)
        body = lambda state, action: envs.step(env, key, key, state, action)  # noqa: E731
        return first, jax.lax.scan(body, state, actions)[1]

    first, timestep = jax.device_get(ours(actions))
    seeds = jax.random.bits(key, (2,), jnp.uint32)
    for i, seed in enumerate(seeds):
        one = gymnasium.make("CartPole-v1")
        np.testing.assert_array_equal(first[i], one.reset(seed=int(seed))[0])
        for t in range(60):
            obs, reward, terminated, _, _ = one.step(actions[t, i])
            np.testing.assert_array_equal(timestep.final_obs[t, i], obs)
            assert (timestep.reward[t, i], timestep.terminated[t, i]) == (reward, terminated)
            next_obs = one.reset()[0] if terminated else obs
            np.testing.assert_array_equal(timestep.obs[t, i], next_obs)
    assert timestep.terminated.sum() > 2


def test_other_spaces_are_taken(registered):
    env = envs.make("gymnasium:walks/Picture-v0")
    assert env.spec == EnvSpec((4, 4, 1), False, 2, (2,))
    state, obs = envs.reset(env, jax.random.key(0), 2)
    assert obs.dtype == np.uint8
    action = jnp.array([[-1.0, -1.0], [1.0, 1.0]])
    _, timestep = envs.step(env, jax.random.key(0), jax.random.key(0), state, action)
    np.testing.assert_allclose(timestep.reward, [-2.0, 3.0])
    assert (timestep.obs == 255).all()


def test_structures_masks_and_combinations_are_taken(registered):
    env, key = envs.make("gymnasium:walks/Parts-v0"), jax.random.key(0)
    assert env.spec.masked
    assert env.spec.factors == (2, 3)
    state, obs = envs.reset(env, key, 2)
    assert {name: x.shape for name, x in obs.items()} == {
        "body.0": (2, 2),
        "body.1": (2, 3),
        "action_mask": (2, 6),
    }
    np.testing.assert_array_equal(obs["action_mask"][0], [1, 1, 1, 1, 1, 0])
    _, timestep = envs.step(env, key, key, state, jnp.array([1, 5]))
    np.testing.assert_array_equal(timestep.obs["body.0"], [[1, 1], [2, 2]])
    np.testing.assert_array_equal(timestep.obs["body.1"], [[0, 0, 1]] * 2)


def test_a_box_of_whole_numbers_is_numbered(registered):
    """Row-major: three choices from -1 and two from 2, so that number 5 is the last of both."""
    env, key = envs.make("gymnasium:walks/Grid-v0"), jax.random.key(0)
    assert env.spec.factors == (3, 2)
    state, _ = envs.reset(env, key, 3)
    _, timestep = envs.step(env, key, key, state, jnp.array([0, 3, 5]))
    assert timestep.obs.tolist() == [[[-1, 2]], [[0, 3]], [[1, 3]]]


def test_frames_are_stacked(registered):
    """An episode that begins in the middle of a batch begins with copies of its first frame."""
    config = ppo.Config(
        env="gymnasium:walks/Walk-v0", env_params={"max_steps_in_episode": 3}, frame_stack=2
    )
    env, key = envs.of(config), jax.random.key(0)
    state, obs = jax.jit(lambda: envs.reset(env, key, B))()
    np.testing.assert_array_equal(obs[:, 0], obs[:, 1])
    step = jax.jit(lambda state: envs.step(env, key, key, state, jnp.full(B, 2)))
    for t in range(1, 7):
        before = obs
        state, (obs, _, terminated, truncated, final_obs) = step(state)
        done = terminated | truncated
        np.testing.assert_array_equal(final_obs, np.stack([before[:, 1], before[:, 1] + 1], 1))
        np.testing.assert_array_equal(obs[~done], final_obs[~done])
        np.testing.assert_array_equal(obs[done, 0], obs[done, 1])
        assert t % 3 or done.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("walks/Wlak-v0", "unknown environment 'gymnasium:walks/Wlak-v0': did you mean"),
        ("nowhere:Walk-v0", r"nowhere of 'nowhere:Walk-v0' cannot be imported \(Mod.*: No module"),
        ("walks:Walk-v0", "unknown environment"),
        ("walks/Walk-v0?cut=1.5", "option 'cut' of .* default, 99"),
        ("walks/Walk-v0?render_mode=human", "unknown option 'render_mode'"),
        ("CartPole-v1?max_episode_steps=9", "env_params gives the time limit"),
        ("walks/Words-v0", r"^'gymnasium:walks/Words-v0': observations are Text.*must be a Box"),
        ("walks/Wide-v0", "18446744073709551616 combinations: give from 1"),
        ("walks/Walk-v0?cut=-1", r"^'gym.*' cannot be made here \(AttributeError\): no cut below"),
        ("Hopper-v2", r"^'gymnasium:Hopper-v2' cannot be made here \(ImportError\): The mujoco v2"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_wrong_name_is_refused_in_one_line(registered, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        envs.make(f"gymnasium:{name}")
    assert "\n" not in str(caught.value)


def test_a_module_before_the_name_is_imported_first(registered):
    assert envs.make("gymnasium:walks:walks/Walk-v0").spec.num_actions == 3


def test_many_at_once_and_several_devices_are_refused(registered):
    config = ppo.Config(env="gymnasium:walks/Walk-v0")
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
    for train in (jaxrl_pg.init, jax.jit(jaxrl_pg.init)):
        with pytest.raises(ValueError, match=r"stepped at a time, and cannot be vmapped: train"):
            jax.eval_shape(jax.vmap(lambda key, train=train: train(config, key)), keys)
    with pytest.raises(ValueError, match=r"cannot be split over 2 devices: give one \(num_dev"):
        jaxrl_pg.run(config.replace(num_devices=2), quiet=True)


def test_an_old_state_or_one_from_elsewhere_is_refused(registered):
    env = envs.make("gymnasium:walks/Walk-v0")
    key, action = jax.random.key(0), jnp.full(B, 2)
    step = jax.jit(lambda state: envs.step(env, key, key, state, action)[0])
    state, _ = envs.reset(env, key, B)
    step(state)
    with pytest.raises(jax.errors.JaxRuntimeError, match="taken 1 steps, and it is of step 0: go"):
        jax.block_until_ready(step(state))
    with pytest.raises(jax.errors.JaxRuntimeError, match="of this train state are not here"):
        jax.block_until_ready(step(state._replace(vector=jnp.full(B, -1))))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Walk-v0?lasts=2", "step of environment 0 raises OSError: the robot fell"),
        ("Narrow-v0", r"an observation has shape (1,), and observation_space says (2,)"),
    ],
)
def test_what_an_environment_raises_ends_a_command_in_one_line(registered, capsys, name, line):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(play(f"gymnasium:walks/{name}", 50, 4, jax.random.key(0)))
    capsys.readouterr()
    assert exits.report(caught.value) == exits.WRONG
    assert line in (said := capsys.readouterr().err)
    assert said.startswith("jaxrl-pg: gymnasium:walks/")
    assert said.count("\n") == 1


def test_an_interruption_inside_an_environment_is_one(capsys):
    error = jax.errors.JaxRuntimeError("INTERNAL: CpuCallback error\n  File x\nKeyboardInterrupt: ")
    assert exits.report(error) == exits.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_run_is_reproducible_is_loaded_and_cannot_be_resumed(tmp_path):
    config = jaxrl_pg.reinforce.Config(
        env="gymnasium:CartPole-v1",
        env_params={"max_steps_in_episode": 8},
        num_envs=2,
        num_steps=8,
        hidden_sizes=(4,),
        total_timesteps=32,
    )
    options, kept = {"num_evals": 1, "num_eval_episodes": 3, "quiet": True}, set(host_table._KEPT)
    runs = [jaxrl_pg.run(config, tmp_path / str(i), **options) for i in range(2)]
    first, again = (jax.device_get(run.state.learner) for run in runs)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    policy = jaxrl_pg.load(tmp_path / "0")
    returns = policy.evaluate(jax.random.key(0), 3)
    np.testing.assert_array_equal(returns, policy.evaluate(jax.random.key(0), 3))
    jax.effects_barrier()  # each run's last environments are left, and no evaluation's
    assert len(set(host_table._KEPT) - kept) == 2
    with pytest.raises(ValueError, match="so that it cannot go on: load or evaluate what it has"):
        jaxrl_pg.resume(tmp_path / "0", 128)


def test_the_host_looks_often():
    config = ppo.Config(env="gymnasium:Any", num_envs=4, num_steps=128, total_timesteps=2**18)
    assert chunk_length(config, 2) == 2
    assert chunk_length(config.replace(env="CartPole-v1"), 2) == 128


TABLE = {
    "agent": "ppo",
    "env": "gymnasium:CartPole-v1",
    "seeds": 2,
    "num_evals": 1,
    "num_eval_episodes": 2,
    "fixed": {"num_envs": 4, "num_steps": 8, "hidden_sizes": [4], "total_timesteps": 64},
}


def test_a_sweep_trains_one_after_the_other(tmp_path, monkeypatch):
    """In batches of one, since no checkpoint holds the environments of an unfinished one."""
    experiment = parse("carts", TABLE)
    with pytest.raises(ValueError, match=r"cannot be split over 2 devices: .* --num-devices 1"):
        sweep.sweep(experiment, tmp_path / "a", quiet=True)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"layout=vmap and gymnasium:Cart.* give layout=map"):
        sweep.sweep(experiment, tmp_path / "a", layout="vmap", quiet=True)
    assert not (tmp_path / "a").exists()
    assert experiment.command(tmp_path / "a").endswith(" --num-devices 1")
    config = experiment.points[0].config
    assert batch.max_members(config, "map") == 1
    assert batch.layout_of(batch.SweepOptions(), config) == "map"


@pytest.mark.slow
def test_a_sweep_is_one_run_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    folder = sweep.sweep(parse("carts", TABLE), tmp_path / "a", quiet=True)
    assert len((folder / "results.csv").read_text().splitlines()) == 3
    assert len(list((folder / "parts").glob("*.json"))) == 2


@pytest.mark.slow
def test_ppo_learns_cartpole_of_gymnasium():
    """The gate is a mean return of 400 after 60,000 steps, for each of two seeds."""
    config = ppo.Config(env="gymnasium:CartPole-v1", num_envs=8, num_steps=128)
    train = jax.jit(lambda key: jaxrl_pg.train(config.replace(total_timesteps=60_000), key, 1, 16))
    for seed in range(2):
        assert train(jax.random.key(seed))[1]["eval/return_mean"][-1] > 400


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="needs the extra gymnasium")
def test_half_cheetah_is_stepped():
    env = envs.make("gymnasium:HalfCheetah-v5?reset_noise_scale=0.2")
    assert env.spec == EnvSpec((17,), False, 6, (6,))
    assert int(envs.time_limit(env)) == 1000
    config = ppo.Config(env="gymnasium:HalfCheetah-v5", num_envs=4, num_steps=128)
    metrics = jax.jit(lambda key: jaxrl_pg.train(config.replace(total_timesteps=4096), key)[1])(
        jax.random.key(0)
    )
    assert metrics["train/length_mean"][-1] == 1000
