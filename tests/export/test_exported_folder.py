"""An exported folder: whole or not there, read by processes that have no JAX, and by plain JAX."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from networks_of_all_kinds import BATCHES, TINY, filled, observations, require_equal
from safetensors import safe_open

from jaxrl_pg import analytical, files, ppo, sac
from jaxrl_pg.cli import main
from jaxrl_pg.components import on_policy, written
from jaxrl_pg.components.on_policy import OnPolicyConfig
from jaxrl_pg.export import bundle, folder, numpy_policy, stablehlo
from jaxrl_pg.types import Agent
from structured import PAIRS

CONFIGS = {
    "box": ppo.Config(**TINY, env="Pendulum-v1", normalize_obs=True),
    "memory": analytical.Config(**TINY, env=PAIRS, core="lstm", core_size=5, normalize_obs=True),
    "wide": ppo.Config(**TINY | {"conv_features": 0}, env="Breakout-MinAtar"),
    "squashed": sac.Config(**TINY, env="Pendulum-v1", frame_stack=2),
}
# Neither JAX nor the package can be imported, and nothing but NumPy is.
SCRIPT = """
import pickle, sys
for name in ("jax", "jaxlib", "flax", "jaxrl_pg"):
    sys.modules[name] = None
before, asked = set(sys.modules), pickle.load(sys.stdin.buffer)
answers = {}
for place, calls in asked.items():
    sys.path.insert(0, place)
    from policy import load
    policy = load()
    answers[place] = [policy(obs, **rest) for obs, rest in calls]
    assert policy.description["format"] == "jaxrl_pg.policy"
    sys.path.remove(place)
    del sys.modules["policy"]
try:
    import jax
except ImportError:
    ours = {name.split(".")[0] for name in set(sys.modules) - before}
    others = ours - set(sys.stdlib_module_names) - {"numpy"}
    assert not {name for name in others if not name.startswith("_")}, others
    pickle.dump(answers, sys.stdout.buffer)
"""


class Own(nn.Module):
    """A network that no description knows."""

    spec: object

    def setup(self):
        self.head, self.critic = nn.Dense(self.spec.num_actions), nn.Dense(1)

    def policy(self, obs):
        return self.head(jnp.sin(obs))

    def value(self, obs):
        return self.critic(obs)[:, 0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each policy, what was written, and what it is asked at each batch size."""
    root, made = tmp_path_factory.mktemp("exported"), {}
    for name, config in CONFIGS.items():
        policy = filled(config)
        out = policy.export(root / name)
        parts = json.loads((out.path / "policy.json").read_text())["observation"]["parts"]
        calls = []
        for num in BATCHES:
            rng = np.random.default_rng(num)
            hidden = jax.tree.map(
                lambda x, rng=rng: rng.normal(size=x.shape).astype(np.float32), policy.start(num)
            )
            rest = {"hidden": hidden} if jax.tree.leaves(hidden) else {}
            calls.append((observations(parts, num, rng), rest))
        made[name] = policy, out, calls
    return made


@pytest.fixture(scope="module")
def expected(exported):
    """What the policies themselves answer."""
    return {
        name: [policy(obs, **rest) for obs, rest in calls]
        for name, (policy, _, calls) in exported.items()
    }


def test_a_process_without_jax_does_the_same(exported, expected, tmp_path):
    import pickle

    asked = {str(out.path): calls for _, out, calls in exported.values()}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=pickle.dumps(asked),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers = pickle.loads(done.stdout)
    for name, (_, out, _) in exported.items():
        for found, wanted in zip(answers[str(out.path)], expected[name], strict=True):
            require_equal(found, wanted)


@pytest.mark.parametrize("name", CONFIGS)
def test_jax_reads_its_own_file_for_any_batch(exported, expected, name):
    policy, out, calls = exported[name]
    act, sample = (
        jax.export.deserialize(bytearray((out.path / f"{file}.jaxexport").read_bytes()))
        for file in ("act", "sample")
    )
    assert act.platforms == sample.platforms == stablehlo.PLATFORMS
    for (obs, rest), wanted in zip(calls, expected[name], strict=True):
        found = act.call(jax.tree.map(jnp.asarray, obs), *rest.values())
        require_equal(jax.tree.map(np.asarray, found), wanted)
    obs, rest = calls[1]
    key = jax.random.key(3)
    found = sample.call(jax.tree.map(jnp.asarray, obs), key, *rest.values())
    require_equal(jax.tree.map(np.asarray, found), policy(obs, key, **rest))


def test_jax_computes_a_policy_of_bfloat16_in_bfloat16(tmp_path):
    policy = filled(CONFIGS["box"].replace(dtype="bfloat16"))
    out = policy.export(tmp_path / "exported")
    act = jax.export.deserialize(bytearray((out.path / "act.jaxexport").read_bytes()))
    assert "xbf16>" in act.mlir_module()
    parts = json.loads((out.path / "policy.json").read_text())["observation"]["parts"]
    obs = observations(parts, 7, np.random.default_rng(0))
    # Programs that sum in another order may round a number of 8 bits the other way.
    np.testing.assert_allclose(act.call(jnp.asarray(obs)), policy(obs), rtol=0, atol=0.05)


def test_the_arrays_are_a_safetensors_file(exported):
    _, out, _ = exported["box"]
    plain = numpy_policy.load(out.path)
    with safe_open(out.path / "policy.safetensors", "numpy") as file:
        assert set(file.keys()) == {
            *(f"torso/dense_{i}/{part}" for i in (0, 1) for part in ("kernel", "bias")),
            *("head/kernel", "head/bias", "log_std", "normalizer/mean", "normalizer/std"),
        }
        for name in file.keys():  # noqa: SIM118
            np.testing.assert_array_equal(file.get_tensor(name), plain.tensors[name])


def test_the_description_says_what_the_policy_is(exported):
    _, out, _ = exported["memory"]
    said = json.loads((out.path / "policy.json").read_text())
    assert (said["agent"], said["iteration"], said["env"]["name"]) == (
        "analytical",
        3,
        "structured:Walk",
    )
    assert said["action"] == {"kind": "multi_discrete", "nvec": [2, 3]}
    assert said["network"]["core"] == "lstm"
    assert [part["name"] for part in said["observation"]["parts"] if part["kind"] == "mask"]
    assert set(out.files) == {path.name for path in out.path.iterdir()}
    assert not out.left_out


def test_what_is_ones_own_is_in_stablehlo_alone(tmp_path):
    config = ppo.Config(env="CartPole-v1", network=Own)
    policy = filled(config)
    out = policy.export(tmp_path / "own")
    assert set(out.files) == {"policy.json", "act.jaxexport", "sample.jaxexport"}
    assert out.left_out["policy.py"].startswith("network=test_exported_folder:Own is your own")
    obs = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    act = jax.export.deserialize(bytearray((out.path / "act.jaxexport").read_bytes()))
    np.testing.assert_array_equal(act.call(obs), policy(obs))
    with pytest.raises(ValueError, match="onnx=True: network=test_exported_folder:Own is your own"):
        policy.export(tmp_path / "onnx", onnx=True)
    core = ppo.Config(env="CartPole-v1", core=nn.SimpleCell)
    document, tensors = folder.described(core, filled(core).state.learner, 0)
    assert "SimpleCell is your own" in document["left_out"]["policy.py"]
    assert not tensors
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_an_agent_of_ones_own_is_written_out_if_it_says_how():
    class Config(OnPolicyConfig):
        pass

    own = ("own", Config, on_policy.init, None, on_policy.act, on_policy.value)
    try:
        Agent(*own)
        learner = filled(Config(**TINY)).state.learner
        said, _ = folder.described(Config(**TINY), learner, 0)
        assert "agent 'own' does not say what acting reads" in said["left_out"]["policy.py"]
        Agent(*own, written=written.policy_and_value)
        said, tensors = folder.described(Config(**TINY), learner, 0)
        assert not said["left_out"]
        assert tensors["head/kernel"].shape == (6, 2)
    finally:
        Config.agent = None


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    done = []

    def write(path, content):
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        done.append(path.name)
        path.write_bytes(content)

    monkeypatch.setattr(files.folders, "write_atomic", write)
    with pytest.raises(OSError, match="No space left"):
        files.write_folder(tmp_path / "whole", {"a": b"1", "b": b"2", "c": b"3"})
    assert done == ["a", "b"]
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    files.write_folder(tmp_path / "deep" / "whole", {"a": b"1", "b": "2"})
    assert {path.name for path in (tmp_path / "deep" / "whole").iterdir()} == {"a", "b"}
    with pytest.raises(ValueError, match="whole exists: choose another path"):
        files.write_folder(tmp_path / "deep" / "whole", {"a": b"1"})


def test_what_a_kill_left_is_removed_by_a_later_export(tmp_path):
    old, new, other = (tmp_path / files.writing.temporary_name() for _ in range(3))
    for place in (old, new):
        place.mkdir()
        (place / "policy.json").write_text("{")
    other.symlink_to(new)
    os.utime(old, (0, 0))
    files.write_folder(tmp_path / "whole", {"a": b"1"})
    assert {path.name for path in tmp_path.iterdir()} == {"whole", new.name, other.name}


def test_what_does_not_belong_together_is_refused(exported, tmp_path):
    for name in ("policy.json", "policy.safetensors"):
        source = exported["squashed" if name == "policy.json" else "box"][1].path
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(ValueError, match="safetensors is damaged or of another export"):
        numpy_policy.load(tmp_path)
    said = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**said, "version": 2}))
    with pytest.raises(ValueError, match="version 2 and this reads"):
        numpy_policy.load(tmp_path)
    (tmp_path / "policy.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no policy\.safetensors"):
        numpy_policy.load(tmp_path)


def test_wrong_shapes_are_refused_in_one_line(exported):
    box, memory = (numpy_policy.load(exported[name][1].path) for name in ("box", "memory"))
    with pytest.raises(ValueError, match=r"obs has shape \(4,\): give \(3,\) or a batch of them"):
        box(np.zeros(4))
    with pytest.raises(ValueError, match="no core: leave hidden out"):
        box(np.zeros(3), hidden=np.zeros((1, 5)))
    obs, _ = exported["memory"][2][1]
    with pytest.raises(ValueError, match=r"give hidden=policy\.start\(7\)"):
        memory(obs)
    with pytest.raises(ValueError, match=r"the observation has no 'walker\.far'"):
        memory({"walker": {"place": np.zeros(2)}, "phase": 0})


def test_the_loader_is_one_readable_file():
    source = bundle.bundled()
    assert "jaxrl_pg.export" not in source
    assert source.startswith('"""A trained policy that acts with NumPy alone')
    assert source.count("from __future__") == source.count("__all__") == 1
    for module in ("numpy_policy", "numpy_network"):
        text = Path(numpy_policy.__file__).with_name(f"{module}.py").read_text()
        assert text[text.index("\nclass ") :].strip() in source


def test_the_command_line_exports(tmp_path, capsys):
    policy = filled(CONFIGS["box"])
    policy.save(tmp_path / "saved")
    assert main(["export", str(tmp_path / "saved"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"iteration 3 is in {tmp_path / 'out'}\n  policy.json ")
    assert numpy_policy.load(tmp_path / "out").description["iteration"] == 3
    assert main(["export", str(tmp_path / "saved"), "--out", str(tmp_path / "out")]) == 2
    assert "out exists: choose another path" in capsys.readouterr().err


def test_the_command_line_exports_a_policy_of_the_zoo_here(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "zoo:CartPole-v1/ppo"]) == 0
    assert " is in CartPole-v1-ppo\n" in capsys.readouterr().out
    assert numpy_policy.load("CartPole-v1-ppo").description["env"]["name"] == "CartPole-v1"
    assert main(["export", "zoo:CartPole-v1/ppo"]) == 2
    assert "CartPole-v1-ppo exists: choose another path" in capsys.readouterr().err
