"""Measure the library on an accelerator, in one command of less than nine minutes.

    python experiments/bench/accelerator.py --out FILE            (make bench-accelerator)
    python experiments/bench/accelerator.py --out FILE --tiny     the same with sizes for a CPU
    python experiments/bench/accelerator.py --report              docs/accelerators.md again

It needs JAX with the accelerator's plugin, flax, optax, chex, orbax-checkpoint, gymnax and what
that imports, and `src` on PYTHONPATH if the library is not installed. What else is there (brax;
filelock and msgspec for checkpoints) is used if it can be imported. docs/accelerators.md explains
the sections.

This process imports no JAX. It starts the sections in processes of their own, one after the other
(see `accelerator.supervise`), so that one that crashes or hangs does not take the others along.
"""

import argparse
import sys
from pathlib import Path

from accelerator import page, plan, supervise

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
SECONDS = 490.0


def main() -> int:
    """Measure, or run a few sections for the process that measures, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "accelerator.json", metavar="FILE")
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing, for tests")
    parser.add_argument(
        "--seconds", type=float, help=f"for all sections; {SECONDS:.0f}, and 3600 of the tiny ones"
    )
    parser.add_argument("--sections", nargs="+", choices=plan.NAMES, default=list(plan.NAMES))
    parser.add_argument("--agents", nargs="+", metavar="AGENT", help="of the section smoke")
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="with rejax and PureJaxRL, for section beside"
    )
    parser.add_argument("--report", action="store_true", help="rewrite the page, measure nothing")
    parser.add_argument("--now", nargs="+", choices=plan.NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.seconds = args.seconds or (3600.0 if args.tiny else SECONDS)
    if args.report:
        page.write(ROOT / "docs" / "accelerators.md", RESULTS)
        return 0
    if args.now:  # this process is one that `supervise` started
        from accelerator import work

        work.run(args)
        return 0
    return supervise.run(args, Path(__file__).resolve())


if __name__ == "__main__":
    sys.exit(main())
