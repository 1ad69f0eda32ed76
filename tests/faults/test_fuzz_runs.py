"""Damaged run folders: refused in one line and left as they are, or read rightly."""

import json

import pytest
from fuzz_data import damaged_json, damaged_lines, fuzzed
from fuzz_folders import (
    CONFIG,
    Gate,
    Reached,
    answer_of,
    bits,
    copied,
    damage,
    digest,
    forget_samples,
    sample_run,
)
from hypothesis import given, note
from hypothesis import strategies as st

import jaxrl_pg
from jaxrl_pg import agents, checkpoint
from jaxrl_pg import config as configs
from jaxrl_pg.report import sources
from jaxrl_pg.running import initial_state, memory_estimate
from jaxrl_pg.running.run_folder import RunFolder, config_of
from jaxrl_pg.training import devices

STEPS = (2, 4, 6)


@pytest.fixture(scope="module", autouse=True)
def _samples():
    yield
    forget_samples()


@pytest.fixture(scope="module", autouse=True)
def _no_estimates():
    """Leave out what takes a third of a second and reads nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_estimate, "require", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def truth():
    """The bits of the state at each step, and the rows."""
    folder, shapes = sample_run(), devices.state_shapes(CONFIG)
    states = {s: checkpoint.restore(folder / "checkpoints", shapes, s).state for s in STEPS}
    return states, RunFolder.open(folder).rows()


def description(agent):
    """The content of config.json of a run of this agent."""
    values = configs.to_dict(agents.AGENTS[agent].Config())
    options = {"quiet": True, "num_evals": 3, "checkpoint_seconds": 5.0, "tensorboard": False}
    return {"agent": agent, "env": values["env"], "seed": 1, "config": values, "options": options}


def reached(run):
    """Resume up to where training begins; the state that it would go on from."""
    restore, states = initial_state.restored, []

    def noted(*given):
        states.append(restore(*given))
        return states[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initial_state, "restored", noted)
        with pytest.raises(Reached):
            jaxrl_pg.resume(run, loggers=[Gate()], quiet=True)
    return states[-1]


@pytest.mark.parametrize("agent", ["ppo", "sac"])
@fuzzed(40)
@given(data=st.data())
def test_config_json(agent, data):
    with copied(sample_run()) as root:
        path = root / "run" / "config.json"
        path.write_bytes(data.draw(damaged_json(description(agent), indent=2)))
        saved, _ = answer_of(lambda: RunFolder.open(root / "run").config, root)
        if saved is None:
            return
        config, _ = answer_of(lambda: config_of(root / "run", saved), root)
        if config is not None:
            assert type(config) is agents.AGENTS[saved["agent"]].Config
            made = configs.to_dict(config)
            assert {name: made[name] for name in saved["config"]} == saved["config"]


@fuzzed(20)
@given(data=st.data())
def test_config_json_of_a_run_with_checkpoints(data):
    """What loads, resumes and reports agrees with it, or says what is wrong."""
    saved = json.loads((sample_run() / "config.json").read_bytes())
    content = data.draw(damaged_json(saved, indent=2))
    note(content[:300])
    with copied(sample_run()) as root:
        (root / "run" / "config.json").write_bytes(content)
        policy, _ = answer_of(lambda: jaxrl_pg.load(root / "run"), root)
        if policy is not None:
            assert policy.step == STEPS[-1]
        answer_of(lambda: sources.load([root / "run"]), root)
        answer_of(lambda: reached(root / "run"), root)


@fuzzed(40)
@given(data=st.data())
def test_metrics_jsonl(data, truth):
    _, rows = truth
    with copied(sample_run()) as root:
        content = data.draw(damaged_lines(rows))
        (root / "run" / "metrics.jsonl").write_bytes(content)
        note(content[:300])
        found, _ = answer_of(RunFolder.open(root / "run").rows, root)
        if found is not None:
            lines = content.split(b"\n")[:-1]
            assert repr(found) == repr([json.loads(line) for line in lines])
            assert all(type(row["iteration"]) is int for row in found), "no iteration"
            assert all(type(row["timesteps"]) is int for row in found), "no timesteps"
        answer_of(lambda: sources.load([root / "run"]), root)


@fuzzed(25)
@given(data=st.data())
def test_load(data, truth):
    states, _ = truth
    name, apply = data.draw(damage(sample_run()))
    note(name)
    with copied(sample_run()) as root:
        apply(root / "run")
        before = digest(root)
        policy, _ = answer_of(lambda: jaxrl_pg.load(root / "run"), root)
        assert digest(root) == before
        if policy is not None:
            assert bits(policy.state.learner) == bits(states[policy.step].learner)


@fuzzed(25)
@given(data=st.data())
def test_resume(data, truth):
    """Up to where training begins: from a state that was saved, with the rows that led to it."""
    states, rows = truth
    name, apply = data.draw(damage(sample_run()))
    note(name)
    with copied(sample_run()) as root:
        run = root / "run"
        apply(run)
        outside = digest(root / "outside")
        foreign = {p: x for p, x in digest(run).items() if "notes.txt" in p}
        restored, _ = answer_of(lambda: reached(run), root)
        assert digest(root / "outside") == outside
        assert foreign.items() <= digest(run).items()
        if restored is None:
            return
        step = restored.step
        assert step in states, "training would begin again, and rows are lost"
        assert bits(restored.state) == bits(states[step])
        assert max(checkpoint.steps(run / "checkpoints")) == step
        if " metrics.jsonl" not in name:  # without its rows a run goes on, and says so
            kept = [row for row in rows if row["iteration"] <= step]
            assert RunFolder.open(run).rows() == kept
