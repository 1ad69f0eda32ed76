"""Structured observations, masks and MultiDiscrete actions, between environment and network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from numpy.testing import assert_allclose, assert_array_equal

import structured
from jaxrl_pg import envs
from jaxrl_pg.envs import observations, structure
from jaxrl_pg.envs.adapters.gymnax import dict_space, multi_discrete
from jaxrl_pg.types import EnvSpec
from structured import FORMS, INSIDE, MASKED, MASKED_STRUCT, NUM, NVEC, PAIRS, PLANE, TWIN, Walk

B = 4
MASK = spaces.Box(0.0, 1.0, (NUM,))
WITH_MASK = {"place": PLANE, "action_mask": MASK}


def trajectory(core, steps=12):
    """What a few steps of random actions show, with automatic resets, `[T, B, ...]`."""
    env = envs.make(core)

    @jax.jit
    def play(key):
        def step(state, key):
            act, one, two = jax.random.split(key, 3)
            action = jax.random.randint(act, (B,), 0, NUM)
            return envs.step(env, one, two, state, action)

        state, first = envs.reset(env, key, B)
        return first, jax.lax.scan(step, state, jax.random.split(key, steps))[1]

    return play(jax.random.key(0))


@pytest.fixture(scope="module")
def twin():
    first, steps = trajectory(TWIN)
    assert steps.terminated.any()
    assert steps.truncated.any()
    return first, steps


def obs_of(form, *outer):
    """Observations with axes in front as an environment of that form gives them."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(*outer, 2)).astype(np.float32)
    phase, far = rng.integers(0, 3, size=outer), rng.normal(size=outer).astype(np.float32)
    flat = np.concatenate([np.eye(3)[phase], far[..., None], place], axis=-1)
    return FORMS[form].form(place, phase, far), flat.astype(np.float32)


# --- the same numbers as those of one array -----------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_form_shows_the_walk_of_its_twin(form, twin):
    first, steps = trajectory(FORMS[form])
    assert_array_equal(structured.joined(first), twin[0])
    for name in ("obs", "final_obs"):
        assert_array_equal(structured.joined(getattr(steps, name)), getattr(twin[1], name))
    for name in ("reward", "terminated", "truncated"):
        assert_array_equal(getattr(steps, name), getattr(twin[1], name))


@pytest.mark.parametrize("form", FORMS)
def test_given_observations_are_read_alike_with_any_axes_in_front(form):
    env = envs.make(FORMS[form])
    for outer in ((), (5,), (2, 3)):
        obs, flat = obs_of(form, *outer)
        rows, axes = envs.as_rows(env, obs)
        assert axes == outer
        assert_array_equal(structured.joined(rows), flat.reshape(-1, 6))
        assert {x.dtype for x in rows.values()} == {jnp.dtype("float32")}
        assert_array_equal(structured.joined(observations.readable(env, obs)), flat)
    batch = envs.batch(env, obs_of(form, 5)[0])
    assert_array_equal(structured.joined(batch), obs_of(form, 5)[1])
    assert envs.batch(env, batch) is batch  # read already
    # Lists and whole numbers are arrays too, as for observations of one array.
    listed = jax.tree.map(lambda x: np.asarray(x).tolist(), obs_of(form)[0])
    assert_allclose(structured.joined(envs.as_rows(env, listed)[0])[0], obs_of(form)[1])


def test_given_observations_may_be_traced():
    env = envs.make(FORMS["dict"])
    obs, flat = obs_of("dict", 5)
    rows = jax.jit(jax.vmap(lambda obs: envs.as_rows(env, obs)[0]))(obs)
    assert_array_equal(structured.joined(rows)[:, 0], flat)


def test_names_are_paths_and_flat_names_are_understood():
    env = envs.make(FORMS["dict"])
    shapes = (("walker.far", (1,)), ("walker.place", (2,)), ("phase", (3,)))
    assert env.spec == EnvSpec(shapes, True, NUM, ())
    assert hash(env.spec) == hash(envs.make(Walk()).spec)
    assert observations.shapes(env.spec.obs_shape) == dict(shapes)
    assert observations.shapes((6,)) == {"": (6,)}
    obs, flat = obs_of("dict", 5)
    inner = obs["walker"]
    by_name = {"walker.far": inner["far"], "walker.place": inner["place"], "phase": obs["phase"]}
    assert_array_equal(structured.joined(envs.as_rows(env, by_name)[0]), flat)


def test_bytes_and_truth_stay_as_they_are():
    space = dict_space({"image": spaces.Box(0, 255, (2, 2, 1)), "seen": spaces.Box(0, 1, (3,))})
    core = Walk(
        lambda *_: {"image": jnp.ones((2, 2, 1), jnp.uint8), "seen": jnp.ones(3, bool)}, space
    )
    env = envs.make(core)
    _, obs = jax.eval_shape(lambda key: envs.reset(env, key, B), jax.random.key(0))
    assert [(x.shape, str(x.dtype)) for x in obs.values()] == [
        ((B, 2, 2, 1), "uint8"),
        ((B, 3), "bool"),
    ]


# --- masks --------------------------------------------------------------------------------------


def nested_mask():
    """The mask is where the environment has it, under whatever name is in front."""

    def see(place, *_):
        return {"seen": {"place": place, "action_mask": jnp.ones(NUM, jnp.int32)}}

    return Walk(see, dict_space({"seen": dict_space(WITH_MASK)}))


@pytest.mark.parametrize("core", [MASKED, MASKED_STRUCT, PAIRS, nested_mask()])
def test_a_mask_has_its_own_name_one_axis_and_truth_values(core):
    env = envs.make(core)
    assert (env.spec.masked, env.spec.num_actions) == (True, NUM)
    assert dict(env.spec.obs_shape)["action_mask"] == (NUM,)
    _, obs = jax.eval_shape(lambda key: envs.reset(env, key, B), jax.random.key(0))
    assert (obs["action_mask"].shape, obs["action_mask"].dtype) == ((B, NUM), jnp.bool_)
    assert not envs.make(FORMS["dict"]).spec.masked


def test_a_mask_changes_nothing_else_and_says_what_the_environment_said(twin):
    for core in (MASKED, MASKED_STRUCT):
        first, steps = trajectory(core)
        assert_array_equal(structured.joined(steps.obs), twin[1].obs)
        phase = np.argmax(np.asarray(steps.final_obs["phase"]), axis=-1)
        expected = np.arange(NUM) % 3 != phase[..., None]
        assert_array_equal(steps.final_obs["action_mask"], expected)
        assert_array_equal(first["action_mask"][0], np.arange(NUM) % 3 != 0)


def test_a_given_mask_has_the_shape_that_the_space_says():
    env, obs = envs.make(PAIRS), obs_of("dict", 5)[0]
    rows = envs.as_rows(env, {**obs, "action_mask": np.eye(6, dtype=int).reshape(6, 2, 3)[:5]})[0]
    assert_array_equal(rows["action_mask"], np.eye(6, dtype=bool)[:5])
    assert rows["action_mask"].dtype == jnp.bool_
    with pytest.raises(ValueError, match=r"obs\['action_mask'\] has shape \(5, 6\): give \(2, 3\)"):
        envs.as_rows(env, {**obs, "action_mask": np.eye(6)[:5]})


def test_blank_observations_allow_every_action():
    blank = observations.blank(envs.make(MASKED).spec.obs_shape, 2)
    assert_array_equal(blank["action_mask"], np.ones((2, NUM), bool), strict=True)
    assert_array_equal(blank["phase"], np.zeros((2, 3)))
    assert observations.blank((4,), 2).shape == (2, 4)


# --- MultiDiscrete ------------------------------------------------------------------------------


def test_combinations_are_numbered_row_by_row():
    assert envs.make(PAIRS).spec.factors == NVEC
    for nvec in ((2, 3), (5,), (3, 1, 4)):
        env = envs.make(Walk(actions=multi_discrete(nvec)))
        number = np.arange(np.prod(nvec))
        vectors = envs.to_env_action(env, jnp.asarray(number))
        assert_array_equal(vectors, np.stack(np.unravel_index(number, nvec), axis=-1))
        assert vectors.dtype == jnp.int32
        assert envs.to_env_action(env, jnp.asarray(0)).shape == (len(nvec),)


@pytest.mark.parametrize("nvec", [np.array([2, 3]), [2, 3], jnp.array([2, 3])])
def test_anothers_space_with_an_nvec_is_understood(nvec):
    space = multi_discrete(NVEC)
    space.nvec = nvec
    spec = envs.make(Walk(actions=space)).spec
    assert spec == envs.make(Walk(actions=multi_discrete(NVEC))).spec
    assert hash(spec) is not None


def test_pairs_walk_like_their_numbers():
    """The environment of pairs moves as the one whose actions are their numbers."""
    _, steps = trajectory(PAIRS)
    _, numbered = trajectory(MASKED)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (steps, numbered))))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("core", "message"),
    [
        (Walk(space=dict_space({})), r"Walk: observations have the parts \[\]: give each"),
        (
            Walk(space=dict_space({"action_mask": MASK})),
            r"Walk: observations have the parts \['action_mask'\]: .* at least one beside",
        ),
        (
            Walk(space=dict_space({**WITH_MASK, "other": dict_space({"action_mask": MASK})})),
            r"Walk: observations have the parts \['place', 'action_mask', 'action_mask'\]: give",
        ),
        (
            Walk(space=dict_space({"a.b": PLANE, "a": dict_space({"b": PLANE})})),
            r"Walk: observations have the parts \['a.b', 'a.b'\]: give each a name of its own",
        ),
        (
            Walk(space=dict_space(WITH_MASK), actions=spaces.Box(-1, 1, (6,))),
            r"Walk: action_mask has shape \(6,\), and Box actions have none: give",
        ),
        (
            Walk(space=dict_space(WITH_MASK), actions=spaces.Discrete(5)),
            r"Walk: action_mask has shape \(6,\), and there are 5 actions: give one number for",
        ),
        (
            Walk(space=dict_space(WITH_MASK), actions=multi_discrete((2, 2))),
            r"Walk: action_mask has shape \(6,\), and there are 4 actions",
        ),
        (Walk(space=multi_discrete(NVEC)), r"Walk: observations must be a Box or Discrete"),
        (
            Walk(space=dict_space({"place": PLANE, "pair": multi_discrete(NVEC)})),
            r"Walk: observations must be a Box or Discrete, or a Dict.*not MultiDiscrete\(\[2, 3\]",
        ),
        (Walk(actions=dict_space({"a": MASK})), "Walk: actions must be a Box or Discrete"),
        (
            Walk(actions=multi_discrete((256, 257))),
            r"Walk: MultiDiscrete\(\[256, 257\]\) has 65792 combinations: give from 1 to 65536",
        ),
        (Walk(actions=multi_discrete((2**32, 2**32))), r"has 18446744073709551616 combinations"),
        (Walk(actions=multi_discrete((2, 0))), r"MultiDiscrete\(\[2, 0\]\) has 0 combinations"),
        (Walk(actions=multi_discrete(())), r"MultiDiscrete\(\[\]\) has 1 combinations: give"),
    ],
)
def test_spaces_that_no_policy_serves_are_refused(core, message):
    with pytest.raises(ValueError, match=message) as refusal:
        envs.make(core)
    assert "\n" not in str(refusal.value)


def seeing(see):
    return Walk(lambda place, phase, far: see({"place": place, "far": far}), dict_space(INSIDE))


class Changing(Walk):
    """What is seen first is of another type than what is seen then."""

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return {**obs, "phase": obs["phase"], "walker": {**obs["walker"], "far": True}}, state


@pytest.mark.parametrize(
    ("core", "message"),
    [
        (
            seeing(lambda seen: {"place": seen["place"]}),
            "Walk: reset_env: the observation has no 'far', which observation_space names: give",
        ),
        (seeing(lambda seen: seen["place"]), "Walk: reset_env: the observation has no 'far'"),
        (seeing(lambda seen: {**seen, "place": seen["far"]}), "observation 'place'.*float32.*make"),
        (seeing(lambda seen: {**seen, "place": "here"}), "observation 'place'.* is a str"),
        (seeing(lambda seen: {**seen, "far": None}), "observation 'far'.* is a NoneType"),
        (
            Walk(lambda place, *_: {"cell": place[0]}, dict_space({"cell": spaces.Discrete(3)})),
            r"observation 'cell'.* is float32\[\], and the space is Discrete\(3\): give one int32",
        ),
        (
            Walk(
                lambda place, *_: {"place": place, "action_mask": jnp.ones((2, 3))},
                dict_space(WITH_MASK),
            ),
            r"observation 'action_mask'.* is float32\[2, 3\], and observation_space says",
        ),
        (Changing(), r"Walk: observations are .*after reset_env and .*after step_env: give one"),
        (
            seeing(lambda seen: {**seen, "action_mask": jnp.ones(NUM, bool)}),
            "Walk: reset_env: the observation has an 'action_mask', which observation_space does",
        ),
    ],
)
def test_what_is_not_as_the_space_says_is_refused_at_the_door(core, message):
    with pytest.raises(ValueError, match=message) as refusal:
        envs.make(core)
    assert "\n" not in str(refusal.value)


PLACES = np.zeros((3, 2))
GIVEN = {"walker": {"far": np.zeros(3), "place": PLACES}, "phase": np.zeros(3, int)}


def given(far=GIVEN["walker"]["far"], place=PLACES, phase=GIVEN["phase"]):
    return {"walker": {"far": far, "place": place}, "phase": phase}


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (PLACES, "the observation has no 'walker.far'"),
        ({"walker": GIVEN["walker"]}, "the observation has no 'phase'"),
        (given(place=np.zeros((3, 3))), r"obs\['walker.place'\] has shape \(3, 3\): give \(2,\)"),
        (given(place=np.zeros(2)), "parts of obs have different axes in front.*give one obs"),
        (given(far=np.zeros((3, 1))), "parts of obs have different axes in front"),
        (given(phase=np.array([0, 1, 3])), r"obs\['phase'\]=3: give a whole number from 0 to 2"),
        (given(phase=np.zeros(3)), r"obs\['phase'\] is float32\[3\]: give a whole number from 0"),
        (given(place="here"), r"obs\['walker.place'\]='here' is no array: give \(2,\) or a batch"),
        (given(place=np.zeros((3, 2), complex)), r"obs\['walker.place'\] is complex64\[3, 2\]"),
    ],
)
def test_given_observations_of_another_structure_shape_or_type_are_refused(obs, message):
    env = envs.make(FORMS["dict"])
    for read in (envs.as_rows, envs.batch):
        with pytest.raises(ValueError, match=message) as refusal:
            read(env, obs)
        assert "\n" not in str(refusal.value)


def test_a_batch_has_one_axis_in_front():
    env = envs.make(FORMS["dict"])
    for outer in ((), (2, 3)):
        with pytest.raises(ValueError, match=r"give a batch \[N, ...\] of {walker.far: \(\), walk"):
            envs.batch(env, obs_of("dict", *outer)[0])


def test_parts_are_gathered_by_path():
    """Worked by hand: every kind of container, one inside the other."""
    space = dict_space({"a": spaces.Tuple([PLANE, dict_space({"b": MASK})]), "c": MASK})
    assert [part.path for part in structure.parts(space)] == [("a", "0"), ("a", "1", "b"), ("c",)]
    obs = structured.Seen(0, 0)
    found = structure.gather(space, {"a": [1, {"b": 2}], "c": 3}, lambda part, value: value)
    assert found == {"a.0": 1, "a.1.b": 2, "c": 3}
    assert structure.gather(PLANE, obs, lambda part, value: (part.name, value)) == ("", obs)
    with pytest.raises(ValueError, match=r"has no 'a.1.b'"):
        structure.gather(space, {"a": [1], "c": 3}, lambda part, value: value)
