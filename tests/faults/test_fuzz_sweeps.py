"""Damaged sweeps, tables and experiment files: refused in one line, or read rightly."""

import contextlib
import functools
import json
import shutil
import tempfile
import tomllib
from pathlib import Path

import pytest
from fuzz_data import TEXTS, VALUES, damaged_bytes, damaged_json, fuzzed
from fuzz_folders import TOY, Reached, answer_of, copied, damage, digest
from hypothesis import given, note
from hypothesis import strategies as st

from jaxrl_pg import report
from jaxrl_pg.report import sources
from jaxrl_pg.report.sources import as_toml
from jaxrl_pg.running import memory_estimate
from jaxrl_pg.sweeps import experiment, folder, results, sweep

TABLE = {
    "agent": TOY.name,
    "env": "CartPole-v1",
    "seeds": 2,
    "num_evals": 2,
    "num_eval_episodes": 2,
    "total_timesteps": 32,
    "fixed": {"num_steps": 4},
    "grid": {"num_envs": [2, 4], "gamma": [0.5, 1.0]},
}
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Once:
    """Trains the first batch of a sweep, and stops it at the second."""

    def __init__(self, run):
        self.run, self.left = run, 1

    def __call__(self, *args):
        if not self.left:
            raise Reached
        self.left -= 1
        return self.run(*args)


@functools.cache
def sample_sweep():
    """A sweep's folder with a finished batch, one that was begun, and a table."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-")) / "sweep"
    tiny = experiment.parse("tiny", TABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "BatchRun", Once(sweep.BatchRun))
        with pytest.raises(Reached):
            sweep.sweep(tiny, place, quiet=True)
    folder.collect(place, tiny, 1.0)
    return place


@pytest.fixture(scope="module", autouse=True)
def _samples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_estimate, "require", lambda *_: None)
        yield
    if sample_sweep.cache_info().currsize:
        shutil.rmtree(sample_sweep().parent)
    sample_sweep.cache_clear()


def continued(place):
    """Continue the sweep up to where it would train; the ids of the points that it would."""
    asked = []

    def stop(batch, *_):
        asked.extend(point.id for point in batch.points)
        raise Reached

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "BatchRun", stop)
        with pytest.raises(Reached):
            sweep.sweep(experiment.parse("tiny", TABLE), place, quiet=True)
    return asked


@pytest.mark.parametrize("pattern", ["sweep.json", "parts/*.json", "batches/*/batch.json"])
@fuzzed(12)
@given(data=st.data())
def test_json_of_a_sweep(pattern, data):
    (path,) = sample_sweep().glob(pattern)
    content = data.draw(damaged_json(json.loads(path.read_bytes())))
    note(content[:300])
    name = path.relative_to(sample_sweep())
    with copied(sample_sweep()) as root:
        place = root / "sweep"
        (place / name).write_bytes(content)
        tiny = experiment.parse("tiny", TABLE)
        answer_of(lambda: sweep.dry_run(tiny, place), root)
        answer_of(lambda: sources.load([place]), root)
        table = (place / "results.csv").read_bytes()
        parts = digest(place / "parts")
        ids, _ = answer_of(lambda: continued(place), root)
        assert (place / "results.csv").read_bytes() == table
        if ids is not None:
            assert digest(place / "parts") == parts, "a finished batch was changed"
            assert len(set(ids)) == len(ids)


@fuzzed(15)
@given(data=st.data())
def test_files_of_a_sweep(data):
    name, apply = data.draw(damage(sample_sweep()))
    note(name)
    with copied(sample_sweep()) as root:
        apply(root / "sweep")
        outside = digest(root / "outside")
        answer_of(lambda: sources.load([root / "sweep"]), root)
        answer_of(lambda: continued(root / "sweep"), root)
        assert digest(root / "outside") == outside


@st.composite
def damaged_table(draw):
    """The bytes of a results.csv in which a cell, a line or some bytes were changed."""
    lines = [line.split(",") for line in (sample_sweep() / "results.csv").read_text().splitlines()]
    for _ in range(draw(st.integers(0, 2))):
        line = draw(st.sampled_from(lines))
        at = draw(st.integers(0, len(line) - 1))
        match draw(st.sampled_from(["cell", "cell", "id", "drop", "double", "swap"])):
            case "cell":
                line[at] = draw(st.one_of(TEXTS, st.integers().map(str), st.floats().map(str)))
            case "id":
                line[0] = draw(TEXTS)
            case "drop":
                del line[at]
            case "double":
                lines.append(list(line))
            case "swap":
                line[at], line[0] = line[0], line[at]
        lines = [line for line in lines if line] or [[""]]
    text = "\n".join(",".join(line) for line in lines) + "\n"
    return draw(damaged_bytes(text.encode("utf-8", "replace"), at_least=0))


@fuzzed(50)
@given(data=st.data())
def test_results_csv(data):
    content = data.draw(damaged_table())
    note(content[:300])
    with copied(sample_sweep()) as root:
        path = root / "sweep" / "results.csv"
        path.write_bytes(content)
        table, _ = answer_of(lambda: results.read(path), root)
        if table is None:
            return
        assert {len(column) for column in table.columns.values()} == {len(table.sources)}
        answer_of(lambda: results.settings(table), root)
        names = list(table.columns)
        rows = [
            dict(zip(names, row, strict=True)) for row in zip(*table.columns.values(), strict=True)
        ]
        again = results.of_rows(rows, "x")
        assert list(again.columns["seed"]) == list(table.columns["seed"])


@fuzzed(3)
@given(data=st.data())
def test_report(data):
    """It writes nothing but its own folder, whatever the table says."""
    content = data.draw(damaged_table())
    note(content[:300])
    with copied(sample_sweep()) as root:
        place, out = root / "sweep", root / "out"
        (place / "results.csv").write_bytes(content)
        before = digest(root)
        with contextlib.suppress(ValueError, OSError):
            report.write([place], out, jsonl=True)
        after = digest(root)
        assert {k: v for k, v in after.items() if k.split("/")[0] != "out"} == before


@fuzzed(50)
@given(data=st.data())
def test_experiment_files(data):
    """As TOML, so that what is parsed is what a user can write."""
    texts = [path.read_text() for path in sorted(EXPERIMENTS.glob("*.toml"))]
    known = [text for text in texts if len(text) < 1_500 and "brax:" not in text]
    table = data.draw(st.sampled_from([TABLE, *(tomllib.loads(text) for text in known[:4])]))
    try:
        table = json.loads(data.draw(damaged_json(table)))
        content = as_toml(table).encode("utf-8", "surrogatepass")
    except (ValueError, AttributeError, RecursionError):
        content = as_toml(TABLE).encode()
    content = data.draw(damaged_bytes(content, at_least=0))
    note(content[:400])
    with copied(sample_sweep()) as root:
        path = root / "tiny.toml"
        path.write_bytes(content)
        found, _ = answer_of(lambda: experiment.load(path), root, "tiny")
        if found is not None:
            assert len({point.id for point in found.points}) == len(found.points) > 0
            assert experiment.parse("tiny", found.table).points == found.points


@fuzzed(40)
@given(values=VALUES, key=st.sampled_from([*TABLE, "study", "sample", "x"]))
def test_values_of_an_experiment(values, key):
    with tempfile.TemporaryDirectory() as root:
        found, _ = answer_of(
            lambda: experiment.parse("tiny", {**TABLE, key: values}), Path(root), "tiny"
        )
        assert found is None or found.points
