"""What is shown is what `evaluate` plays, with all that the policy needs; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl_pg
from jaxrl_pg import envs, ppo
from jaxrl_pg.envs.adapters import gymnax
from jaxrl_pg.envs.adapters.counted import Counted, Views
from jaxrl_pg.running.trained_policy import Policy
from jaxrl_pg.watch import watching
from jaxrl_pg.watch.settings import Settings

SIZES = {"num_envs": 4, "num_steps": 4, "num_minibatches": 2, "hidden_sizes": (4,)}
END = 3


def untrained(**fields):
    config = ppo.Config(**{**SIZES, **fields})
    return Policy(config, jax.jit(jaxrl_pg.init)(config, jax.random.key(0)), 0)


class Counting:
    """Three steps that earn 0.5, 1 and 1.5, then the end; a picture as bright as the state."""

    default_params = envs.from_mdp.Params(*(jnp.zeros(1),) * 3, 10)

    def reset_env(self, key, params):
        return jnp.zeros(2), envs.from_mdp.State(*(jnp.zeros((), jnp.int32),) * 2)

    def step_env(self, key, state, action, params):
        now = state.state + 1
        state = envs.from_mdp.State(now, state.time + 1)
        return jnp.full(2, 1.0) * now, state, 0.5 * now, now == END, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def observation_space(self, params):
        return gymnax.box(0.0, 9.0, (2,))

    def action_space(self, params):
        return gymnax.discrete(2)

    def render(self, state, params):
        return np.full((4, 8, 3), 10 * state.state, np.uint8)


@pytest.fixture(scope="module")
def counting():
    return untrained(env=Counting())


@pytest.fixture(scope="module")
def remembering():
    return untrained(env="TMaze", core="gru", core_size=4, frame_stack=2, normalize_obs=True)


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_returns_are_those_of_evaluate(remembering, deterministic):
    policy = remembering
    movie = policy.watch(num_episodes=3, seed=5, max_steps=120, deterministic=deterministic)
    returns = policy.evaluate(jax.random.key(5), 3, deterministic)
    np.testing.assert_array_equal(movie.returns, returns)
    assert len(movie) == sum(movie.lengths) + 3


def test_sampled_actions_of_a_box_and_a_limit_of_ones_own_are_those_of_evaluate():
    policy = untrained(
        env="Pendulum-v1", env_params={"max_steps_in_episode": 7}, normalize_obs=True
    )
    movie = policy.watch(num_episodes=2, deterministic=False)
    returns = policy.evaluate(jax.random.key(0), 2, deterministic=False)
    np.testing.assert_allclose(movie.returns, returns, rtol=1e-6)
    assert movie.lengths == (7, 7)


def test_an_environment_that_draws_itself_is_asked(counting):
    movie = counting.watch(width=104)
    below = [movie.frame(i)[-1, 0, 0] for i in range(len(movie))]
    assert below == [0, 10, 20, 30]  # the state in which the episode ends is the last
    assert movie.returns == (3.0,)  # 0.5 + 1 + 1.5
    assert movie.frame(0).shape[1:] == (104, 3)


def test_an_episode_that_is_too_long_to_show_has_no_return(counting):
    movie = counting.watch(max_steps=2)
    assert len(movie) == 3
    assert np.isnan(movie.returns[0])


def test_some_steps_may_be_left_out_but_not_the_last(counting):
    movie = counting.watch(every=2, num_episodes=2)
    below = [movie.frame(i)[-1, 0, 0] for i in range(len(movie))]
    assert below == [0, 20, 30] * 2


def test_what_is_no_picture_is_said_in_a_line(counting, monkeypatch):
    monkeypatch.setattr(Counting, "render", lambda *_: np.zeros((4, 8)))
    with pytest.raises(ValueError, match=r"Counting: render returns float64\[4, 8\]: return a pic"):
        counting.watch().frame(0)


def test_a_suite_draws_its_own_states():
    def start(key):
        return jnp.zeros(2), {"place": jnp.zeros((), jnp.int32)}

    def advance(key, state, action, limit):
        place = state["place"] + 1
        return jnp.ones(2) * place, {"place": place}, 1.0, place == END

    core = Counted(
        "suite:Task",
        start,
        advance,
        gymnax.box(0.0, 9.0, (2,)),
        gymnax.discrete(2),
        views=Views(
            picture=lambda state: np.full((5, 5, 3), 7 * state["place"], np.uint8),
            page=lambda states: f"<p>{len(states['place'])}</p>",
        ),
    )
    policy = untrained(env=core, frame_stack=2)
    movie = policy.watch(width=100)
    assert [movie.frame(i)[-1, 0, 0] for i in range(4)] == [0, 7, 14, 21]
    assert movie._whole_page() == "<p>4</p>"


def test_gymnasium_draws_its_own_pictures_of_the_episodes_that_evaluate_plays():
    gymnasium = pytest.importorskip("gymnasium")

    class Steps(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
        observation_space = gymnasium.spaces.Box(0, 99, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        broken = False

        def __init__(self, render_mode=None):
            self.render_mode = render_mode

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.place = int(self.np_random.integers(5))
            return np.full(2, self.place, np.float32), {}

        def step(self, action):
            self.place += 1
            obs = np.full(2, self.place, np.float32)
            return obs, float(self.place), self.place >= 7, False, {}

        def render(self):
            assert self.render_mode == "rgb_array"
            if self.broken:
                raise OSError("no display")
            return np.full((10, 20, 3), 20 * self.place, np.uint8)

    gymnasium.register("WatchedSteps-v0", Steps)
    policy = untrained(env="gymnasium:WatchedSteps-v0", frame_stack=2)
    movie = policy.watch(num_episodes=2, seed=1, width=100)
    np.testing.assert_array_equal(movie.returns, policy.evaluate(jax.random.key(1), 2))
    ends = np.cumsum(np.array(movie.lengths) + 1) - 1
    assert [int(movie.frame(int(i))[-1, 0, 0]) for i in ends] == [140, 140]
    first = 7 - movie.lengths[0]
    assert movie.frame(0)[-1, 0, 0] == 20 * first
    Steps.broken = True
    with pytest.warns(UserWarning, match=r"OSError: no display: shown is a panel instead"):
        assert policy.watch(num_episodes=2, seed=1, width=100).returns == movie.returns


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_episodes": 0}, "num_episodes=0: give a whole number from 1 to 1000"),
        ({"fps": 60}, "fps=60: give a whole number from 1 to 50"),
        ({"width": 10}, "width=10: give a whole number from 100 to 1600"),
        ({"episodes": 3}, "unknown setting 'episodes': did you mean 'num_episodes'?"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_played(counting, given, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        counting.watch(**given)


def test_a_state_of_another_config_is_refused(counting):
    with pytest.raises(ValueError, match="config"):
        watching.watch(ppo.Config(env="CartPole-v1"), counting.state, Settings())
