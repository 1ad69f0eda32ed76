"""Frame stacking against a plain twin in Python, over episodes with automatic resets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from numpy.testing import assert_array_equal

import structured
from jaxrl_pg import envs, ppo
from jaxrl_pg.envs import frames
from jaxrl_pg.envs.adapters.gymnax import dict_space
from jaxrl_pg.running.trained_policy import Policy
from structured import LIMIT, MASKED, NUM, Walk

B, T, K = 4, 14, 3


def picture(place, phase, far):
    """An image of bytes of two channels, and a row of numbers beside it."""
    byte = jnp.clip(100.0 * jnp.abs(place), 0, 255).astype(jnp.uint8)
    return {"image": jnp.broadcast_to(byte, (2, 3, 2)), "far": far}


PICTURE = Walk(
    picture,
    dict_space({"image": spaces.Box(0, 255, (2, 3, 2)), "far": spaces.Box(0.0, 99.0, ())}),
)
CORES = {"array": structured.TWIN, "mask": MASKED, "image": PICTURE}
CELL = Walk(lambda place, phase, far: phase, spaces.Discrete(3))


def of(core, num=K, **values):
    return envs.of(ppo.Config(env=core, frame_stack=num, **values))


def play(env):
    """First observations, then every step of random actions, `[T, B, ...]`."""

    @jax.jit
    def run(key):
        def step(state, key):
            act, one, two = jax.random.split(key, 3)
            action = jax.random.randint(act, (B,), 0, NUM)
            return envs.step(env, one, two, state, action)

        state, first = envs.reset(env, key, B)
        return first, jax.lax.scan(step, state, jax.random.split(key, T))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(1)))


def stacked(first, steps):
    """What stacking must give for one array `[T, B, ...]`: `obs` and `final_obs`, in a plain loop.

    Each environment keeps a list of its last K; an end of an episode fills it with the first
    observation of the next.
    """
    kept = [[x] * K for x in first]
    done = steps.terminated | steps.truncated
    obs, final = [], []
    for t in range(T):
        for b in range(B):
            kept[b] = [*kept[b][1:], steps.final_obs[t, b]]
        final.append([np.concatenate(last, axis=-1) for last in kept])
        for b in np.flatnonzero(done[t]):
            kept[b] = [steps.obs[t, b]] * K
        obs.append([np.concatenate(last, axis=-1) for last in kept])
    return np.array(obs), np.array(final)


@pytest.mark.parametrize("name", CORES)
def test_observations_are_the_last_ones_of_their_own_episode(name):
    """Everything else of a step, and the legal actions, are as without stacking."""
    first, steps = play(envs.make(CORES[name]))
    many, seen = play(of(CORES[name]))
    for field in ("reward", "terminated", "truncated"):
        assert_array_equal(getattr(seen, field), getattr(steps, field))
    assert steps.truncated.any()
    assert steps.terminated.any()
    arrays = first if isinstance(first, dict) else {"": first}
    for part, x in arrays.items():

        def pick(tree, part=part):
            return tree[part] if part else tree

        own = steps._replace(obs=pick(steps.obs), final_obs=pick(steps.final_obs))
        if part == "action_mask":
            assert_array_equal(pick(seen.obs), own.obs, strict=True)
            assert_array_equal(pick(seen.final_obs), own.final_obs, strict=True)
            continue
        obs, final = stacked(x, own)
        assert_array_equal(pick(many), np.concatenate([x] * K, axis=-1), strict=True)
        assert_array_equal(pick(seen.obs), obs, strict=True)
        assert_array_equal(pick(seen.final_obs), final, strict=True)


def test_shapes_grow_along_the_last_axis_and_a_mask_keeps_its_own():
    spec = of(PICTURE).spec
    assert dict(spec.obs_shape) == {"image": (2, 3, 6), "far": (3,)}
    assert of(structured.TWIN).spec.obs_shape == (18,)
    assert of(CELL).spec.obs_shape == (9,)
    assert dict(of(MASKED).spec.obs_shape) == {
        "walker.far": (3,),
        "walker.place": (6,),
        "phase": (9,),
        "action_mask": (NUM,),
    }
    assert of(MASKED).spec.masked
    assert of(structured.PAIRS).spec.factors == structured.NVEC
    assert of("Breakout-MinAtar", 2).spec.obs_shape == (10, 10, 8)


def test_a_box_keeps_its_bounds_for_each_observation():
    core = Walk(lambda place, *_: place, spaces.Box(jnp.array([-1.0, -2.0]), 9.0, (2,)))
    env = of(core, 2)
    space = env.core.observation_space(env.params)
    assert_array_equal(space.low, [-1, -2, -1, -2])
    assert_array_equal(space.high, [9, 9, 9, 9])


def test_an_index_becomes_the_last_one_hot_vectors():
    """Worked by hand: the phases 0, 1, 2 of three steps."""
    core, eye = of(CELL).core, np.eye(3)
    obs, state = core.reset_env(jax.random.key(0), core.default_params)
    assert_array_equal(obs, np.concatenate([eye[0], eye[0], eye[0]]))
    for last in ([0, 0, 1], [0, 1, 2], [1, 2, 0]):
        obs, state, *_ = core.step_env(jax.random.key(0), state, 0, core.default_params)
        assert_array_equal(obs, np.concatenate(eye[last]))


def test_time_limits_and_parameters_are_the_environments_own():
    plain, env = envs.make(MASKED), of(MASKED)
    assert envs.time_limit(env) == envs.time_limit(plain) == LIMIT
    assert env.params is plain.params
    longer = of(MASKED, env_params={"max_steps_in_episode": 9})
    assert envs.time_limit(longer) == 9
    assert envs.time_limit(of("CartPole-v1", 2)) == 500
    assert env.core.name == "Walk"


def test_the_same_environment_and_number_make_the_same_object():
    """Compiled programs are found by it."""
    assert of("CartPole-v1", 2).core is of("CartPole-v1", 2).core
    assert of(MASKED).core is of(MASKED).core
    assert of(MASKED, 2).core is not of(MASKED, 3).core
    assert of(MASKED, 1).core is MASKED
    assert isinstance(of(MASKED).core, frames.Stacked)


def test_it_may_first_be_made_inside_a_trace():
    core = Walk(structured.as_array, spaces.Box(jnp.full(6, -9.0), 9.0, (6,)))
    shape = jax.eval_shape(lambda key: envs.reset(of(core), key, B)[1], jax.random.key(0))
    assert shape.shape == (B, 18)
    space = of(core).core.observation_space(None)
    assert not isinstance(space.low, jax.core.Tracer)


@pytest.mark.parametrize("num", [0, -1, 1.5])
def test_numbers_that_stack_nothing_are_refused(num):
    with pytest.raises(ValueError, match=f"frame_stack={num}"):
        ppo.Config(frame_stack=num)


def test_a_policy_is_given_stacked_observations_and_the_mask_as_it_is():
    for core, mask in ((MASKED, (NUM,)), (structured.PAIRS, structured.NVEC)):
        config = ppo.Config(env=core, frame_stack=K, num_envs=4, num_steps=4, num_minibatches=2)
        state = jax.eval_shape(ppo.init, config, jax.random.key(0))
        obs = {
            "walker.far": np.zeros((5, 3)),
            "walker.place": np.zeros((5, 6)),
            "phase": np.zeros((5, 9)),
            "action_mask": np.ones((5, *mask), bool),
        }
        act = jax.eval_shape(lambda state, obs, c=config: Policy(c, state, 0)(obs), state, obs)
        assert act.shape == (5, *(2,) * (len(mask) - 1))
        one = {name: x[0] for name, x in obs.items()}
        assert envs.as_rows(envs.of(config), one)[1] == ()
        with pytest.raises(ValueError, match=r"obs\['phase'\] has shape \(5,\): give \(9,\)"):
            Policy(config, state, 0)({**obs, "phase": np.zeros(5, int)})
