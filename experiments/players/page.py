"""The table of README.md, from the returns that `simple_spread.py` has written.

.venv/bin/python experiments/players/page.py
"""

import json
from pathlib import Path

import numpy as np

from jaxrl_pg.report import statistics

__all__ = ["RESULTS", "table"]

RESULTS = Path(__file__).parent / "simple_spread.json"


def table(returns: dict[str, list[list[float]]]) -> str:
    """Give each way's return in the middle and at the end, as Markdown."""
    lines = ["| players | after half of the steps | at the end | worst seed |", "|---|---|---|---|"]
    for way, raw in returns.items():
        by_seed = np.asarray(raw)
        half_way = by_seed.shape[1] // 2 - 1
        half, end = (
            statistics.bootstrap([by_seed[:, i]], statistics.iqm, np.random.default_rng(0))
            for i in (half_way, -1)
        )
        cells = (f"{x.value:.2f} [{x.low:.2f}, {x.high:.2f}]" for x in (half, end))
        lines.append(f"| {way} | {' | '.join(cells)} | {by_seed[:, -1].min():.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
