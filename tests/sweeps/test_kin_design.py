"""The tunings of the update's kin are those of their design, and its choice is the best score."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxrl_pg import agents
from jaxrl_pg.sweeps import results

FOLDER = Path(__file__).parents[2] / "experiments" / "kin"


@pytest.fixture(scope="module")
def design():
    before = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(FOLDER))
    import design

    yield design
    sys.path[:] = before[1]
    for name in {"design", "choose"} - before[0]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["kin", "kin_brax", "kin_replay"])
def test_a_tuning_is_what_its_tables_give(design, name, monkeypatch):
    found = {}
    monkeypatch.setattr(design.files, "write_atomic", lambda path, text: found.update({path: text}))
    design.write_tuning(name)
    ((path, text),) = found.items()
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["kin", "kin_replay"])
def test_a_study_has_what_its_recorded_tuning_chose(design, name, monkeypatch):
    found = {}
    monkeypatch.setattr(design.files, "write_atomic", lambda path, text: found.update({path: text}))
    tuning = results.read(FOLDER.parent / "results" / f"{name}_tuning.csv.gz")
    design.write_study(name, design.best(results.settings(tuning)))
    ((path, text),) = found.items()
    assert path.read_text() == text


def test_all_methods_of_a_study_have_as_many_settings_and_fields_that_they_know(design):
    for tasks, methods in design.STUDIES.values():
        assert len({len(method.values) for method in methods.values()}) == 1
        for method in methods.values():
            for task in tasks:
                config = agents.AGENTS[method.agent].Config(**design.shared(task, method))
                assert config.replace(**{method.knob: method.values[0]})
                for field, value in task.fields.items():
                    assert getattr(config, field) == value
    method, (task, *_) = design.METHODS["analytical"], design.TASKS
    for change in design.ABLATIONS.values():
        agents.AGENTS["analytical"].Config(**design.shared(task, method), **change)
    assert not set(design.SEEDS) & set(design.TUNING_SEEDS)


def test_the_best_setting_has_the_highest_mean_over_all_evaluations_and_no_lost_seed(design):
    def setting(rate, *returns, lost=False):
        seeds = np.arange(len(returns))
        diverged = np.full(len(returns), lost)
        hyper = {"learning_rate": rate}
        times = np.array([10, 20])
        return results.Setting(
            "awr", "analytical", "CartPole-v1", hyper, "", seeds, times, np.array(returns), diverged
        )

    late, early = setting(1.0, [0.0, 9.0], [0.0, 9.0]), setting(2.0, [8.0, 8.0], [7.0, 8.0])
    broken = setting(3.0, [99.0, 99.0], [99.0, np.nan], lost=True)
    chosen = design.best([late, early, broken])
    assert chosen["awr", "CartPole-v1"].hyper["learning_rate"] == 2.0
