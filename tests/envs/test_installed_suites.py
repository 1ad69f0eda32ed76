"""The real suites, as far as they are installed (`make conformance` installs them all).

Each environment is played beside the suite's own functions, without anything of ours.
"""

import importlib.util
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import jaxrl_pg
from jaxrl_pg import envs
from jaxrl_pg.envs.adapters import suites
from jaxrl_pg.running.options import Options

B, T = 8, 256
# The suites' own modules warn of much, and promote ranks.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
NAMES = [
    "brax:inverted_pendulum?backend=spring",
    "craftax:Craftax-Classic-Symbolic-v1",
    "jumanji:Game2048-v1",
    "jumanji:Snake-v1",
    "jumanji:Tetris-v0",
    "navix:Navix-Empty-Random-5x5-v0",
    "pgx:2048",
    "pgx:minatar-breakout",
    "playground:CartpoleBalance",
    "xminigrid:MiniGrid-EmptyRandom-5x5",
]
JUMANJI_REFUSES = {  # several rewards, too many joint actions, or actions that are no choices
    "jumanji:Connector-v3": "10 players",
    "jumanji:JobShop-v0": "16679880978201 joint actions",
    "jumanji:LevelBasedForaging-v0": "2 players",
    "jumanji:MultiCVRP-v0": r"int16\[2\]",
    "jumanji:SearchAndRescue-v0": "2 players",
}


def is_installed(suite):
    return importlib.util.find_spec(suites.MODULES.get(suite, suite)) is not None


@pytest.fixture(params=NAMES)
def name(request):
    """The name of an environment whose suite is installed."""
    if not is_installed(request.param.partition(":")[0]):
        pytest.skip("not installed")
    with jax.numpy_rank_promotion("allow"):
        yield request.param


def play(name, key, limit, num_steps=T):
    """First observations, and steps by random actions, most of them legal; actions and keys."""
    env = envs.make(name, {"max_steps_in_episode": limit})
    reset_key, scan_key = jax.random.split(key)
    state, first = envs.reset(env, reset_key, B)

    def body(carry, key):
        state, obs = carry
        act_key, step_key, again_key = jax.random.split(key, 3)
        if env.spec.discrete:
            action = jax.random.randint(act_key, (B,), 0, env.spec.num_actions)
            if env.spec.masked:
                legal_key, often_key = jax.random.split(act_key)
                legal = jax.random.categorical(legal_key, jnp.log(obs["action_mask"]))
                action = jnp.where(jax.random.bernoulli(often_key, 0.98, (B,)), legal, action)
        else:
            action = jax.random.uniform(act_key, (B, *env.spec.action_shape), minval=-1.0)
        state, timestep = envs.step(env, step_key, again_key, state, action)
        return (state, timestep.obs), (timestep, action, jax.random.split(step_key, B))

    return first, *jax.lax.scan(body, (state, first), jax.random.split(scan_key, num_steps))[1]


def raw(name):
    """The suite's own reset and step, `(obs, state)` and `(obs, state, reward)`, and our codes."""
    suite, _, task = name.partition("?")[0].partition(":")
    if suite == "brax":
        from brax import envs as brax_envs

        env = brax_envs.get_environment(task, backend="spring")
        step = lambda key, state, action: env.step(state, action)  # noqa: E731
        return env.reset, step, lambda s: s.obs, lambda s: s.reward, ()
    if suite == "craftax":
        from craftax.craftax_env import make_craftax_env_from_name

        env = make_craftax_env_from_name(task, auto_reset=False)
        params = env.default_params

        def craftax_step(key, kept, action):
            return env.step_env(key, kept[1], action, params)[:3]

        reset = lambda key: (*env.reset_env(key, params), 0.0)  # noqa: E731
        return reset, craftax_step, lambda s: s[0], lambda s: s[2], ()
    if suite == "jumanji":
        import jumanji

        env = jumanji.make(task)

        def jumanji_step(key, kept, action):
            choice = jnp.unravel_index(action, (4, 10)) if task == "Tetris-v0" else action
            return env.step(kept[0], jnp.asarray(choice))

        def shown(kept):
            return {k: x for k, x in kept[1].observation._asdict().items() if k != "step_count"}

        return env.reset, jumanji_step, shown, lambda s: s[1].reward, ()
    if suite == "navix":
        import navix

        env = navix.make(task, observation_fn=navix.observations.symbolic)
        step = lambda key, state, action: env._step(state, action)  # noqa: E731
        return env.reset, step, lambda s: s.observation, lambda s: s.reward, (11, 6, 4)
    if suite == "pgx":
        import pgx

        env = pgx.make(task)
        step = lambda key, state, action: env.step(state, action, key)  # noqa: E731
        both = lambda s: {"action_mask": s.legal_action_mask, "observation": s.observation}  # noqa: E731
        shown = both if task == "2048" else lambda s: s.observation
        return env.init, step, shown, lambda s: s.rewards[0], ()
    if suite == "playground":
        from mujoco_playground import dm_control_suite

        env = dm_control_suite.load(task, config_overrides={"impl": "jax"})
        step = lambda key, state, action: env.step(state, action)  # noqa: E731
        return env.reset, step, lambda s: s.obs, lambda s: s.reward, ()
    import xminigrid

    env, params = xminigrid.make(task)
    reset = lambda key: env.reset(params, key)  # noqa: E731
    step = lambda key, state, action: env.step(params, state, action)  # noqa: E731
    return reset, step, lambda s: s.observation, lambda s: s.reward, (13, 12)


def decoded(obs, sizes):
    """The codes that one-hot channels stand for."""
    if not sizes:
        return obs
    parts = np.split(obs, np.cumsum(sizes)[:-1], axis=-1)
    assert all((part.sum(-1) == 1).all() for part in parts)
    return np.stack([part.argmax(-1) for part in parts], axis=-1)


def flat(obs, sizes=()):
    """The numbers of one observation, of all its parts."""
    parts = [decoded(np.asarray(x), sizes) for x in jax.tree.leaves(obs)]
    return np.concatenate([np.asarray(x, np.float32).ravel() for x in parts])


def at(tree, *index):
    return jax.tree.map(lambda x: x[index], tree)


def test_episodes_end_as_they_should(name):
    """A limit truncates, with the true last observation and a fresh start; one trace for all.

    A termination at the limit is both. Steps and rewards are the suite's own.
    """
    traces = []

    @jax.jit
    def steps(limit):
        traces.append(limit)
        return play(name, jax.random.key(3), limit)

    first, short, actions, keys = jax.device_get(steps(3))
    done, time = short.terminated | short.truncated, np.zeros(B, int)
    for t in range(T):
        time += 1
        assert_array_equal(short.truncated[t], time == 3)
        time[done[t]] = 0
    starts = [flat(at(short.obs, *index)) for index in np.argwhere(done)]
    assert len(np.unique(starts, axis=0)) >= 2  # Breakout has no more
    i = int(done[:2].any(axis=0).argmin())  # one that goes on to the limit
    assert (short.truncated & ~short.terminated)[2, i]
    reset, step, obs_of, reward_of, sizes = raw(name)
    start_keys = jax.random.split(jax.random.split(jax.random.key(3))[0], B)
    one, step = jax.jit(reset)(start_keys[i]), jax.jit(step)
    assert_array_equal(flat(at(first, i), sizes), flat(obs_of(one)))
    for t in range(3):
        one = step(keys[t, i], one, actions[t, i])
        seen = flat(at(short.final_obs, t, i), sizes)
        np.testing.assert_allclose(seen, flat(obs_of(one)), atol=1e-5)
        if not name.startswith("xminigrid"):  # there it depends on the limit
            np.testing.assert_allclose(short.reward[t, i], reward_of(one), atol=1e-5)
    free = jax.device_get(steps(T + 1)[1])
    assert not free.truncated.any()
    if name.startswith("playground"):  # where an episode ends by its limit alone
        assert not free.terminated.any()
        return
    assert free.terminated.any(), "no episode ended: play longer"
    t, i = np.argwhere(free.terminated)[0]
    late = jax.device_get(steps(int(t) + 1)[1])
    assert late.terminated[t, i]
    assert late.truncated[t].all()
    assert_array_equal(flat(at(late.final_obs, t, i)), flat(at(free.final_obs, t, i)))
    if name.startswith("xminigrid"):
        rewards = [1.0 - 0.9 * (t + 1) / (T + 1), 1.0 - 0.9]
        np.testing.assert_allclose([free.reward[t, i], late.reward[t, i]], rewards, rtol=1e-5)
    assert len(traces) == 1


def test_a_vmapped_seed_is_the_seed_alone(name):
    keys = jax.random.split(jax.random.key(5), 2)
    one = jax.jit(lambda key: play(name, key, 5, 12)[1])
    many = jax.device_get(jax.jit(jax.vmap(lambda key: play(name, key, 5, 12)[1]))(keys))
    for i in range(2):
        alone = jax.device_get(one(keys[i]))
        for x, y in zip(jax.tree.leaves(alone), jax.tree.leaves(many), strict=True):
            if np.issubdtype(x.dtype, np.floating):
                np.testing.assert_allclose(x, y[i], rtol=1e-4, atol=1e-4)
            else:
                assert_array_equal(x, y[i])


def test_a_resumed_run_is_the_run_that_was_not_stopped(name, tmp_path):
    """Bit for bit, in the middle of episodes; from the folder alone."""
    config = jaxrl_pg.ppo.Config(
        env=name, num_envs=4, num_steps=8, hidden_sizes=(8,), total_timesteps=96
    )
    quiet = Options(num_evals=0, quiet=True)
    whole = jaxrl_pg.run(config, tmp_path / "whole", 0, quiet)
    jaxrl_pg.run(config.replace(total_timesteps=32), tmp_path / "halves", 0, quiet)
    resumed = jaxrl_pg.resume(tmp_path / "halves", 96)
    assert jaxrl_pg.load(tmp_path / "halves").config.env == name
    same = jax.tree.map(_bits_equal, whole.state, resumed.state)
    assert all(jax.tree.leaves(same)), (name, version(name.partition(":")[0]))


def _bits_equal(x, y):
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    return np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", suites.SUITES)
def test_every_environment_can_be_made(suite):
    """And has a reset and a step that fit each other; traced, not compiled."""
    if not is_installed(suite):
        pytest.skip("not installed")
    with jax.numpy_rank_promotion("allow"):
        for name in suites.listing(suite):
            if name == "brax:swimmer" and version("brax") == "0.14.2":
                # JAX has renamed an argument that it gives.
                with pytest.raises(ValueError, match=r"step_env raises TypeError: clip\(\) got"):
                    envs.make(name)
            elif name in JUMANJI_REFUSES:
                with pytest.raises(ValueError, match=JUMANJI_REFUSES[name]):
                    envs.make(name)
            elif name == "jumanji:Sokoban-v0":  # whose levels are downloaded
                try:
                    envs.make(name)
                except ValueError as error:
                    if "needs data that cannot be had here" not in str(error):
                        raise
            else:
                assert envs.make(name).spec.obs_shape
        if suite == "brax":
            for backend in ("positional", "spring", "mjx"):
                assert envs.make(f"brax:hopper?backend={backend}").spec.obs_shape


def test_pgx_has_no_other_games_for_one_player():
    pgx = pytest.importorskip("pgx")
    alone = [game for game in pgx.available_envs() if pgx.make(game).num_players == 1]
    assert suites.listing("pgx") == sorted(f"pgx:{game}" for game in alone)
