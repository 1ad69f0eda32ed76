"""What other libraries make of time limits, seeds and stopped runs: `make peers`.

Run with the Python of a virtual environment that has the library, and its name:
`.venv-peer-ajax/bin/python experiments/bench/peers.py ajax`. It trains the library's own PPO on the
ring of `probes.py` and prints what it found, a line a fact; facts that are named after the library
are the only ones. Every fact is seen, not read in its source. `peer_facts.py` has what is asked of
every library, and `peer_ajax.py` and its like how each of them is asked.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax


def main() -> None:
    """Probe the library that is named."""
    # Compiling is most of the time, and speed is not asked for.
    jax.config.update("jax_disable_most_optimizations", True)
    name, *wanted = sys.argv[1:]
    for fact, find in importlib.import_module(f"peer_{name}").facts().items():
        if not wanted or fact in wanted:
            print(f"{name}, {fact}: {said(find)}", flush=True)


def said(find: Callable[[], Any]) -> str:
    """A fact, or the error that stood in its way in one line."""
    try:
        return str(find())
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


if __name__ == "__main__":
    main()
