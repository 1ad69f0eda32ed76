"""Measure how far one iteration of each of the kin moves the probabilities of the actions taken.

As `analytical_vs_ppo/ratios.py` does for the update and PPO: CartPole-v1, 150,000 steps, a learning
rate of 0.001, 4 seeds. Writes `ratios.json` and `ratios.png`, and prints a table.

    .venv/bin/python experiments/kin/ratios_of_kin.py [--draw]
"""

import sys
from pathlib import Path

from jaxrl_pg import analytical, ppo

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "analytical_vs_ppo"))
from ratios import SHARED, show  # noqa: E402

if __name__ == "__main__":
    show(
        {
            "PPO, clip 0.2": ppo.Config(**SHARED),
            "KL 0.1": analytical.Config(**SHARED),
            "V-MPO": analytical.v_mpo(**SHARED),
            "AWR": analytical.awr(**SHARED),
            "MDPO": analytical.mdpo(**SHARED),
        },
        FOLDER,
    )
