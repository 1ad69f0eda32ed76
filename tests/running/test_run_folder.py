"""The run folder, its rows and lock, and what a run shows while it goes on."""

import json
import math
import os
import queue
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import filelock
import numpy as np
import pytest

from jaxrl_pg import files
from jaxrl_pg.running import progress
from jaxrl_pg.running.curve import save_curve
from jaxrl_pg.running.progress import Progress
from jaxrl_pg.running.rows import known_return
from jaxrl_pg.running.run_folder import RunFolder

CONFIG = {"agent": "ppo", "env": "CartPole-v1", "learning_rate": 3e-4, "layers": [64, 64]}


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "demo", CONFIG)


def row(iteration, **metrics):
    return {"iteration": iteration, "timesteps": iteration * 100, **metrics}


def train_row(iteration, value, episodes=4):
    return row(iteration, **{"train/return_mean": value, "train/num_episodes": episodes})


def eval_row(iteration, value, std=2.0):
    return row(iteration, **{"eval/return_mean": value, "eval/return_std": std})


def tree(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


# --- making and opening -------------------------------------------------------------------------


def test_create_then_open_gives_the_config_back(run):
    again = RunFolder.open(run.path)
    assert again.config == CONFIG
    assert again.rows() == []
    assert again.checkpoints_dir == run.path / "checkpoints"
    assert tree(run.path) == ["config.json", "lock"]


def test_config_takes_numpy_and_tuples(tmp_path):
    config = {"lr": np.float32(0.5), "n": np.int64(3), "sizes": (8, 8), "on": np.bool_(True)}
    run = RunFolder.create(tmp_path / "demo", config)
    assert run.config == {"lr": 0.5, "n": 3, "sizes": [8, 8], "on": True}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"optim": {"max_norm": math.inf}}, r"config\.optim\.max_norm is inf.*finite number"),
        ({"gammas": [0.9, math.nan]}, r"config\.gammas\[1\] is nan"),
        ({"gamma": np.float32("nan")}, r"config\.gamma is nan"),
        ({"activation": print}, r"config\.activation is a builtin_function_or_method"),
    ],
)
def test_config_that_json_cannot_hold_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        RunFolder.create(tmp_path / "demo", config)
    assert tree(tmp_path) == []


def test_create_refuses_a_folder_with_a_run(run):
    before = tree(run.path)
    with pytest.raises(ValueError) as caught:
        RunFolder.create(run.path, {"agent": "dqn"})
    assert str(caught.value) == (
        f"{run.path} already holds a run (ppo on CartPole-v1): resume it with "
        f"`jaxrl-pg resume {run.path}`, or choose another run_dir"
    )
    assert tree(run.path) == before
    assert run.config == CONFIG


@pytest.mark.parametrize("name", ["notes.txt", "checkpoints/100/state", ".hidden"])
def test_create_refuses_a_folder_with_anything_else(tmp_path, name):
    file = tmp_path / "demo" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = tree(tmp_path)
    held = Path(name).parts[0]
    with pytest.raises(ValueError, match=rf"is not empty \(it holds {held}\): choose another"):
        RunFolder.create(tmp_path / "demo", CONFIG)
    assert tree(tmp_path) == before


def test_create_takes_an_empty_folder_and_what_a_killed_create_left(tmp_path):
    (tmp_path / "lock").write_text("")
    (tmp_path / "lock.owner").write_text("1 on here")
    (tmp_path / files.writing.temporary_name()).write_text('{"age')
    assert RunFolder.create(tmp_path, CONFIG).config == CONFIG
    assert tree(tmp_path) == ["config.json", "lock"]


def test_create_refuses_a_path_through_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "demo"):
        with pytest.raises(ValueError, match=r"cannot write .*file is not a folder.*run_dir"):
            RunFolder.create(path, CONFIG)
    assert file.read_text() == "mine"


def test_create_refuses_a_place_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ValueError, match=r"cannot write .*no permission to write in .*run_dir"):
        RunFolder.create(tmp_path / "runs" / "demo", CONFIG)
    assert tree(tmp_path) == []


def test_create_looks_again_once_it_holds_the_lock(tmp_path, monkeypatch):
    def another_process_is_first(path):
        path.mkdir()
        (path / "config.json").write_text('{"agent": "dqn"}')

    monkeypatch.setattr(files, "require_writable", another_process_is_first)
    with pytest.raises(ValueError, match=r"already holds a run \(dqn\)"):
        RunFolder.create(tmp_path / "demo", CONFIG)
    assert RunFolder.open(tmp_path / "demo").config == {"agent": "dqn"}


def test_create_says_why_the_system_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write .*name too long.*choose another run_dir"):
        RunFolder.create(tmp_path / ("x" * 300), CONFIG)
    assert tree(tmp_path) == []


def test_open_lists_the_runs_beside_it_nearest_first(tmp_path):
    for name in ("alpha", "demo", "zeta"):
        RunFolder.create(tmp_path / name, CONFIG)
    (tmp_path / "not-a-run").mkdir()
    with pytest.raises(ValueError) as caught:
        RunFolder.open(tmp_path / "dmo")
    assert str(caught.value) == (
        f"no run in {tmp_path / 'dmo'}: expected {tmp_path / 'dmo' / 'config.json'}; "
        f"runs there are: demo, alpha, zeta; did you mean {tmp_path / 'demo'}?"
    )
    assert not (tmp_path / "dmo").exists()


def test_open_shortens_a_long_list_and_handles_none(tmp_path):
    with pytest.raises(ValueError, match=r"there are no runs in .*nowhere"):
        RunFolder.open(tmp_path / "nowhere" / "demo")
    for i in range(10):
        RunFolder.create(tmp_path / f"seed{i}", CONFIG)
    with pytest.raises(ValueError, match=r"seed0, .*seed7 and 2 more$"):
        RunFolder.open(tmp_path / "x")


def test_open_inside_a_run_points_at_it(run):
    with pytest.raises(ValueError, match=rf"did you mean {run.path}\?"):
        RunFolder.open(run.path / "checkpoints")


@pytest.mark.parametrize(
    ("text", "message"), [('{"agent": ', "is not JSON"), ("[1, 2]", "expected object, got array")]
)
def test_open_refuses_a_broken_config(run, text, message):
    (run.path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json:? {message}.*restore it"):
        RunFolder.open(run.path)


def test_write_config_replaces_it(run):
    with run:
        run.write_config({**CONFIG, "total_timesteps": 7})
    assert RunFolder.open(run.path).config["total_timesteps"] == 7
    assert tree(run.path) == ["config.json", "lock"]


# --- rows ---------------------------------------------------------------------------------------


def test_rows_are_json_a_line_with_null_for_not_finite(run):
    with run:
        run.append([train_row(1, math.nan), row(2, a=np.float32(0.5), b=-math.inf)])
        run.append([row(np.int32(3), c=np.array(2.0), d=np.array([1.0, np.nan]))])
        run.sync()
    text = (run.path / "metrics.jsonl").read_text()
    assert text.endswith("}\n")
    parsed = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert parsed == [
        {"iteration": 1, "timesteps": 100, "train/return_mean": None, "train/num_episodes": 4},
        {"iteration": 2, "timesteps": 200, "a": 0.5, "b": None},
        {"iteration": 3, "timesteps": 300, "c": 2.0, "d": [1.0, None]},
    ]
    assert run.rows() == parsed


def test_torn_last_line_is_not_read_and_is_cut_on_entry(run):
    with run:
        run.append([row(1), row(2)])
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 3, "tim')
    assert [r["iteration"] for r in run.rows()] == [1, 2]
    with run:
        run.append([row(3)])
    assert [r["iteration"] for r in run.rows()] == [1, 2, 3]


def test_broken_line_in_the_middle_is_named(run):
    (run.path / "metrics.jsonl").write_text(
        '{"iteration": 1, "timesteps": 8}\nnonsense\n{"iteration": 2, "timesteps": 16}\n'
    )
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 2 is not JSON .*delete that line"):
        run.rows()


def test_drop_after_keeps_the_rows_of_the_checkpoint(run):
    with run:
        run.append([row(1), row(2), eval_row(2, 5.0), row(3), eval_row(3, 6.0)])
        assert run.drop_after(2) == 2
        assert run.drop_after(2) == 0
        run.append([row(3)])
    assert [r["iteration"] for r in run.rows()] == [1, 2, 2, 3]
    assert tree(run.path) == ["config.json", "lock", "metrics.jsonl"]


# --- the lock -----------------------------------------------------------------------------------


def spawn(code, *args, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


HOLD = """
    import sys, time
    from jaxrl_pg.running.run_folder import RunFolder
    with RunFolder.open(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
"""


def test_another_process_is_named_and_its_death_frees_the_run(run):
    holder = spawn(HOLD, run.path)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"demo is in use by process {holder.pid} on "), run:
            pass
        assert RunFolder.open(run.path).rows() == []  # reading takes no lock
    finally:
        holder.kill()
        holder.communicate()
    assert tree(run.path) == ["config.json", "lock", "lock.owner"]
    with run:
        run.append([row(1)])
        in_use = rf"demo is in use by process {os.getpid()} on "
        with pytest.raises(ValueError, match=in_use), RunFolder.open(run.path):
            pass
    assert tree(run.path) == ["config.json", "lock", "metrics.jsonl"]


def test_a_second_writer_in_this_process_is_refused_too(run):
    with run:
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
            RunFolder.open(run.path).__enter__()
        run.append([row(1)])


def test_the_lock_is_freed_on_an_exception(run):
    with pytest.raises(KeyError), run:
        raise KeyError
    with run:
        pass


def test_writing_needs_the_lock(run):
    for write in (lambda: run.append([row(1)]), run.sync, lambda: run.drop_after(1)):
        with pytest.raises(RuntimeError, match=r"not locked: write inside `with run:`"):
            write()
    assert not (run.path / "metrics.jsonl").exists()


def test_create_yields_to_another_process_at_the_same_path(tmp_path):
    in_use = r"in use by process \(just started\)"
    with filelock.FileLock(tmp_path / "lock"), pytest.raises(ValueError, match=in_use):
        RunFolder.create(tmp_path, CONFIG)


# --- progress -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({}, None),
        ({"train/return_mean": None}, None),
        ({"train/return_mean": math.nan}, None),
        ({"train/return_mean": 0.0, "train/num_episodes": 0}, None),
        ({"train/return_mean": np.float32(0.0), "train/num_episodes": 3}, 0.0),
        ({"train/return_mean": -1.5}, -1.5),
    ],
)
def test_known_return_counts_episodes(metrics, expected):
    assert known_return(metrics, "train") == expected


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on only when told: clock[0] in seconds."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_plain_progress(clock, capsys):
    with Progress(1000) as progress:
        for iteration in range(1, 11):
            clock[0] += 9.0 if iteration == 1 else 1.0  # the first one compiles
            progress.update(iteration * 100, train_row(iteration, 1.5, episodes=iteration // 2))
            if iteration == 4:
                progress.update(400, eval_row(4, 1234.5))
        progress.message("saved")
    captured = capsys.readouterr()
    assert captured.out == ""
    # Lines: the first; the evaluation; 5 s after it; the message; the last.
    assert captured.err.splitlines() == [
        "10%  100/1,000  - steps/s  0:09  eta -  train -  eval -",
        "40%  400/1,000  100 steps/s  0:12  eta 0:06  train 1.5  eval 1,234",
        "90%  900/1,000  100 steps/s  0:17  eta 0:01  train 1.5  eval 1,234",
        "saved",
        "100%  1,000/1,000  100 steps/s  0:18  eta 0:00  train 1.5  eval 1,234",
    ]


def test_plain_progress_shows_the_last_state_once(clock, capsys):
    with Progress(200, interval=0.0) as progress:
        progress.update(100, {})
        progress.update(200, eval_row(2, math.nan))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "50%  100/200  - steps/s  0:00  eta -  train -  eval -"
    assert lines[1].endswith("train -  eval -")


def test_progress_of_a_resumed_run_counts_only_its_own_speed(clock, capsys):
    with Progress(2000, start=1000) as progress:
        progress.leave_out(0.0)  # nothing was compiled
        clock[0] += 10.0
        progress.update(1100, {})
    assert "55%  1,100/2,000  10 steps/s  0:10  eta 1:30" in capsys.readouterr().err


def test_compiling_is_said_once_before_the_first_steps(clock, capsys):
    with Progress(200, interval=0.0) as progress:
        progress.compiles()
        clock[0] += 8.0
        assert progress._status(str) == "  0%  0/200  compiling  0:08  train -  eval -"
        progress.leave_out(8.0)
        clock[0] += 1.0
        progress.update(100, {})
        progress.compiles()  # the evaluation
        progress.leave_out(0.0)
    assert capsys.readouterr().err.splitlines() == [
        "compiling",
        "50%  100/200  100 steps/s  0:09  eta 0:01  train -  eval -",
    ]


def test_compiling_is_said_again_each_minute_until_it_is_done(clock, capsys, monkeypatch):
    begun, waits = queue.SimpleQueue(), iter([False, False, True])
    remind = progress._remind
    monkeypatch.setattr(progress, "_remind", lambda done, say: begun.put((done, say)))
    with Progress(200) as shown:
        shown.compiles()
        done, say = begun.get(timeout=30)

        class Minutes:
            def wait(self, seconds):
                clock[0] += seconds
                return next(waits)

        remind(Minutes(), say)
        assert not done.is_set()
        shown.leave_out(120.0)
        assert done.is_set()
        shown.compiles()  # and is interrupted
        done, _ = begun.get(timeout=30)
    assert done.is_set()
    assert capsys.readouterr().err.splitlines() == [
        *("compiling", "still compiling, 1:00", "still compiling, 2:00"),
    ]


def test_quiet_progress_prints_nothing(capsys):
    with Progress(100, quiet=True, interval=0.0) as progress:
        progress.compiles()
        progress.update(100, eval_row(1, 3.0))
        progress.message("saved")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [True, False])
def test_what_goes_wrong_is_printed_in_a_quiet_run_too(capsys, quiet):
    with Progress(100, quiet=quiet) as progress:
        progress.warn("a logger failed")
    assert capsys.readouterr() == ("", "a logger failed\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (999.6, "1k"), (98_304, "98.3k"), (1e6, "1M"), (2.5e9, "2.5G")],
)
def test_short_counts(count, text):
    assert progress._short(count) == text


def screen_of(output):
    """What a terminal shows after `output`, for the control sequences a live line uses."""
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
            column = 0
        elif part == "\r":
            column = 0
        elif part.endswith("A"):
            at -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part[0] != "\x1b":
            column = 0 if not lines[at] else column
            lines[at] = lines[at][:column] + part + lines[at][column + len(part) :]
            column += len(part)
    return lines


LIVE = """
    import sys, time
    from jaxrl_pg.running.progress import Progress
    with Progress(1000) as progress:
        time.sleep(0.1)
        for i in range(1, 11):
            row = {"train/return_mean": i / 2, "train/num_episodes": i // 5}
            progress.update(100 * i, row)
            time.sleep(0.1)
            if i == 5:
                progress.message("saved [1/2]")
                print("a line of stdout")
"""


def on_a_terminal(code, columns, **variables):
    """Run code with stderr on a pseudo-terminal; return what it wrote there and to stdout."""
    fcntl, pty, termios = map(pytest.importorskip, ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    names = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", **variables}
    process = spawn(code, stderr=theirs, env=environment)
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunks.append(os.read(ours, 65536))
        except OSError:  # Linux says that the other end is closed by an input/output error
            break
        if not chunks[-1]:
            break
    os.close(ours)
    stdout = process.communicate(timeout=30)[0]
    assert process.returncode == 0
    return b"".join(chunks).decode(), stdout


@pytest.mark.parametrize("columns", [120, 60])
def test_live_line_on_a_terminal_leaves_a_clean_last_line(columns):
    output, stdout = on_a_terminal(LIVE, columns)
    assert stdout == "a line of stdout\n"  # not routed round the live line: it is no terminal
    assert "\x1b[?25l" in output  # the cursor is hidden while the line lives
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")
    assert "train -" in output
    screen = screen_of(output)
    assert len(screen) == 3
    message, line, after = screen
    assert message == "saved [1/2]"
    assert after == ""
    assert "100%  1k/1k" in line
    assert len(line.rstrip()) <= columns
    assert ("━" in line) == (columns == 120)  # the bar only where there is room
    if columns == 120:
        assert line.rstrip().endswith("train 5  eval -")


def test_dumb_terminal_gets_plain_lines():
    output, _ = on_a_terminal(LIVE, 80, TERM="dumb")
    assert "\x1b" not in output
    assert "100%  1,000/1,000" in output


# --- the curve ----------------------------------------------------------------------------------


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


CURVES = {
    "train and eval": [train_row(1, 1.0), train_row(2, None), train_row(3, 2.0), eval_row(3, 4.0)],
    "one point": [train_row(1, 1.0)],
    "eval without std": [row(1, **{"eval/return_mean": 3.0}), row(2, **{"eval/return_mean": 4.0})],
    "no finished episodes": [train_row(1, math.nan), train_row(2, 0.0, episodes=0)],
    "no rows, and $odd_{ title": [],
}


@pytest.mark.parametrize("name", CURVES)
def test_save_curve_is_a_png(tmp_path, name):
    save_curve(CURVES[name], tmp_path / "curve.png", title=name)
    width, height = png_size(tmp_path / "curve.png")
    assert width > 600
    assert height > 300
    assert tree(tmp_path) == ["curve.png"]


def test_save_curve_leaves_pyplot_alone(tmp_path):
    code = """
        import sys
        from jaxrl_pg.running.curve import save_curve
        assert not {"matplotlib", "rich", "tensorboardX", "jax"} & sys.modules.keys()
        save_curve([], sys.argv[1], "")
        assert "matplotlib.pyplot" not in sys.modules
    """
    process = spawn(code, tmp_path / "curve.png")
    process.communicate(timeout=30)
    assert process.returncode == 0
