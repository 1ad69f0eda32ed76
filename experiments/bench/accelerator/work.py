"""Run sections in this process, one after the other, whatever becomes of each."""

import argparse
import importlib
import itertools
import time

from accelerator import turns
from accelerator.job import FULL, TINY, Job
from accelerator.plan import SECTIONS, TURNS, seconds_of
from accelerator.record import Record, told


def run(args: argparse.Namespace) -> None:
    """Run the sections of `args.now`; `args.seconds` are for these and for all later ones."""
    record, end = Record(args.out), time.time() + args.seconds
    sizes = TINY if args.tiny else FULL
    for process, group in itertools.groupby(args.now, key=lambda name: SECTIONS[name].process):
        for names in [list(group)] if process == TURNS else [[name] for name in group]:
            left = end - time.time()
            until = time.time() + seconds_of(names, args.sections, left)
            job = Job(sizes, until, args.agents, args.peers)
            if left < 1:
                for name in names:
                    record.end(name, "skipped", why="no time was left")
            elif process == TURNS:
                turns.run(record, names, job)
            else:
                run_section(record, names[0], job)


def run_section(record: Record, name: str, job: Job) -> None:
    """Run one section and keep its rows as they come; an exception ends it and no other."""
    started = time.time()
    record.start(name, job.end)
    try:
        module = importlib.import_module(f"accelerator.{SECTIONS[name].module}")
        for row in getattr(module, f"{name}_rows")(job):
            record.add(name, row)
            print(name, row, flush=True)
    except Exception as error:
        record.end(name, "failed", why=told(error), seconds=round(time.time() - started, 1))
    else:
        record.end(name, "done", seconds=round(time.time() - started, 1))
