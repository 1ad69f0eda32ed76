"""Run folders that were damaged, edited, moved or sent: one line, and nothing is changed."""

import errno
import json
import os
import shutil

import pytest

import jaxrl_pg
from jaxrl_pg import checkpoint, files, ppo
from jaxrl_pg.running import loop
from jaxrl_pg.running.run_folder import RunFolder

CONFIG = ppo.Config(
    num_envs=4, num_steps=4, num_epochs=1, num_minibatches=2, hidden_sizes=(4,), total_timesteps=96
)
OPTIONS = loop.Options(quiet=True, num_evals=2, num_eval_episodes=2)


def rows(*iterations):
    return [{"iteration": number, "timesteps": 16 * number, "x": 0.5} for number in iterations]


@pytest.fixture
def run(tmp_path):
    """A run as it is before its first save is finished: two rows, and no checkpoint."""
    description = loop._describe(CONFIG, 5, OPTIONS)
    folder = RunFolder.create(tmp_path / "demo", {**description, "run": "0123"})
    checkpoint.prepare(folder.checkpoints_dir)
    with folder:
        folder.append(rows(1, 2))
    return folder


def snapshot(folder):
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def refused(run, message, error=ValueError):
    """Resuming is refused in one line, and changes nothing."""
    before = snapshot(run.path)
    with pytest.raises(error, match=message) as caught:
        jaxrl_pg.resume(run.path)
    assert str(caught.value).isprintable()
    assert snapshot(run.path) == before
    files.lock(run.path).release()  # it is free


# --- rows without checkpoints ---------------------------------------------------------------------


def remove(run):
    shutil.rmtree(run.checkpoints_dir)


def empty(run):
    for path in run.checkpoints_dir.iterdir():
        path.unlink()


def only_leftovers(run):
    empty(run)
    (run.checkpoints_dir / "2.orbax-checkpoint-tmp").mkdir()


def only_what_was_set_aside(run):
    empty(run)
    (run.checkpoints_dir / "2.damaged").mkdir()


@pytest.mark.parametrize("change", [remove, empty, only_leftovers, only_what_was_set_aside])
def test_rows_whose_checkpoints_are_gone_are_not_dropped(run, change):
    change(run)
    refused(run, "no checkpoint in .*rows up to iteration 2: put the checkpoints back, or train")


def test_a_checkpoints_folder_that_leads_nowhere_is_named(run):
    shutil.rmtree(run.checkpoints_dir)
    run.checkpoints_dir.symlink_to(run.path / "nowhere")
    refused(run, "checkpoints is a link to .*nowhere")


def test_a_file_in_place_of_the_checkpoints_is_named(run):
    shutil.rmtree(run.checkpoints_dir)
    run.checkpoints_dir.write_text("mine")
    refused(run, "checkpoints is no folder: move it away")


def test_a_folder_of_checkpoints_knows_whether_a_save_was_ever_finished(tmp_path):
    with checkpoint.Checkpoints(tmp_path) as saves:
        assert checkpoint.never_saved(tmp_path)
        saves.save(1, (), {})
        saves.wait()
        assert not checkpoint.never_saved(tmp_path)
    shutil.rmtree(tmp_path / "1")
    assert not checkpoint.never_saved(tmp_path)


# --- metrics.jsonl --------------------------------------------------------------------------------

LINES = ['{"iteration": 1, "timesteps": 16}', '{"iteration": 2, "timesteps": 32}']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\r".join([*LINES, ""]), "line 1 is neither a row nor the beginning of one"),
        ("\r".join(LINES), "line 1 is not JSON"),
        (" ".join(LINES), "line 1 is not JSON"),
        (" ".join(LINES)[:-3], "line 1 is neither a row"),
        ("\u2028".join([*LINES, ""]), "line 1 is neither a row"),
        ("\n".join([*LINES, "my notes"]), "line 3 is neither a row"),
        ("\n".join([*LINES, "\0" * 50]), "line 3 is neither a row"),
        ("\n".join([*LINES, '{"x": "' + "y" * (1 << 20)]), "line 3 is neither a row"),
        ("[" + ",".join(LINES) + "]", "line 1 is neither a row"),
        ("[" + ",".join(LINES) + "]\n", "line 1: expected object, got array"),
        ("5\n", "line 1: expected object, got int"),
        (LINES[0] + "\n\n" + LINES[1] + "\n", "line 2 is not JSON"),
        (LINES[0] + "\n" + '{"timesteps": 32}\n', "line 2: object missing required field iter"),
        ('{"iteration": 1}\n', "line 1: object missing required field timesteps"),
        ('{"iteration": null, "timesteps": 16}\n', r"line 1, \$\.iteration: expected int"),
        ('{"iteration": -1, "timesteps": 16}\n', r"line 1, \$\.iteration: expected int >= 0"),
        ('{"iteration": 1, "timesteps": "16"}\n', "line 1, .*expected"),
        ('{"iteration": 1, "timesteps": 16, "x": NaN}\n', "line 1 is not JSON .NaN"),
        ('{"iteration": 1, "timesteps": 16, "x": "a"}\n', "line 1, .*expected"),
        ('{"iteration": 1, "timesteps": 16, "x": {"y": 1}}\n', "line 1, .*expected"),
        ("\n".join([*LINES[::-1], ""]), "line 2: iteration 1 comes after iteration 2"),
        ("\n".join([*LINES, LINES[1], ""]), "line 3: iteration 2 comes after iteration 2"),
        ('{"iteration": ' + "[" * 100_000 + "\n", "line 1 is nested too deeply"),
        ('{"iteration": ' + "1" * 9_000 + "}\n", "line 1 is not JSON"),
    ],
)
def test_a_mangled_file_of_rows_is_never_cut(run, content, message):
    (run.path / "metrics.jsonl").write_text(content, newline="")
    refused(run, rf"metrics\.jsonl {message}.*: delete that line, or restore the file")


@pytest.mark.parametrize(
    "torn", ["{", '{"iter', '{"iteration": 3, "x": [1, 2', "{" + '"x": 1, ' * 9]
)
def test_only_a_torn_last_line_is_cut_and_only_when_a_row_is_added(run, torn):
    path = run.path / "metrics.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + torn.encode())
    with run:
        assert run.drop_after(2) == 0
        assert [row["iteration"] for row in run.rows()] == [1, 2]
        assert path.read_bytes() == before + torn.encode()
        run.append(rows(3))
    assert path.read_bytes().startswith(before)
    assert [row["iteration"] for row in run.rows()] == [1, 2, 3]


def test_a_whole_last_row_that_lost_its_end_of_line_is_kept(run):
    path = run.path / "metrics.jsonl"
    path.write_text("\n".join(LINES))
    assert [row["iteration"] for row in run.rows()] == [1, 2]
    with run:
        run.append(rows(3))
        assert [row["iteration"] for row in run.rows()] == [1, 2, 3]
        run.drop_after(2)
    assert path.read_text() == "\n".join([*LINES, ""])


def test_rows_that_are_kept_keep_their_bytes(run):
    path = run.path / "metrics.jsonl"
    odd = '{ "iteration":1,"timesteps":  16, "x": 1e0}\r\n'
    path.write_text(odd + LINES[1] + "\n", newline="")
    with run:
        assert run.drop_after(1) == 1
    assert path.read_bytes() == odd.encode()


def test_missing_rows_are_said(run):
    with run:
        run.append(rows(5, 6))
        (line,) = run.require_rows(6)
        assert "lacks the rows of 2 of 6 iterations (the first is 3)" in line
        assert run.require_rows(2) == []


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env": None}, r"\$\.env: expected str, got null"),
        ({"agent": 5}, r"\$\.agent: expected str, got int"),
        ({"agent": "pppo"}, "did you mean 'ppo'"),
        ({"seed": -1}, r"\$\.seed: expected int >= 0"),
        ({"seed": 2.5}, r"\$\.seed: expected int, got float"),
        ({"seed": True}, r"\$\.seed: expected int, got bool"),
        ({"run": 7}, r"\$\.run: expected str, got int"),
        ({"config": []}, r"\$\.config: expected object, got array"),
        ({"config": {"num_devices": "3"}}, r"\$\.config\.num_devices: expected int, got str"),
        ({"config": {"num_devices": 0}}, r"\$\.config\.num_devices: expected int >= 1"),
        ({"config": {"env": 3}}, r"\$\.config\.env: expected str, got int"),
        ({"config": {"env_params": 3}}, "env_params=3: give a dict"),
        ({"config": {"hidden_sizes": "64"}}, "hidden_sizes='64': give a tuple"),
        ({"config": {"layer_norm": "no"}}, "layer_norm='no': give True or False"),
        ({"config": {"gamma": [0.9]}}, "gamma="),
        ({"options": 5}, r"\$\.options: expected object, got int"),
        ({"options": {"keep_last": "3"}}, r"options, \$\.keep_last: expected int, got str"),
        ({"options": {"quiet": "yes"}}, r"options, \$\.quiet: expected bool, got str"),
        ({"options": {"num_evals": -2}}, "num_evals=-2: give a whole number >= 0"),
        ({"options": {"quite": True}}, "unknown option 'quite'"),
    ],
)
def test_a_config_of_another_shape_is_named(run, change, message):
    path = run.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refused(run, rf"demo/?.*{message}")


@pytest.mark.parametrize("part", ["agent", "seed", "config", "options"])
def test_a_missing_part_is_named(run, part):
    path = run.path / "config.json"
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != part})
    )
    refused(run, f"config.json has no good '{part}': restore the file")


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "metrics.jsonl", "history.jsonl", "curve.png", "checkpoints"),
        *("lock", "lock.owner"),
    ],
)
def test_a_link_in_a_received_run_is_refused_and_its_target_stays(run, name):
    outside = run.path.parent / "outside"
    outside.mkdir()
    kept = outside / name
    if (run.path / name).exists():
        shutil.move(run.path / name, kept)
    elif name != "checkpoints":
        kept.write_text("mine")
    (run.path / name).symlink_to(kept)
    before = snapshot(run.path.parent)
    with pytest.raises(ValueError, match=rf"{name} is a link to .*outside"):
        jaxrl_pg.resume(run.path)
    assert snapshot(run.path.parent) == before


def test_a_run_folder_may_lie_behind_a_link(run):
    link = run.path.parent / "link"
    link.symlink_to(run.path.parent)
    with RunFolder.open(link / "demo") as same:
        same.append(rows(3))
    assert len(run.rows()) == 3


# --- moved or deleted while it is written ---------------------------------------------------------


def move(run):
    run.path.rename(run.path.with_name("moved"))


def move_and_replace(run):
    move(run)
    shutil.copytree(run.path.with_name("moved"), run.path)


def delete(run):
    shutil.rmtree(run.path)


def delete_and_make_again(run):
    """The new folder often gets the number that the old one had."""
    there = snapshot(run.path)
    shutil.rmtree(run.path)
    run.path.mkdir()
    for name, content in there.items():
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_bytes(content)


def delete_rows(run):
    (run.path / "metrics.jsonl").unlink()


def replace_rows(run):
    files.write_atomic(run.path / "metrics.jsonl", "")


@pytest.mark.parametrize(
    "change",
    [move, move_and_replace, delete, delete_and_make_again, delete_rows, replace_rows],
)
def test_a_folder_that_was_moved_or_deleted_is_not_written_to(run, change):
    run.lock()
    run.append(rows(3))
    change(run)
    there = snapshot(run.path.parent)
    for write in (lambda: run.append(rows(4)), run.sync, run.rows, lambda: run.write_config({})):
        with pytest.raises(ValueError, match="was moved, deleted or replaced while"):
            write()
    run.unlock()
    assert snapshot(run.path.parent).keys() <= there.keys()


def test_training_ends_at_the_next_chunk_once_its_folder_is_moved(tmp_path):
    def on_rows(new):
        if new[-1]["iteration"] == 3:
            (tmp_path / "demo").rename(tmp_path / "elsewhere")

    with pytest.raises(ValueError, match=r"demo was moved, deleted or replaced") as caught:
        jaxrl_pg.run(CONFIG, tmp_path / "demo", 5, OPTIONS, on_rows=on_rows)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["elsewhere"]


# --- names, and full disks ------------------------------------------------------------------------


def test_runs_that_begin_in_the_same_second_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop.time, "strftime", lambda _: "20260101-120000")
    description = loop._describe(CONFIG, 5, OPTIONS)
    names = [loop._create(None, description) for _ in range(3)]
    begin = "runs/ppo-CartPole-v1-5-20260101-120000"
    assert names == [begin, f"{begin}-2", f"{begin}-3"]
    ids = {RunFolder.open(name).run_id for name in names}
    assert len(ids) == 3


def test_where_no_folder_can_be_made_it_does_not_look_for_names_for_ever(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("mine")
    with pytest.raises(ValueError, match="runs is not a folder"):
        loop._create(None, loop._describe(CONFIG, 5, OPTIONS))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_full_disk_while_resuming_leaves_everything_as_it_was(run, monkeypatch, number):
    def full(*_):
        raise OSError(number, os.strerror(number))

    before = snapshot(run.path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="demo") as caught:
            jaxrl_pg.resume(run.path)
    assert caught.value.errno == number
    assert snapshot(run.path) == before
    files.lock(run.path).release()
