"""Ctrl-C and SIGTERM while a command starts: one word, and the exit code that a shell expects."""

import os
import signal
import subprocess
import sys

import pytest
from sweep_folders import finished

from jaxrl_pg.cli import start_up

MAIN = "import sys; from jaxrl_pg.cli import main; sys.exit(main())"
# Sends the signal to itself in the middle of what a command imports first.
AT_AN_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {at!r}:
            try:
                os.kill(os.getpid(), {number})
                for _ in range(1000): pass
            except BaseException:
                print("swallowed")
sys.meta_path.insert(0, Finder())
from jaxrl_pg.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("at", "number", "code", "word"),
    [
        ("jaxrl_pg.cli.commands", signal.SIGINT, 130, "interrupted\n"),
        ("jax", signal.SIGINT, 130, "interrupted\n"),
        ("numpy.linalg", signal.SIGTERM, 143, "terminated\n"),
    ],
)
def test_a_signal_during_the_imports_ends_the_process_whatever_catches_it(
    tmp_path, at, number, code, word
):
    command = ["train", "ppo", "--run-dir", str(tmp_path / "run")]
    result = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT.format(at=at, number=int(number)), *command],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr, result.stdout) == (code, word, "")
    assert not (tmp_path / "run").exists()


def test_a_signal_while_a_report_is_drawn_ends_the_process_with_one_word(tmp_path):
    finished(tmp_path / "sweep")
    code = AT_AN_IMPORT.format(at="matplotlib.figure", number=int(signal.SIGINT))
    command = ["report", str(tmp_path / "sweep"), "--out", str(tmp_path / "out")]
    result = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr, result.stdout) == (130, "interrupted\n", "")
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_signals_are_taken_before_anything_heavy_is_imported():
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import jaxrl_pg.cli as cli\n"
        "from jaxrl_pg.cli import start_up\n"
        "new = set(sys.modules) - before\n"
        "assert new == {'jaxrl_pg', 'jaxrl_pg.cli', 'jaxrl_pg.cli.start_up'}, new\n"
        "import signal\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "sys.argv = ['jaxrl-pg']\n"
        "cli.main()\n"
        "assert signal.getsignal(signal.SIGINT).__module__ == 'jaxrl_pg.cli.start_up'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=60)


def test_a_program_that_calls_the_command_line_keeps_its_own_handlers(capsys):
    from jaxrl_pg.cli import main

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert main(["--help"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_work_that_must_be_undone_gets_pythons_handlers_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        start_up.raise_on_signals()  # nothing to give back
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        start_up.end_on_signals()
        start_up.raise_on_signals()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
