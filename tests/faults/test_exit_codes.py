"""Every way in which a command can fail: one line, and the exit code of its kind."""

import errno
import os
import subprocess
import sys

import pytest

from jaxrl_pg import files
from jaxrl_pg.cli import commands, exits
from jaxrl_pg.running.messages import PeerError


def end(error_of, capsys, verbose=False):
    """Return the exit code of what a function raises, and what is said about it."""
    try:
        error_of()
    except BaseException as error:
        code = exits.report(error, verbose)
    return code, capsys.readouterr().err


def raising(error):
    def fail():
        raise error

    return fail


def caused(error, cause):
    def fail():
        raise error from cause

    return fail


SYSTEM = {
    "full": (OSError(errno.ENOSPC, "No space left on device", "/runs/a"), "free some space"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space"),
    "permission": (PermissionError(errno.EACCES, "Permission denied", "/runs/a"), "may write to"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "/runs/a"), "may write to"),
    "long name": (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), "shorter name"),
    "links": (OSError(errno.ELOOP, "Too many levels of symbolic links", "/a"), "in a circle"),
    "descriptors": (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
    "disk": (OSError(errno.EIO, "Input/output error", "/a"), "check the disk"),
    "other": (OSError("no words of the system"), "no words of the system"),
    "memory": (MemoryError(), "lower num_envs"),
    "import": (ImportError("libx.so: cannot open shared object: Too many open files"), "ulimit"),
    "no home": (RuntimeError("Could not determine home directory."), "Set HOME"),
    "device": (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 3 GiB"), "lower num_"),
    "peer": (RuntimeError("Gloo AllReduce failed: Connection reset by peer"), "is gone"),
    "said by a peer": (PeerError("process 0 could not write: see what it says"), "process 0"),
}


@pytest.mark.parametrize("name", SYSTEM)
def test_what_the_system_refuses_is_one_line_and_code_3(capsys, name):
    error, words = SYSTEM[name]
    code, said = end(raising(error), capsys)
    assert code == exits.SYSTEM == 3
    assert said.startswith("jaxrl-pg: ")
    assert words in said
    assert said.count("\n") == 1


def test_an_error_of_the_system_is_found_behind_the_one_that_wraps_it(capsys):
    cause = OSError(errno.ENOSPC, "No space left on device", "/runs/a")
    code, said = end(caused(RuntimeError("saving /runs/a/1 failed"), cause), capsys)
    assert (code, said.count("\n")) == (3, 1)
    assert "No space left" in said
    full = files.unwritable("runs/a", "No space left on device")
    assert full.__traceback__ is None

    def create():
        try:
            raise cause
        except OSError as error:
            raise full from error

    # Not a refusal of a folder's name, which would be the user's mistake.
    assert end(create, capsys)[0] == 3


def wrong(text):
    """Raise as the package does, by a `raise` in a module of its own."""
    scope = {"__name__": "jaxrl_pg.somewhere"}
    exec(compile("def fail(error):\n    raise error", "somewhere.py", "exec"), scope)
    return lambda: scope["fail"](ValueError(text))


def called(expression):
    """Call something from a module of the package that raises by itself."""
    return lambda: eval(compile(expression, "somewhere.py", "eval"), {"__name__": "jaxrl_pg.x"})


def test_a_mistake_of_the_user_is_one_line_and_code_2(capsys):
    assert end(wrong("gamma=2: give less"), capsys) == (2, "jaxrl-pg: gamma=2: give less\n")


@pytest.mark.parametrize(
    "fail",
    [
        called("int('many')"),
        called("dict(zip('ab', 'c', strict=True))"),
        called("[1].index(2)"),
        called("{}['gamma']"),
        called("None.config"),
        called("'x' + 1"),
        called("__import__('numpy').reshape([1, 2, 3], (2, 2))"),
        raising(ValueError("raised by a library")),
        raising(AssertionError()),
        raising(RuntimeError("is not locked")),
    ],
)
def test_a_mistake_of_ours_is_shown_whole_and_has_code_70(capsys, fail):
    code, said = end(fail, capsys)
    assert code == exits.BUG == 70
    assert said.startswith("Traceback (most recent call last)")
    assert said.splitlines()[-1].startswith("jaxrl-pg: ")
    assert "please report it" in said.splitlines()[-1]


def test_an_error_of_the_system_does_not_excuse_a_mistake_that_follows(capsys):
    def fail():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            {}["x"]

    assert end(fail, capsys)[0] == exits.BUG


@pytest.mark.parametrize("fail", [wrong("gamma=2: give less"), raising(PermissionError(13, "no"))])
def test_verbose_shows_where_any_error_arises(capsys, fail):
    quiet, loud = end(fail, capsys), end(fail, capsys, verbose=True)
    assert quiet[0] == loud[0]
    assert "Traceback" not in quiet[1]
    assert loud[1].startswith("Traceback (most recent call last)")
    assert loud[1].endswith(quiet[1])


def test_other_ends_keep_their_codes(capsys):
    assert end(raising(FloatingPointError("loss is nan")), capsys) == (
        1,
        "jaxrl-pg: loss is nan\n",
    )
    assert end(raising(KeyboardInterrupt()), capsys) == (130, "interrupted\n")
    assert end(raising(KeyboardInterrupt("saved")), capsys) == (130, "interrupted: saved\n")


def test_a_line_is_one_line_whatever_a_file_brings_in(capsys):
    text = "no \x1b[2J colour,\n   no second line\r\x07 " + "x" * 10_000_000
    code, said = end(wrong(text), capsys)
    assert code == 2
    assert said.startswith(r"jaxrl-pg: no \x1b[2J colour, no second line\r\x07 xxx")
    assert len(said) < 3000
    assert said.count("\n") == 1


# --- through the commands -------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-v", "--verbose"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_command_takes_verbose_anywhere(capsys, monkeypatch, tmp_path, flag, place):
    monkeypatch.chdir(tmp_path)
    words = ["evaluate", "nothing"]
    assert commands.main([*words[:place], flag, *words[place:]]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("jaxrl-pg: no run in nothing")


def test_experiments_and_reports_end_alike(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a.toml").write_text("agent = [")
    for command in (
        ["sweep", "a.toml"],
        ["sweep", "a" * 300 + ".toml"],
        ["sweep", "loop/a.toml"],
        ["report", "nothing"],
        ["report", "loop"],
        ["report", "a" * 300],
        ["train", "ppo", "--run-dir", "loop/run"],
        ["train", "ppo", "--run-dir", "b" * 300],
    ):
        code = commands.main(command)
        printed = capsys.readouterr()
        assert code in (2, 3), (command, printed)
        assert printed.err.startswith("jaxrl-pg: "), printed
        assert printed.err.count("\n") == 1, printed
        assert printed.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "loop"]


def test_the_codes_are_documented(capsys):
    assert commands.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for code in (0, 1, 2, 3, 70, 130, 143):
        assert f"{code} " in shown.partition("exit codes:")[2]
        assert str(code) in commands.main.__doc__


def test_a_reader_that_has_enough_is_no_error():
    """As in `jaxrl-pg agents | head -1`: here the reader is gone before the first word."""
    ours, theirs = os.pipe()
    os.close(ours)
    code = "from jaxrl_pg.cli import main; main(['agents'])"
    with os.fdopen(theirs, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == ""


def test_a_full_standard_output_is_said_once():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    code = "import sys; from jaxrl_pg.cli import main; sys.exit(main(['--help']))"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 3
    assert result.stderr.startswith("jaxrl-pg: No space left on device")
    assert result.stderr.count("\n") == 1


def test_a_command_needs_no_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert commands.main(["--help"]) == 0
    assert commands.main(["report", "nothing"]) == 2
