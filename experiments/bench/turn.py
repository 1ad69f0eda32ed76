"""One program of accelerator.py: compile it, wait for the turn to compute, print the row.

python experiments/bench/turn.py '{"section": "ppo", "index": 0, "tiny": false}'
"""

import json
import sys
import time

from accelerator import costs, peers, precision, speed
from accelerator.job import FULL, TINY, Job
from accelerator.programs import build

SECONDS = 60.0  # for a turn
SECTIONS = {
    "ppo": (speed.ppo_rungs, speed.measure),
    "sac": (speed.sac_rungs, speed.measure),
    "brax": (speed.brax_rungs, speed.measure),
    "throughput": (speed.throughput_rungs, speed.measure),
    "memory": (costs.memory_rungs, costs.used),
    "precision": (precision.rungs_of, precision.measure),
    "peers": (peers.rungs_of, peers.measure),
}


def main() -> None:
    """Measure one rung of one section."""
    told = json.loads(sys.argv[1])
    sizes = TINY if told["tiny"] else FULL
    rungs, measure = SECTIONS[told["section"]]
    rung = rungs(Job(sizes, time.time()))[told["index"]]
    program = build(rung.config, rung.members)
    print("compiled", flush=True)
    sys.stdin.readline()
    print(json.dumps(measure(Job(sizes, time.time() + SECONDS), program, rung)))


if __name__ == "__main__":
    main()
