"""Links and other odd things where files of ours are expected: nothing outside is touched."""

import os
import re

import pytest

from jaxrl_pg import files
from jaxrl_pg.files.growing import GrowingFile


@pytest.fixture
def outside(tmp_path):
    """A file of somebody else, and a folder that holds one."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "diary").write_text("mine")
    yield folder
    assert (folder / "diary").read_text() == "mine"
    assert os.listdir(folder) == ["diary"]


@pytest.fixture
def ours(tmp_path):
    (tmp_path / "ours").mkdir()
    return tmp_path / "ours"


FILE_CALLS = {
    "write": lambda path: files.write_atomic(path, "new"),
    "write bytes": lambda path: files.write_atomic(path, b"new"),
    "read": files.read_bytes,
    "read text": files.read_text,
    "append": GrowingFile,
    "remove": files.remove_file,
}


@pytest.mark.parametrize("name", FILE_CALLS)
@pytest.mark.parametrize("target", ["diary", "missing"])
def test_a_link_in_place_of_a_file_is_refused(ours, outside, name, target):
    path = ours / "results.csv"
    path.symlink_to(outside / target)
    with pytest.raises(ValueError, match=rf"results\.csv is a link to .*{target}: put the file"):
        FILE_CALLS[name](path)
    assert path.is_symlink()


@pytest.mark.parametrize("name", FILE_CALLS)
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_and_waits_for_nobody(ours, name):
    os.mkfifo(ours / "pipe")
    with pytest.raises(ValueError, match="pipe is no plain file"):
        FILE_CALLS[name](ours / "pipe")
    (ours / "folder").mkdir()
    with pytest.raises((ValueError, IsADirectoryError), match="folder"):
        FILE_CALLS[name](ours / "folder")
    assert sorted(os.listdir(ours)) == ["folder", "pipe"]


def test_a_link_between_a_folder_of_ours_and_what_is_in_it_is_refused(ours, outside):
    (ours / "parts").symlink_to(outside)
    for call in (
        lambda: files.write_atomic(ours / "parts" / "7.json", "{}", ours),
        lambda: files.make_folder(ours / "parts" / "7", ours),
        lambda: files.remove_tree(ours / "parts" / "diary", ours),
        lambda: files.remove_tree(ours / "parts", ours),
        lambda: files.remove_file(ours / "parts" / "diary", ours),
    ):
        with pytest.raises(ValueError, match=r"parts is a link to .*outside: put the file"):
            call()


@pytest.mark.parametrize("path", ["..", "../outside", "a/../../outside", ""])
def test_only_folders_inside_are_removed(ours, outside, path):
    with pytest.raises(ValueError, match=r"is outside|is the whole folder"):
        files.remove_tree(ours / path, ours)


def test_links_above_are_the_users_own_and_links_inside_go_without_their_targets(ours, outside):
    big = ours.parent / "big disk"
    big.mkdir()
    (ours / "runs").symlink_to(big)
    inside = ours / "runs" / "demo"
    files.make_folder(inside)
    files.write_atomic(inside / "a.txt", "ä")
    (inside / "batch").mkdir()
    (inside / "batch" / "link").symlink_to(outside)
    files.remove_tree(inside / "batch", inside)
    assert (big / "demo" / "a.txt").read_text(encoding="utf-8") == "ä"
    assert os.listdir(big / "demo") == ["a.txt"]


@pytest.mark.parametrize("name", ["lock", "lock.owner"])
def test_a_linked_lock_is_refused_and_its_target_keeps_its_content(ours, outside, name):
    (ours / name).symlink_to(outside / "diary")
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is a link to"):
        files.lock(ours)
    (ours / name).unlink()
    files.lock(ours).release()


def test_a_file_that_has_another_name_is_copied_before_it_grows(ours, outside):
    os.link(outside / "diary", ours / "metrics.jsonl")
    growing = GrowingFile(ours / "metrics.jsonl")
    growing.append(b" and ours")
    growing.close()
    assert (ours / "metrics.jsonl").read_text() == "mine and ours"


def test_a_lock_that_is_no_plain_file_is_refused(ours, outside):
    (ours / "lock").mkdir()
    with pytest.raises(ValueError, match="lock is no plain file of its own: move it away"):
        files.lock(ours)
    (ours / "lock").rmdir()
    os.link(outside / "diary", ours / "lock")
    with pytest.raises(ValueError, match="lock is no plain file of its own: move it away"):
        files.lock(ours)


def test_a_planted_name_is_not_written_through(ours, outside, monkeypatch):
    """Even where somebody foresees the name of the unfinished file."""
    monkeypatch.setattr(files.writing, "temporary_name", lambda: ".jaxrl-pg-0.tmp")
    (ours / ".jaxrl-pg-0.tmp").symlink_to(outside / "diary")
    with pytest.raises(ValueError, match=r"tmp is a link to"):
        files.write_atomic(ours / "table.md", "new")


def test_leftovers_go_only_if_they_are_plain_files(ours, outside):
    names = [files.writing.temporary_name() for _ in range(3)]
    (ours / names[0]).write_text("half")
    (ours / names[1]).symlink_to(outside / "diary")
    (ours / names[2]).mkdir()
    (ours / "notes.tmp").write_text("mine")
    files.clear_leftovers(ours)
    assert sorted(os.listdir(ours)) == sorted([*names[1:], "notes.tmp"])


def test_nothing_is_overwritten_by_setting_aside(ours):
    for content in "abc":
        (ours / "7").mkdir()
        (ours / "7" / content).write_text("")
        files.set_aside(ours / "7", ".damaged")
    assert sorted(os.listdir(ours)) == ["7.damaged", "7.damaged2", "7.damaged3"]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run-7", "größe 2", "a.b", "-x", "ppo@0.5", "x" * 200])
def test_names_of_files(name):
    assert files.file_name(name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (".", "begins with a dot"),
        ("..", "begins with a dot"),
        (".ssh", "begins with a dot"),
        ("a/b", "holds '/'"),
        ("a\\b", "holds '"),
        ("/etc", "holds '/'"),
        ("a\0b", r"holds '\\x00'"),
        ("a\nb", r"holds '\\n'"),
        ("a\x1b[2J", r"holds '\\x1b'"),
        ("a\u202eb", r"holds '\\u202e'"),
        ("a\u2028b", r"holds '\\u2028'"),
        ("a\ud800", r"holds '\\ud800'"),
        ("C:x", "holds ':'"),
        ("ä" * 101, "is 202 bytes long"),
    ],
)
def test_what_is_no_name_of_a_file_is_refused_in_one_line(name, why):
    with pytest.raises(ValueError, match=f"^id .* {why}.*give a plain name for a file$") as caught:
        files.file_name(name, "id")
    assert str(caught.value).isprintable()
