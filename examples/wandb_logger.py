"""Send a run's metrics to Weights & Biases, offline: without an account or a network.

pip install "jaxrl-pg[wandb]"
python examples/wandb_logger.py
wandb sync runs/.../wandb/offline-run-*     # uploads it, when you like
"""

import sys

import jaxrl_pg
from jaxrl_pg import ppo
from jaxrl_pg.running.loggers import Wandb


def main(total_timesteps=200_000):
    config = ppo.Config(env="CartPole-v1", total_timesteps=int(total_timesteps))
    logger = Wandb(project="jaxrl_pg", mode="offline", tags=["example"])  # arguments of wandb.init
    return jaxrl_pg.run(config, loggers=[logger])


if __name__ == "__main__":
    main(*sys.argv[1:])
