"""An exported policy in NumPy does what the policy does, to six digits, for every network."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks_of_all_kinds import BATCHES, CASES, TINY, filled, observations, require_equal

from corridor import CORRIDOR
from jaxrl_pg import agents, envs
from jaxrl_pg.export import description, folder, numpy_policy
from jaxrl_pg.ops.distributions import CATEGORICAL, DIAGONAL_NORMAL
from jaxrl_pg.running.trained_policy import Policy


class Given:
    """Stands for NumPy's generator, and draws what JAX's key does."""

    def __init__(self, key):
        self.key = key

    def random(self, size, dtype):
        return np.asarray(CATEGORICAL.noise(self.key, (size,), 0))

    def standard_normal(self, size, dtype):
        return np.asarray(DIAGONAL_NORMAL.noise(self.key, size[:1], size[1]))


@dataclasses.dataclass
class Pair:
    """A policy, the same in NumPy, and observations and hidden states to try them with."""

    policy: Policy
    plain: numpy_policy.Policy
    document: dict
    obs: Any
    rest: dict


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    agent, values = CASES[request.param]
    policy = filled(agents.AGENTS[agent].Config(**values))
    document, tensors = folder.described(policy.config, policy.state.learner, 3)
    document = json.loads(json.dumps(document))
    rng = np.random.default_rng(1)
    obs = observations(document["observation"]["parts"], max(BATCHES), rng)
    hidden = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), policy.start(max(BATCHES))
    )
    rest = {"hidden": hidden} if jax.tree.leaves(hidden) else {}
    return Pair(policy, numpy_policy.Policy(document, tensors), document, obs, rest)


def test_actions_are_the_policys(pair):
    expected = pair.policy(pair.obs, **pair.rest)
    for num in BATCHES:
        obs, rest, wanted = jax.tree.map(
            lambda x, num=num: x[:num], (pair.obs, pair.rest, expected)
        )
        require_equal(pair.plain(obs, **rest), wanted)
    alone, rest = jax.tree.map(lambda x: x[2], pair.obs), pair.rest
    rest = jax.tree.map(lambda x: x[2:3], rest)
    found = pair.plain(alone, **rest)
    require_equal(found[0] if rest else found, (expected[0] if rest else expected)[2])


def test_sampled_actions_are_the_policys(pair):
    key = jax.random.key(4)
    expected = pair.policy(pair.obs, key, **pair.rest)
    require_equal(pair.plain(pair.obs, Given(key), **pair.rest), expected)


def test_illegal_actions_are_never_chosen(pair):
    mask = pair.obs.get("action_mask") if isinstance(pair.obs, dict) else None
    if mask is None:
        return
    for rng in (None, *(np.random.default_rng(seed) for seed in range(20))):
        action = pair.plain(pair.obs, rng, **pair.rest)
        action = (action[0] if pair.rest else action).reshape(len(mask), -1)
        where = (np.arange(len(mask)), *action.T)
        assert np.all(mask[where] | ~mask.reshape(len(mask), -1).any(axis=1))


def test_the_tensors_have_plain_names_and_no_other_parts(pair):
    names = set(pair.plain.tensors)
    assert all(x.dtype == np.float32 for x in pair.plain.tensors.values())
    assert not {name for name in names if "value" in name or "critic" in name or "opt" in name}
    seen = set()

    class Read(dict):
        def __getitem__(self, name):
            seen.add(name)
            return super().__getitem__(name)

    plain = numpy_policy.Policy(pair.document, Read(pair.plain.tensors))
    for rng in (None, np.random.default_rng(0)):
        plain(pair.obs, rng, **pair.rest)
    assert seen == names


def test_every_agent_has_a_description():
    for agent in agents.AGENTS.values():
        assert description.why_not(agent.Config()) is None


def test_frames_are_stacked_as_in_training():
    config = agents.AGENTS["sac"].Config(**{**TINY, "env": CORRIDOR, "frame_stack": 2})
    document, _ = folder.described(config, filled(config).state.learner, 0)
    network = {"core": None, "core_size": 0}
    plain = numpy_policy.Policy({**document, "network": network, "distribution": {}}, {})
    env = envs.of(config)
    state, before = None, None
    for step in range(3):
        key = jax.random.key(step)
        if state is None:
            wanted, state = env.core.reset_env(key, env.params)
            frame, inner = env.core.inner.reset_env(key, env.params)
        else:
            action = jnp.array([step % 2, 0])
            wanted, state, *_ = env.core.step_env(key, state, action, env.params)
            frame, inner, *_ = env.core.inner.step_env(key, inner, action, env.params)
        before = plain.stack(jax.tree.map(np.asarray, frame), before)
        for name, x in wanted.items():
            np.testing.assert_array_equal(before[name], np.asarray(x))


def test_an_index_that_does_not_exist_is_refused():
    agent, values = CASES["index"]
    policy = filled(agents.AGENTS[agent].Config(**values))
    plain = numpy_policy.Policy(*folder.described(policy.config, policy.state.learner, 0))
    for wrong in (-1, 5, [0, 7]):
        with pytest.raises(ValueError, match="give whole numbers from 0 to 4"):
            plain(wrong)


def test_an_image_of_bytes_is_one_in_whatever_type_it_is_given():
    agent, values = CASES["strides"]
    policy = filled(agents.AGENTS[agent].Config(**values))
    document, tensors = folder.described(policy.config, policy.state.learner, 0)
    plain = numpy_policy.Policy(document, tensors)
    obs = observations(document["observation"]["parts"], 64, np.random.default_rng(1))
    (part,) = document["observation"]["parts"]
    for same in (obs.astype(int), obs.tolist(), obs.astype(np.float32)):
        rows, outer = plain._rows(same)
        assert (rows[""].dtype, outer) == (np.uint8, (64,))
        np.testing.assert_array_equal(rows[""], obs)
        np.testing.assert_array_equal(plain(same), plain(obs))
    for wrong, said in ((obs + 0.25, ".25"), (obs.astype(int) - 300, "-"), (obs * np.nan, "nan")):
        with pytest.raises(ValueError, match=rf"obs is .*{said}.*gives bytes: give uint8"):
            plain(wrong)
    del part["dtype"]  # nothing is known
    assert plain._rows(obs.astype(int))[0][""].dtype == int


@pytest.mark.parametrize("name", ["tanh", "minatar", "gru", "deterministic"])
def test_a_policy_in_bfloat16_is_written_out_in_float32(name):
    """The same parameters, more exactly: it does what a float32 policy of them does."""
    agent, values = CASES[name]
    narrow, wide = (
        filled(agents.AGENTS[agent].Config(**values, dtype=dtype))
        for dtype in ("bfloat16", "float32")
    )
    document, tensors = folder.described(narrow.config, narrow.state.learner, 3)
    assert document["config"]["dtype"] == "bfloat16"
    rng, num = np.random.default_rng(1), max(BATCHES)
    obs = observations(document["observation"]["parts"], num, rng)
    rest = {"hidden": np.zeros((num, 5), np.float32)} if name == "gru" else {}
    plain = numpy_policy.Policy(document, tensors)(obs, **rest)
    require_equal(plain, wide(obs, **rest))
    action, expected = (x[0] if rest else x for x in (narrow(obs, **rest), plain))
    if expected.dtype == np.float32:
        assert 0 < np.max(np.abs(action - expected)) < 0.02  # of a box from -1 to 1
    else:
        assert np.mean(action == expected) > 0.9
