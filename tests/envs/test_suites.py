"""Suites by name: what a name may be, and that every style of a suite ends its episodes alike.

The suites here are stand-ins of a few lines, each with the interface and the traps of the real one:
limits of their own, states that they fill in place, codes for observations. The real ones are tried
in `test_installed_suites.py`.
"""

import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxrl_pg
from jaxrl_pg import envs
from jaxrl_pg.cli import main
from jaxrl_pg.envs import making
from jaxrl_pg.envs.adapters import gymnax, suites
from jaxrl_pg.running.options import Options
from jaxrl_pg.running.run_folder import RunFolder

END = 7  # an episode starts at 0 to 4 and goes up by one each step; it terminates here
B = 6


def first_place(key):
    return jax.random.randint(key, (), 0, 5)


@struct.dataclass
class BraxState:
    pipeline_state: Any
    obs: Any
    reward: Any
    done: Any
    metrics: Any


class Brax:
    action_size = 1

    def __init__(self, speed=1.0, backend="generalized", **others):
        if backend not in ("generalized", "spring"):
            raise ValueError(f"backend should be in {['generalized', 'spring']}\n(two lines)")

    def reset(self, key):
        place = first_place(key)
        zero = jnp.zeros(())
        return BraxState(place, place[None] * 1.0, zero, zero, {"reward_forward": zero})

    def step(self, state, action):
        assert action.shape == (1,)
        place = state.pipeline_state + 1
        reward = jnp.float32(place == END)
        state.metrics.update(reward_forward=reward)
        return state.replace(
            pipeline_state=place, obs=place[None] * 1.0, reward=reward, done=reward
        )


class Endless(Brax):
    """Never terminates, and leaves the flag as it is."""

    def step(self, state, action):
        return super().step(state, action).replace(done=state.done)


def brax():
    tasks = {"walk": Brax, "fast": Brax, "swim": Endless}
    return {"envs": SimpleNamespace(_envs=tasks, get_environment=lambda t, **o: tasks[t](**o))}


@struct.dataclass
class CraftaxParams:
    max_timesteps: int = 50
    god_mode: bool = False


class Craftax:
    default_params = CraftaxParams()

    def action_space(self, params):
        return SimpleNamespace(n=2)

    def reset_env(self, key, params):
        place = first_place(key)
        return place[None] * 1.0, (place, jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        place, time = state[0] + 1, state[1] + 1
        ended = place == END
        return (
            (place[None] * 1.0),
            (place, time),
            jnp.float32(ended),
            ended | (time >= params.max_timesteps),
            {},
        )


def craftax():
    def make(task, auto_reset):
        assert not auto_reset
        return Craftax()

    return {"craftax_env": SimpleNamespace(make_craftax_env_from_name=make)}


@struct.dataclass
class NavixState:
    key: Any
    place: Any
    cache: Any


@struct.dataclass
class NavixStep:
    t: Any
    observation: Any
    action: Any
    reward: Any
    step_type: Any
    state: Any
    info: Any


class Navix:
    action_set = (0, 1, 2)

    def __init__(self, max_steps, observation_fn):
        self.max_steps, self.observe = max_steps, observation_fn

    def reset(self, key):
        kept, key = jax.random.split(key)
        state = NavixState(kept, first_place(key), jnp.zeros((9, 9)))
        zero = jnp.asarray(0)
        return NavixStep(zero, self.observe(state), zero, 0.0, zero, state, {"return": 0.0})

    def _step(self, step, action):
        state = step.state.replace(
            key=jax.random.split(step.state.key)[0], place=step.state.place + 1
        )
        ended = state.place == END
        kind = jnp.clip((step.t + 1 >= self.max_steps) + 2 * ended, 0, 2)
        info = {"return": step.info.get("return", 0.0) + 1.0}
        reward = jnp.float32(ended)
        return NavixStep(step.t + 1, self.observe(state), action, reward, kind, state, info)


def codes(state):
    return jnp.zeros((2, 2, 3), jnp.uint8).at[1, 1, 0].set(state.place.astype(jnp.uint8))


def navix():
    kinds = SimpleNamespace(StepType=SimpleNamespace(TERMINATION=jnp.asarray(2)))
    return {
        "registry": lambda: {"Navix-Walk-v0": Navix},
        "make": lambda task, **given: Navix(**given),
        "observations": SimpleNamespace(symbolic=codes, symbolic_first_person=codes),
        "environments": SimpleNamespace(environment=kinds),
    }


@struct.dataclass
class PgxState:
    place: Any
    observation: Any
    rewards: Any
    terminated: Any
    legal_action_mask: Any


class Pgx:
    num_actions = 2

    def __init__(self, *, sticky_action_prob: float = 0.1):
        self.sticky_action_prob = sticky_action_prob

    def init(self, key):
        return self._made(first_place(key), jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state, action, key):
        ended = state.place + 1 == END
        return self._made(state.place + 1, jnp.float32(ended), ended)

    def _made(self, place, reward, ended):
        legal = jnp.stack([place % 2 == 0, jnp.asarray(True)])
        return PgxState(place, place[None] > jnp.arange(END), reward[None], ended, legal)


class Pgx2048(Pgx):
    def __init__(self):
        pass


def pgx():
    games = {"2048": Pgx2048, "chess": None, "minatar-walk": Pgx}
    return {"available_envs": lambda: tuple(games), "make": lambda task: games[task]()}


@struct.dataclass
class PlaygroundState:
    data: Any
    obs: Any
    reward: Any
    done: Any
    metrics: Any
    info: Any


class Playground:
    """Observations are a dict; the state has a key, and an array without elements."""

    action_size = 1

    def __init__(self, impl, ctrl_dt, sim_dt):
        assert impl == "jax"
        self.dt, self.sim_dt = ctrl_dt, sim_dt
        self.n_substeps = round(ctrl_dt / sim_dt)

    def reset(self, key):
        kept, key = jax.random.split(key)
        zero, place = jnp.zeros(()), first_place(key)
        data = (place, jnp.zeros(0))
        return PlaygroundState(data, self._seen(place), zero, zero, {"speed": zero}, {"rng": kept})

    def step(self, state, action):
        place, nothing = state.data[0] + 1, state.data[1]
        reward = jnp.float32(place == END)
        state.metrics["speed"] = reward
        info = {"rng": jax.random.split(state.info["rng"])[0]}
        data = (place, nothing)
        return PlaygroundState(data, self._seen(place), reward, reward, state.metrics, info)

    def _seen(self, place):
        return {"state": place[None] * 1.0, "privileged_state": jnp.zeros((2, 2))}


class PlaygroundConfig(dict):
    __getattr__ = dict.__getitem__


def playground():
    def config(task=None):
        return PlaygroundConfig(impl="warp", ctrl_dt=0.02, sim_dt=0.01, episode_length=30)

    def load(task, config_overrides):
        given = {key: x for key, x in config().items() if key != "episode_length"}
        return Playground(**given | config_overrides)

    parts = SimpleNamespace(ALL_ENVS=("Walk",), get_default_config=config, load=load)
    return {"dm_control_suite": parts}


class Spec:
    def __init__(self, **parts):
        vars(self).update(parts)


class Array(Spec):
    pass


class BoundedArray(Array):
    pass


class DiscreteArray(BoundedArray):
    pass


class MultiDiscreteArray(BoundedArray):
    pass


class Inner(NamedTuple):
    speed: Any


class JumanjiObs(NamedTuple):
    index: Any
    inner: Any
    action_mask: Any
    step_count: Any


class JumanjiStep(NamedTuple):
    kind: Any
    reward: Any
    discount: Any
    observation: Any

    def last(self):
        return self.kind == 2


class Jumanji:
    """Two are moved at once, each with a mask of its own; the end of time is a termination."""

    counts, players = (3, 3), ()

    def __init__(self, generator=None, time_limit=None, cost=0.0, viewer=None):
        self.time_limit = time_limit or 60
        self.reward_spec = Array(shape=self.players)
        self.action_spec = MultiDiscreteArray(num_values=np.asarray(self.counts))
        zero, one = np.zeros(()), np.ones(())
        self.observation_spec = Spec(
            index=DiscreteArray(shape=(), num_values=END + 1),
            inner=Spec(speed=BoundedArray(shape=(2,), minimum=zero, maximum=one)),
            action_mask=BoundedArray(shape=(2, 3), minimum=zero, maximum=one),
            step_count=DiscreteArray(shape=(), num_values=self.time_limit),
        )

    def reset(self, key):
        state = (first_place(key), jnp.asarray(0))
        return state, self._seen(state, 0, jnp.zeros(()), jnp.ones(()))

    def step(self, state, action):
        assert action.shape == (2,)
        assert action.dtype == jnp.int32
        place, time = state[0] + 1, state[1] + 1
        last = (place == END) | (time >= self.time_limit)
        reward, discount = jnp.float32(place == END), 1.0 - last
        return (place, time), self._seen((place, time), 1 + last, reward, discount)

    def _seen(self, state, kind, reward, discount):
        legal = jnp.stack([jnp.arange(3) <= state[0] % 3, jnp.arange(3) != 1])
        obs = JumanjiObs(state[0], Inner(jnp.zeros(2)), legal, state[1])
        return JumanjiStep(kind, reward, discount, obs)


class JumanjiGraph(Jumanji):
    counts = (21,) * 10


class JumanjiTeam(Jumanji):
    players = (2,)


class JumanjiSwarm(Jumanji):
    def __init__(self, viewer=None):
        super().__init__()
        self.action_spec = BoundedArray(shape=(2,), dtype="int16")


class JumanjiMaps(Jumanji):
    def __init__(self, viewer=None):
        raise FileNotFoundError("no such file on the hub\n(two lines)")


def jumanji():
    tasks = {
        "Graph-v0": JumanjiGraph,
        "Maps-v0": JumanjiMaps,
        "Swarm-v0": JumanjiSwarm,
        "Team-v0": JumanjiTeam,
        "Walk-v1": Jumanji,
    }
    kinds = (Spec, Array, BoundedArray, DiscreteArray, MultiDiscreteArray)
    registry = {task: SimpleNamespace(entry_point=task) for task in tasks}
    return {
        "registered_environments": lambda: set(tasks),
        "make": lambda task, **given: tasks[task](**given),
        "registration": SimpleNamespace(load=tasks.get, _REGISTRY=registry),
        "specs": SimpleNamespace(**{kind.__name__: kind for kind in kinds}),
    }


@struct.dataclass
class MiniParams:
    view_size: int = struct.field(pytree_node=False, default=3)
    max_steps: Any = 40


@struct.dataclass
class MiniStep:
    state: Any
    step_type: Any
    reward: Any
    discount: Any
    observation: Any


class Mini:
    def num_actions(self, params):
        return 6

    def reset(self, params, key):
        place = first_place(key)
        return self._made(place, jnp.asarray(0), jnp.asarray(0), 0.0, 1.0)

    def step(self, params, step, action):
        place, time = step.state[0] + 1, step.state[1] + 1
        ended = place == END
        last = ended | (time == params.max_steps)
        reward = jnp.where(ended, 1.0 - 0.9 * time / params.max_steps, 0.0)
        return self._made(place, time, 2 * last, reward, 1.0 - ended)

    def _made(self, place, time, kind, reward, discount):
        grid = jnp.zeros((3, 3, 2), jnp.uint8).at[0, 0, 0].set(place.astype(jnp.uint8))
        return MiniStep((place, time), kind, reward, discount, grid)


def xminigrid():
    sizes = SimpleNamespace(NUM_TILES=13, NUM_COLORS=12)
    return {
        "registered_environments": lambda: ("MiniGrid-Walk", "XLand-MiniGrid-R1-9x9"),
        "make": lambda task: (Mini(), MiniParams()),
        "core": SimpleNamespace(constants=sizes),
    }


# A suite: how to make it, the name of its environment, its own limit, and where an observation
# shows the place.
STYLES = {
    "brax": (brax, "walk", 1000, lambda obs: obs[..., 0]),
    "craftax": (craftax, "Craftax-Symbolic-v1", 50, lambda obs: obs[..., 0]),
    "jumanji": (jumanji, "Walk-v1", 60, lambda obs: obs["index"].argmax(-1)),
    "navix": (navix, "Navix-Walk-v0", 100, lambda obs: obs[..., 1, 1, :11].argmax(-1)),
    "pgx": (pgx, "minatar-walk", 100_000, lambda obs: obs.sum(-1)),
    "playground": (playground, "Walk", 30, lambda obs: obs["state"][..., 0]),
    "xminigrid": (xminigrid, "MiniGrid-Walk", 40, lambda obs: obs[..., 0, 0, :13].argmax(-1)),
}


@pytest.fixture
def stand_ins(monkeypatch):
    """All suites, as if they were installed."""
    suites.make.cache_clear()
    for suite, (parts, *_) in STYLES.items():
        name = suites.MODULES.get(suite, suite)
        module = ModuleType(name)
        vars(module).update(parts(), __spec__=ModuleSpec(name, None, origin="a test"))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "craftax.craftax_env", sys.modules["craftax"].craftax_env)
    yield
    suites.make.cache_clear()


def play(name, limit, num_steps):
    """First observations, and `num_steps` steps of every environment."""
    env = envs.make(name, {"max_steps_in_episode": limit})
    reset_key, scan_key = jax.random.split(jax.random.key(0))
    state, first = envs.reset(env, reset_key, B)
    kind = jnp.int32 if env.spec.discrete else jnp.float32
    action = jnp.zeros((B, *env.spec.action_shape), kind)

    def body(state, key):
        return envs.step(env, *jax.random.split(key), state, action)

    return first, jax.lax.scan(body, state, jax.random.split(scan_key, num_steps))[1]


@pytest.mark.parametrize("suite", STYLES)
def test_every_style_ends_its_episodes_alike(stand_ins, suite):
    """A limit of three truncates at the third step, and a termination then is one all the same.

    The last observation is the true one, and the next episode starts anew from a draw of its own.
    One program serves every limit.
    """
    _, task, own_limit, place_of = STYLES[suite]
    name, traces = f"{suite}:{task}", []
    assert int(envs.time_limit(envs.make(name))) == own_limit

    @jax.jit
    def steps(limit):
        traces.append(limit)
        return play(name, limit, 24)

    for limit in (3, 5, 200):
        first, timestep = jax.device_get(steps(limit))
        place, time, starts = place_of(first), np.zeros(B), []
        last_places, next_places = place_of(timestep.final_obs), place_of(timestep.obs)
        for t in range(24):
            place, time = place + 1, time + 1
            np.testing.assert_array_equal(last_places[t], place)
            ended, late = place == END, time == limit
            np.testing.assert_array_equal(timestep.terminated[t], ended)
            np.testing.assert_array_equal(timestep.truncated[t], late)
            reward = ended * (1.0 if suite != "xminigrid" else 1.0 - 0.9 * time / limit)
            np.testing.assert_allclose(timestep.reward[t], reward, rtol=1e-6)
            done, next_place = ended | late, next_places[t]
            np.testing.assert_array_equal(next_place[~done], place[~done])
            assert (next_place[done] <= 4).all()
            starts += list(next_place[done])
            place, time = np.where(done, next_place, place), np.where(done, 0, time)
        assert len(set(starts)) > 1
        both = timestep.terminated & timestep.truncated
        assert both.any() == (limit < 200)
    assert len(traces) == 1


def test_a_name_is_enough_to_train_resume_and_load(stand_ins, tmp_path, monkeypatch):
    """Without an object, in a folder with a good name; the state of the suite holds a key."""
    monkeypatch.chdir(tmp_path)
    config = jaxrl_pg.reinforce.Config(
        env="navix:Navix-Walk-v0?observation=symbolic_first_person",
        env_params={"max_steps_in_episode": 4},
        num_envs=2,
        num_steps=8,
        hidden_sizes=(4,),
        conv_features=0,
        total_timesteps=16,
    )
    result = jaxrl_pg.run(config, options=Options(num_evals=0, quiet=True))
    folder = Path(result.run_dir)
    expected = "reinforce-navix-Navix-Walk-v0-observation-symbolic_first_person-0-"
    assert folder.name.startswith(expected)
    assert RunFolder.open(folder).config["env"] == config.env
    assert jaxrl_pg.load(folder).config == config
    assert int(jaxrl_pg.resume(folder, 32).state.iteration) == 2


def test_an_environment_that_never_terminates_is_only_truncated(stand_ins):
    """It is traced when it is made, and the flag stays one."""
    step = jax.eval_shape(lambda limit: play("brax:swim", limit, 2)[1], 9)
    assert step.terminated.shape == (2, B)


def test_legal_actions_are_observed_unless_the_name_says_no(stand_ins):
    """jumanji's masks of each part become one of joint actions; pgx's is as it is."""
    key = jax.random.key(0)
    both, game = suites.make("jumanji:Walk-v1"), suites.make("pgx:2048")
    obs, state = both.reset_env(key, both.default_params)
    assert set(obs) == {"index", "inner", "action_mask"}
    expected = (np.arange(3) <= int(obs["index"]) % 3)[:, None] & (np.arange(3) != 1)
    np.testing.assert_array_equal(obs["action_mask"], expected)
    obs, state = game.reset_env(key, game.default_params)
    np.testing.assert_array_equal(obs["action_mask"], [int(state.inner.place) % 2 == 0, True])
    without = suites.make("jumanji:Walk-v1?action_mask=false")
    shapes = jax.eval_shape(without.reset_env, key, without.default_params)[0]
    assert set(shapes) == set(without.observation_space(without.default_params).spaces)
    assert set(shapes) == {"index", "inner"}
    without = suites.make("pgx:2048?action_mask=false")
    assert jax.eval_shape(without.reset_env, key, without.default_params)[0].shape == (END,)


def test_options_of_a_name_reach_the_suite(stand_ins):
    core = suites.make("brax:walk?backend=spring&speed=2&n_frames=3")
    assert core is suites.make("brax:walk?backend=spring&speed=2&n_frames=3")
    assert core is not suites.make("brax:walk")
    assert suites.make("craftax:Craftax-Symbolic-v1?god_mode=True").name.endswith("True")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brx:ant", r"unknown suite 'brx' of env='brx:ant': did you mean 'brax'\? allowed: .*pgx"),
        ("brax", "unknown environment 'brax'"),
        ("brax:walk?backend", "write options as name=value, joined by &"),
        ("brax:walk?", "write options as name=value"),
        ("brax:walk?speed=1&speed=2", "each once"),
        ("brax:" + "w" * 300, "give a name of at most 200 characters"),
        ("brax:wlak", "unknown environment 'brax:wlak': did you mean 'walk'"),
        ("brax:fast", "allowed: swim, walk$"),
        ("brax:walk?bakend=spring", "unknown option 'bakend' of .* did you mean 'backend'"),
        ("brax:walk?backend=3", "option 'backend' of .*: give a value of the kind of .*'general"),
        ("brax:walk?speed=1e999", "option 'speed' of .* default, 1.0"),
        ("brax:walk?n_frames=2.5", "option 'n_frames' .* default, 1"),
        ("brax:walk?n_frames=__import__('os')", "option 'n_frames'"),
        ("brax:walk?backend=warp", r"cannot be made \(ValueError: backend should be in .*'\]\)"),
        ("craftax:Craftax-Symbolic-v1?max_timesteps=9", "env_params gives the time limit"),
        ("craftax:Craftax-Symbolic-v1?god_mode=1", "default, False"),
        ("navix:Navix-Walk-v0?observation=rgb", "observation='rgb'.*symbolic_first_person"),
        ("jumanji:Walk-v1?time_limit=9", "allowed: action_mask, cost .env_params gives the time"),
        ("jumanji:Walk-v1?action_mask=0", "give a value of the kind of its default, True"),
        ("jumanji:Graph-v0", "ValueError: it has 16679880978201 joint actions, more than 65536"),
        ("jumanji:Maps-v0", "Maps-v0' needs data that cannot be had here: no such file on the hub"),
        ("jumanji:Swarm-v0", r"ValueError: its actions are int16\[2\], not numbered choices"),
        ("jumanji:Team-v0", "ValueError: it has 2 players, each with a reward.: .* another env"),
        ("pgx:chess", "allowed: 2048, minatar-walk"),
        ("pgx:minatar-walk?action_mask=false", "unknown option 'action_mask'"),
        ("playground:Walk?sim_dt=0.1", "ctrl_dt=0.02 must hold a step of sim_dt=0.1, or several"),
        ("playground:Walk?impl=warp", "unknown option 'impl'"),
        ("xminigrid:XLand-MiniGrid-R1-9x9", "allowed: MiniGrid-Walk"),
        ("xminigrid:MiniGrid-Walk?view_size=4", "view_size=4 is not an odd number"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(stand_ins, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        envs.make(name)
    assert "\n" not in str(caught.value)


def test_a_suite_that_is_not_installed_is_named_with_the_command(monkeypatch, capsys):
    """A folder of its name is no library."""
    found = {"brax": ModuleSpec("brax", None)}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found.get(name))
    suites.make.cache_clear()
    for suite in STYLES:
        with pytest.raises(
            ValueError, match=rf'needs {suite}.*"jaxrl-pg\[{suite}\]".*make install'
        ):
            envs.make(f"{suite}:anything")
    assert main(["envs"]) == 0
    printed = capsys.readouterr().out.splitlines()
    headers = [line.split(":")[0] for line in printed if line.startswith("# ")]
    assert headers[1:] == [f"# {suite}" for suite in suites.SUITES]
    lines = [line for line in printed if line and not line.startswith("# ")]
    assert {"CartPole-v1", "Crossing-grid", "TMaze"} <= set(lines[: -len(suites.SUITES)])
    assert len(lines) == len(gymnax.names()) + len(making.OURS) + len(suites.SUITES)
    assert 'pip install "jaxrl-pg[playground]"' in lines[-2]


def test_all_names_are_listed(stand_ins):
    # EnvPool is tested by itself.
    names = [name for name in envs.listing() if name and not re.search("^#|envpool", name)]
    assert names[-1] == "xminigrid:MiniGrid-Walk"
    suites_own = [name for name in names if envs.is_name(name)]
    assert suites_own == names[-len(suites_own) :]
    # gymnasium is no stand-in: it comes with gymnax.
    assert len([name for name in suites_own if not name.startswith("gymnasium:")]) == 16
