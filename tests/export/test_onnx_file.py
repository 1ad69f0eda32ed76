"""An exported policy as ONNX, in its own runtime, does what it does in NumPy."""

import json

import numpy as np
import pytest
from networks_of_all_kinds import BATCHES, CASES, TINY, filled, observations

from jaxrl_pg import agents, ppo
from jaxrl_pg.export import folder, numpy_policy, onnx_file

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", CASES)
def test_the_runtime_does_the_same(name):
    agent, values = CASES[name]
    policy = filled(agents.AGENTS[agent].Config(**values))
    document, tensors = folder.described(policy.config, policy.state.learner, 3)
    plain = numpy_policy.Policy(document, tensors)
    session = onnxruntime.InferenceSession(onnx_file.serialized(document, tensors))
    parts, core = document["observation"]["parts"], document["network"]["core"]
    for num in BATCHES:
        rng = np.random.default_rng(num)
        obs = observations(parts, num, rng)
        arrays = obs if isinstance(obs, dict) else {"obs": obs}
        feed = {x: v.astype(np.int32) if v.dtype == np.int64 else v for x, v in arrays.items()}
        expected = [plain(obs)] if core is None else []
        if core is not None:
            names = {"gru": ["hidden"], "lstm": ["hidden_c", "hidden_h"]}[core]
            hidden = [rng.normal(size=(num, 5)).astype(np.float32) for _ in names]
            feed |= dict(zip(names, hidden, strict=True))
            action, after = plain(obs, hidden=tuple(hidden) if core == "lstm" else hidden[0])
            expected = [action, *(after if core == "lstm" else (after,))]
        found = session.run(None, feed)
        assert len(found) == len(expected)
        for x, y in zip(found, expected, strict=True):
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            np.testing.assert_allclose(x, y, rtol=0, atol=0 if y.dtype == np.int32 else 2e-6)


def test_a_model_says_where_it_is_from_and_keeps_the_names(tmp_path):
    import onnx

    policy = filled(ppo.Config(**TINY, env="CartPole-v1"))
    out = policy.export(tmp_path / "exported", onnx=True)
    assert "policy.onnx" in out.files
    model = onnx.load(out.path / "policy.onnx")
    notes = {note.key: note.value for note in model.metadata_props}
    assert notes == {"agent": "ppo", "env": "CartPole-v1", "format": "jaxrl_pg.policy"}
    names = {x.name for x in model.graph.initializer}
    assert {"torso/dense_0/kernel", "torso/dense_1/bias", "head/kernel"} <= names
    assert json.loads((out.path / "policy.json").read_text())["left_out"] == {}
