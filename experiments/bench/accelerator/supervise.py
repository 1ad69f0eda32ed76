"""Start the sections in processes of their own, and go on after one that crashed or hangs."""

import argparse
import datetime
import itertools
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from accelerator.plan import SECTIONS, TURNS, Section
from accelerator.record import Record, plain

GRACE = 30.0  # seconds that a section may be late before its process is ended
POLL = 0.2


def run(args: argparse.Namespace, script: Path) -> int:
    """Measure all sections that were asked for.

    Returns:
        The exit status: 1 if a section failed or was cut.
    """
    end = time.time() + args.seconds
    record = Record(args.out, _facts(args, script))
    for _, group in itertools.groupby(args.sections, key=lambda name: SECTIONS[name].process):
        left = list(group)
        while left and time.time() < end - 1:
            _work(args, script, left, end)
            record = Record(args.out)
            left = [name for name in left if name not in record.data["sections"]]
        for name in left:
            record.end(name, "skipped", why="no time was left")
    record.note(seconds=round(time.time() - end + args.seconds, 1))
    states = {name: section["status"] for name, section in record.data["sections"].items()}
    print("\n".join(f"{name:12} {status}" for name, status in states.items()))
    return int(bool({"failed", "cut"} & {*states.values()}))


def _work(args: argparse.Namespace, script: Path, names: list[str], end: float) -> None:
    """Run sections in one process until it is through, or one of them has to be given up."""
    command = [sys.executable, str(script), "--out", str(args.out), "--now", *names]
    command += ["--seconds", str(end - time.time()), "--sections", *args.sections]
    command += ["--agents", *args.agents] if args.agents else []
    command += ["--peers", str(args.peers)] if args.peers else []
    command += ["--tiny"] if args.tiny else []
    said = args.out.with_name(f".{args.out.name}.said")
    with said.open("w+") as output:
        env = _environment(SECTIONS[names[0]], args.tiny)
        worker = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
        late = _wait(worker, args.out, end)
        output.seek(0)
        last = plain((output.read().strip().splitlines() or ["it said nothing"])[-1])
    said.unlink()
    if worker.returncode == 0:
        return
    record = Record(args.out)
    sections = record.data["sections"]
    running = [name for name in names if sections.get(name, {}).get("status") == "running"]
    # A process that ends before its first section would end again.
    for name in running or [name for name in names if name not in sections][:1]:
        why = late or f"its process ended with status {worker.returncode}: {last}"
        record.end(name, "cut" if late else "failed", why=why)


def _wait(worker: subprocess.Popen[str], out: Path, end: float) -> str:
    """Wait for a process; end it if a section is too late, and say so."""
    while worker.poll() is None:
        time.sleep(POLL)
        sections = Record(out).data["sections"].values()
        until = min([end, *(section["until"] for section in sections if "until" in section)])
        if time.time() > until + GRACE:
            worker.kill()
            worker.wait()
            return f"ended, {GRACE:.0f} s after its time was over"
    return ""


def _environment(section: Section, tiny: bool) -> dict[str, str]:
    """The environment of a process: the CPU beside the accelerator, and nothing from a cache."""
    env = dict(os.environ)
    platforms = env.get("JAX_PLATFORMS", "")
    if platforms and "cpu" not in platforms.split(","):
        env["JAX_PLATFORMS"] = f"{platforms},cpu"
    if section.process == TURNS:
        env |= {"ACCELERATOR_PLATFORMS": env.get("JAX_PLATFORMS", ""), "JAX_PLATFORMS": "cpu"}
    env.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.9")
    if section.flags:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {section.flags}".strip()
    if not tiny:
        env["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    return env


def _facts(args: argparse.Namespace, script: Path) -> dict[str, object]:
    git = ["git", "-C", str(script.parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:
        commit = ""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit or "unknown",
        "tiny": args.tiny,
        "seconds_allowed": args.seconds,
        "python": platform.python_version(),
    }
