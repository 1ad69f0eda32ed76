"""Measure the speed of this library beside others on this machine: `make bench`.

Every measurement is a process of its own that compiles once and then executes several times. The
programs of a row take turns, round after round, so that a machine that slows down slows all of
them, and ratios are taken within a round. A library that is finished is written to `results/`, and
`docs/benchmarks.md` and its figure are made anew. One that cannot be installed, and a program that
hangs, are named, and the others go on. The same command goes on with what was interrupted.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

import process
import session
import store
import venvs
from libraries import LIBRARIES, RESULTS, ROOT
from rows import ROWS

import report

WAITING = ROOT / ".cache" / "bench"
QUICK = ROOT / ".cache" / "bench-quick"


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--beside", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="only these")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="only these, only printed")
    add("--quick", action="store_true", help="one round, one timed execution, only printed")
    add("--rounds", type=int, default=3, help="processes of each program")
    add("--executions", type=int, default=3, help="of each, the first one counted apart")
    limit = f"seconds after which a process is ended, {process.TIME_LIMIT:g}"
    add("--limit", type=float, default=process.TIME_LIMIT, help=limit)
    add("--fresh", action="store_true", help="forget what an interrupted command has measured")
    add("--purejaxrl", default=os.environ.get("PUREJAXRL"), help="a checkout of PureJaxRL")
    add("--report", action="store_true", help="make the page and its figure anew, measure nothing")
    args = parser.parse_args()
    if args.report:
        report.write()
        return
    if args.quick:
        args.rounds, args.executions = 1, 2
    printed_only = args.quick or args.rows != list(ROWS)
    folder = QUICK if printed_only else WAITING
    if args.fresh or printed_only:
        shutil.rmtree(folder, ignore_errors=True)
    well = [beside(name, args, folder, printed_only) for name in args.beside]
    if printed_only:
        print(report.render(report.load(folder)))
    else:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not all(well))


def beside(name: str, args: argparse.Namespace, folder: Path, printed_only: bool) -> bool:
    """Measure beside one library, unless it is missing, and say whether its programs ended well."""
    path, kept = folder / f"{name}.jsonl", RESULTS / f"{name}.jsonl"
    rows = [row for row in LIBRARIES[name].rows if row in args.rows]
    if not rows and args.rows != list(ROWS):
        return True
    try:
        sides = session.programs(name, args.purejaxrl)
    except venvs.Missing as missing:
        print(f"{LIBRARIES[name].title} is skipped: {missing}", flush=True)
        store.skip(path if printed_only else kept, str(missing), store.read(kept))
        found = []
    else:
        setting = session.setting(name, rows, args.rounds, args.executions)
        found = session.measure(setting, sides, path, args.limit)
        if not printed_only:
            RESULTS.mkdir(exist_ok=True)
            shutil.copy(path, kept)
    if not printed_only:
        report.write()
    return not any("exit" in run.get("error", "") for run in found)


if __name__ == "__main__":
    main()
