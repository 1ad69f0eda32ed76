"""A checkpoint is believed by what is in it: not by its name, and nothing else counts as one."""

import itertools
import os
import shutil

import jax.numpy as jnp
import pytest

from jaxrl_pg import checkpoint
from jaxrl_pg.checkpoint import Checkpoints, restore, steps

TARGET = {"x": jnp.zeros(3, jnp.int32)}


def save(directory, *numbers, run="one", **options):
    with Checkpoints(directory, run=run, **options) as saves:
        for number in numbers:
            saves.save(number, {"x": jnp.full(3, number, jnp.int32)}, {})


def snapshot(folder):
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def saved(tmp_path):
    """Checkpoints 10, 20 and 30 of the run "one"."""
    save(tmp_path / "checkpoints", 10, 20, 30)
    return tmp_path / "checkpoints"


def swap(folder):
    (folder / "30").rename(folder / "aside")
    (folder / "20").rename(folder / "30")
    (folder / "aside").rename(folder / "20")


def rename(folder):
    (folder / "30").rename(folder / "31")


def repeat(folder):
    shutil.copytree(folder / "20", folder / "50")


def from_another_run(folder):
    save(folder.parent / "other", 40, run="two")
    shutil.copytree(folder.parent / "other" / "40", folder / "40")


def from_a_run_without_an_id(folder):
    save(folder.parent / "other", 30, run="")
    shutil.rmtree(folder / "30")
    shutil.copytree(folder.parent / "other" / "30", folder / "30")


@pytest.mark.parametrize(
    ("change", "good", "passed_over"),
    [
        (swap, 10, {30: "it was saved as checkpoint 20", 20: "it was saved as checkpoint 30"}),
        (rename, 20, {31: "it was saved as checkpoint 30"}),
        (repeat, 30, {50: "it was saved as checkpoint 20"}),
        (from_another_run, 30, {40: "it was saved by another run"}),
        (from_a_run_without_an_id, 20, {30: "it was saved by another run"}),
    ],
)
def test_what_is_not_what_its_name_says_is_passed_over_and_set_aside(
    saved, change, good, passed_over
):
    change(saved)
    before = snapshot(saved)
    restored = restore(saved, TARGET, run="one")
    assert restored.step == good == restored.state["x"][0]
    assert list(restored.skipped) == [
        f"checkpoint {step} is not what its name says ({why}); restored {good}"
        for step, why in passed_over.items()
    ]
    assert checkpoint.newest_host(saved, "one") == {}
    assert snapshot(saved) == before
    with Checkpoints(saved, run="one", keep_last=9) as saves:
        names = saves.rewind(good)
        saves.save(60, TARGET, {})
    assert names == [f"{step}.damaged" for step in sorted(passed_over)]
    assert steps(saved)[-1] == 60
    for name, content in before.items():
        step, _, inside = name.partition("/")
        place = f"{step}.damaged" if f"{step}.damaged" in names else step
        assert (saved / place / inside).read_bytes() == content


def test_a_checkpoint_that_is_asked_for_is_checked_as_well(saved):
    repeat(saved)
    with pytest.raises(ValueError, match="checkpoint 50 is not what its name says"):
        restore(saved, TARGET, 50)
    with pytest.raises(ValueError, match="it was saved by another run"):
        restore(saved, TARGET, 20, run="two")
    assert restore(saved, TARGET, 20).step == 20  # whoever asks for no run in particular


def test_checkpoints_of_earlier_versions_carry_no_run_and_are_read(tmp_path):
    save(tmp_path, 7, run="")
    assert "run" not in checkpoint.manifest.read(tmp_path / "7")
    assert restore(tmp_path, TARGET, run="").step == 7


def test_what_is_set_aside_a_second_time_gets_a_number(saved):
    for _ in range(2):
        repeat(saved)
        checkpoint.set_aside(saved, 30)
    assert {"50.damaged", "50.damaged2"} <= set(os.listdir(saved))


NAMES = ["x.deleted", "4.deleted", "40", "007", "+3", "1_0", "\u0663", "1e3", "20260101", "20.old"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_not_ours_is_left_alone_and_never_counted(tmp_path, kind):
    mine = [tmp_path / name for name in NAMES]
    for path in mine:
        if kind == "file":
            path.write_text("mine")
        else:
            path.mkdir()
            (path / "notes").write_text("mine")
    before = snapshot(tmp_path)
    for number in range(1, 7):
        save(tmp_path, number, keep_last=2, keep_best=False)
        assert restore(tmp_path, TARGET, run="one").step == number
    assert steps(tmp_path) == [5, 6]
    checkpoint.set_aside(tmp_path, 0)
    after = snapshot(tmp_path)
    assert before.items() <= after.items()


def test_retention_deletes_only_what_is_of_this_run(saved):
    from_another_run(saved)
    (saved / "40").rename(saved / "1")
    (saved / "20" / "_CHECKPOINT_METADATA").write_text("{}")
    save(saved, 50, 60, 70, keep_last=2, keep_best=False)
    assert steps(saved) == [1, 20, 60, 70]


def test_a_name_that_is_taken_is_said_before_anything_is_copied(saved):
    (saved / "40").mkdir()
    with pytest.raises(ValueError, match="40 is no checkpoint: move it away"):
        save(saved, 40)


def test_a_folder_that_goes_while_it_is_saved_to_is_named_in_one_line(saved, monkeypatch):
    write = checkpoint.writing.write

    def move_and_write(path, snapshot):
        saved.rename(saved.with_name("moved"))
        write(path, snapshot)

    monkeypatch.setattr(checkpoint.writing, "write", move_and_write)
    with pytest.raises(ValueError, match=r"checkpoints was moved, deleted or replaced"):
        save(saved, 40)
    assert steps(saved.with_name("moved")) == [10, 20, 30]


@pytest.mark.parametrize("name", ["40", "20.orbax-checkpoint-tmp", "9.deleted", "no-save-yet"])
def test_a_link_with_the_name_of_ours_is_refused_before_anything_is_written(saved, name):
    outside = saved.parent / "outside"
    outside.mkdir()
    (outside / "diary").write_text("mine")
    (saved / name).symlink_to(outside)
    before = snapshot(saved.parent)
    with pytest.raises(ValueError, match=f"{name} is a link to "):
        Checkpoints(saved)
    assert snapshot(saved.parent) == before
    assert restore(saved, TARGET).step == 30


def test_a_linked_folder_of_checkpoints_is_neither_read_nor_written(saved):
    link = saved.parent / "link"
    link.symlink_to(saved)
    for call in (steps, Checkpoints, lambda path: restore(path, TARGET), checkpoint.never_saved):
        with pytest.raises(ValueError, match="link is a link to "):
            call(link)


def test_a_checkpoint_with_a_link_inside_is_damaged(saved):
    """Its target would be read, and thereby kept in later checkpoints."""
    (saved / "30" / "state").rename(saved.parent / "state")
    (saved / "30" / "state").symlink_to(saved.parent / "state")
    restored = restore(saved, TARGET)
    assert restored.step == 20
    assert "checkpoint 30 is damaged (state is no plain file)" in restored.skipped[0]


# --- a listing gone stale -------------------------------------------------------------------------


@pytest.mark.parametrize("goes", ["20", "30"])
def test_a_checkpoint_deleted_after_it_was_listed_is_not_damaged(saved, monkeypatch, goes):
    """As the training does: the newest is saved, and then an old one deleted."""
    read = checkpoint.manifest.read
    pruned = []

    def prune_and_read(path, *args):
        if not pruned:
            pruned.append(path)
            save(saved, 40, keep_last=9)
            shutil.rmtree(saved / "30")
        return read(path, *args)

    monkeypatch.setattr(checkpoint.manifest, "read", prune_and_read)
    restored = restore(saved, TARGET)
    assert (restored.step, restored.skipped) == (40, ())


def test_one_that_goes_while_its_arrays_are_read_is_not_damaged_either(saved, monkeypatch):
    load = checkpoint.orbax_file.load

    def delete_and_load(path, stored):
        if path.name == "30":
            os.rename(path, path.with_name("30.deleted"))
        return load(path, stored)

    monkeypatch.setattr(checkpoint.orbax_file, "load", delete_and_load)
    restored = restore(saved, TARGET)
    assert (restored.step, restored.skipped) == (20, ())
    with pytest.raises(ValueError, match=r"no checkpoint 30 in .*: choose from \[10, 20\]"):
        restore(saved, TARGET, 30)


def test_it_gives_up_some_time(saved, monkeypatch):
    numbers = itertools.count(100)
    monkeypatch.setattr(checkpoint.manifest, "candidates", lambda _: [next(numbers)])
    with pytest.raises(ValueError, match="go faster than they can be read: try again"):
        restore(saved, TARGET)
