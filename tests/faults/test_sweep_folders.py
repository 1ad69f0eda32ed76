"""A sweep's folder may hold anything: what is wrong is said in one line, and nothing is changed."""

import json
import os
import shutil

import pytest
from sweep_folders import TABLE, finished, part_of, rows_of, snapshot, tiny

from jaxrl_pg import report
from jaxrl_pg.sweeps import batch, folder, formats, parts, results, sweep

QUIET = sweep.SweepOptions(quiet=True)
DEEP = '{"name": ' * 100_000


@pytest.fixture
def place(tmp_path):
    return finished(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def _no_training(monkeypatch):
    monkeypatch.setattr(sweep, "BatchRun", None)


def refused(place, *words, experiment=None):
    """Every way into the folder refuses it in one line that has the words, and changes nothing."""
    before = snapshot(place)
    for enter in (sweep.sweep, sweep.dry_run):
        with pytest.raises(ValueError) as raised:
            enter(experiment or tiny(), place, QUIET)
        message = str(raised.value)
        assert "\n" not in message
        for word in words:
            assert word in message, message
    assert snapshot(place) == before


def first_part(place):
    return sorted((place / "parts").glob("*.json"))[0]


def edited(path, change):
    """Write a JSON file again after a change of what it holds."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


# --- the wrong shape ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "place_in_it"),
    [
        ("5", "expected object"),
        ("null", "expected object"),
        ('[{"name": "tiny"}]', "expected object"),
        ('{"name": 7}', "name"),
        ('{"num_evals": "2"}', "num_evals"),
        ('{"num_evals": 0}', "num_evals"),
        ('{"num_eval_episodes": true}', "num_eval_episodes"),
        ('{"seconds": "long"}', "seconds"),
        ('{"seconds": -1}', "seconds"),
        ('{"seconds": NaN}', "not JSON"),
        ('{"versions": {"jax": 1}}', "versions"),
        ('{"experiment": []}', "experiment"),
        ('{"name": "a", "name": "b"}', "twice"),
        ("{", "not JSON"),
        ("", "not JSON"),
        (DEEP, "nested too deeply"),
        ('{"experiment": {"a": ' + '{"a": ' * 20 + "1" + "}" * 22, "experiment"),
    ],
)
def test_a_sweep_json_of_the_wrong_shape(place, content, place_in_it):
    (place / "sweep.json").write_text(content)
    refused(place, f"{place}/sweep.json", place_in_it, "restore the file")
    with pytest.raises(ValueError, match=r"sweep\.json"):
        report.write([place])
    assert not (place / "report").exists()


def lacking(name):
    return lambda part: part["rows"][1].pop(name) and None


def having(name, value):
    return lambda part: part["rows"][1].update({name: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda part: {"group": "g"}, "steps_per_second"),
        (lambda part: part.update(rows=5), "rows"),
        (lambda part: part.update(rows=[1]), "rows[0]"),
        (lambda part: part.update(rows={}), "rows"),
        (lambda part: part.update(group=None), "group"),
        (lambda part: part.update(steps_per_second="fast"), "steps_per_second"),
        (lambda part: part.update(num_rows=-6), "num_rows"),
        (lacking("id"), "id"),
        (lacking("timesteps"), "timesteps"),
        (lacking("status"), "status"),
        (lacking("return_mean"), "return_mean"),
        (having("id", 12), "id"),
        (having("seed", "0"), "seed"),
        (having("timesteps", 1.5), "timesteps"),
        (having("return_mean", "high"), "return_mean"),
        (having("status", "fine"), "fine"),
    ],
)
def test_a_part_of_the_wrong_shape(place, change, words):
    edited(first_part(place), change)
    refused(place, str(first_part(place)), words, "delete the file, and its runs are trained again")


@pytest.mark.parametrize("content", ["{}", "5", "[]", "null", "", "\x00", DEEP, "\udc80"])
def test_a_part_that_is_none(place, content):
    first_part(place).write_bytes(content.encode("utf-8", "surrogateescape"))
    refused(place, str(first_part(place)), "delete the file")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "group"),
        ("7", "expected object"),
        ('{"group": "g", "points": "abc"}', "points"),
        ('{"group": "g", "points": [3]}', "points"),
        ('{"group": "g", "points": ["unknown"]}', "names other runs"),
        (DEEP, "nested too deeply"),
    ],
)
def test_a_batch_json_of_the_wrong_shape(place, content, words):
    begun = place / "batches" / "0123456789ab"
    begun.mkdir(parents=True)
    (begun / "batch.json").write_text(content)
    refused(place, str(begun / "batch.json"), words, f"delete {begun}")
    shutil.rmtree(begun)
    sweep.sweep(tiny(), place, QUIET)


# --- a part is believed for what is in it ---------------------------------------------------------


def dropped(part, *numbers):
    part["rows"] = [row for i, row in enumerate(part["rows"]) if i not in numbers]


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize(
    "numbers",
    [(5,), (0,), (3, 4, 5), (1, 4), (0, 3), range(6)],
    ids=["last row", "first row", "last evaluation", "a run", "the first run", "all"],
)
def test_missing_rows_are_noticed_with_and_without_a_count(tmp_path, counted, numbers):
    place = finished(tmp_path / "tiny", counted=counted)
    edited(first_part(place), lambda part: dropped(part, *numbers))
    refused(place, str(first_part(place)), "delete the file, and its runs are trained again")


def test_76_of_79_rows_of_runs_that_the_experiment_no_longer_has_are_noticed(place):
    smaller = tiny(grid={"learning_rate": [1e-2]})  # of one half nothing is known but its count
    unknown = next(
        path
        for path in (place / "parts").iterdir()
        if json.loads(path.read_text())["rows"][0]["learning_rate"] == 1e-3
    )
    edited(unknown, lambda part: dropped(part, 4, 5))
    refused(place, str(unknown), "has 4 of 6 rows", experiment=smaller)


def test_a_row_too_many_is_noticed(place):
    edited(first_part(place), lambda part: part["rows"].append(part["rows"][-1]))
    refused(place, str(first_part(place)), "7 of 6 rows")


def test_a_copied_part_and_a_renamed_one_are_noticed(place):
    one, other = sorted((place / "parts").glob("*.json"))
    shutil.copy(one, place / "parts" / "ffffffffffff.json")
    refused(place, "ffffffffffff.json", "it was renamed, or rows are missing")
    (place / "parts" / "ffffffffffff.json").unlink()
    swapped = one.read_text(), other.read_text()
    other.write_text(swapped[0])
    one.write_text(swapped[1])
    refused(place, str(one), "it was renamed")


def test_a_run_that_two_parts_have_is_noticed(place):
    points = tiny().points[1:3]
    name, part = part_of(points)
    (place / "parts" / f"{name}.json").write_text(json.dumps(part))
    refused(place, "which another part has too")


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", 0.5), ("seed", 9), ("env", "Acrobot-v1"), ("hidden_sizes", "64x64")],
)
def test_rows_of_another_setting_are_not_believed(place, name, value):
    def foreign(part):
        for row in part["rows"][::3]:
            row[name] = value

    edited(first_part(place), foreign)
    refused(place, str(first_part(place)), name, repr(value))


def test_parts_copied_from_a_sweep_of_more_episodes_are_not_believed(place):
    more = finished(place.parent / "more", tiny(num_eval_episodes=64))
    assert first_part(place).name == first_part(more).name  # ids are of the runs alone
    shutil.copytree(place / "parts", more / "parts", dirs_exist_ok=True)
    words = "num_episodes=4", "which has 64", "delete the file, and its runs are trained again"
    refused(more, f"{more}/parts", *words, experiment=tiny(num_eval_episodes=64))


def test_rows_at_other_steps_are_not_believed(place):
    edited(first_part(place), having("timesteps", 200))
    refused(place, str(first_part(place)), "2 of the 2 rows", "or others")


def test_a_run_that_diverged_may_end_early(tmp_path):
    def diverged(part):
        lost = part["rows"][0]
        lost.update(status="diverged", return_mean=None, num_episodes=None)
        part["rows"] = [row for row in part["rows"] if row is lost or row["id"] != lost["id"]]
        part.update(num_rows=5)

    place = finished(tmp_path / "tiny")
    edited(first_part(place), diverged)
    sweep.sweep(tiny(), place, QUIET)
    statuses = results.read(place / "results.csv").columns["status"]
    assert sorted(statuses) == ["diverged", *["ok"] * 10]


def test_parts_of_an_earlier_version_are_read_and_give_the_same_table(tmp_path):
    new, old = finished(tmp_path / "new"), finished(tmp_path / "old", counted=False)
    assert (new / "results.csv").read_bytes() == (old / "results.csv").read_bytes()
    sweep.sweep(tiny(), old, QUIET)
    assert (new / "results.csv").read_bytes() == (old / "results.csv").read_bytes()


def test_runs_that_are_not_in_the_experiment_are_left_out_with_a_word(place, capsys):
    smaller = tiny(grid={"learning_rate": [1e-2]})
    sweep.sweep(smaller, place, sweep.SweepOptions())
    assert "has 3 finished runs that are not in the experiment" in capsys.readouterr().err
    assert len(results.read(place / "results.csv").sources) == 6


def test_what_a_batch_writes_is_what_is_read(tmp_path):
    points = tiny().points
    name, part = part_of(points)
    path = tmp_path / "parts" / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(part))
    ((found, content),) = parts.parts(tmp_path)
    assert found == path
    assert content == formats.read_part(path) == part
    assert parts.finished_rows(tmp_path, tiny()).keys() == {point.id for point in points}
    assert rows_of(points)[0].keys() >= set(formats.Measured.__annotations__)


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sweep.json", "parts", "batches", "results.csv", "lock"])
def test_no_link_in_the_folder_is_followed(place, tmp_path, name):
    outside = tmp_path / "outside"
    path = place / name
    if path.is_dir():
        path.rename(outside)
    elif path.exists():
        path.replace(outside)
    else:
        outside.mkdir()
        (outside / "0123456789ab").mkdir()
        (outside / "0123456789ab" / "batch.json").write_text('{"group": "g", "points": []}')
    path.symlink_to(outside)
    content = snapshot(outside) if outside.is_dir() else outside.read_bytes()
    with pytest.raises(ValueError, match="is a link to"):
        sweep.sweep(tiny(), place, QUIET)
    assert path.is_symlink()
    assert (snapshot(outside) if outside.is_dir() else outside.read_bytes()) == content


def test_a_linked_part_and_a_linked_batch_are_not_followed(place, tmp_path):
    part = first_part(place)
    part.replace(tmp_path / "part.json")
    part.symlink_to(tmp_path / "part.json")
    refused(place, str(part), "is a link to")
    part.unlink()
    (tmp_path / "part.json").replace(part)
    (place / "batches").mkdir(exist_ok=True)
    point = tiny(seeds=4).points[3]
    name = batch.batch_id([point.id])
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "batch.json").write_text(json.dumps({"group": "g", "points": [point.id]}))
    (place / "batches" / name).symlink_to(tmp_path / "away")
    with pytest.raises(ValueError, match="is a link to"):
        folder.begun(place, "g")
    assert os.listdir(tmp_path / "away") == ["batch.json"]


def test_a_name_that_is_a_path_names_no_folder():
    for name in ("../up", "a/b", "", "..", "a\rb"):
        with pytest.raises(ValueError, match="the experiment's name"):
            folder.folder_of(tiny()._replace(name=name), None)
    assert folder.folder_of(tiny(), None).name == "tiny"
    assert TABLE["env"] in {point.config.env for point in tiny().points}
