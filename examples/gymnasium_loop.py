"""A trained policy in a plain gymnasium loop: trained in gymnax's CartPole, played in gymnasium's.

python examples/gymnasium_loop.py
python examples/gymnasium_loop.py runs/ppo-CartPole-v1-0-...     # a run that you have
"""

import sys

import gymnasium
import numpy as np

import jaxrl_pg
from jaxrl_pg import ppo


def main(run=None, total_timesteps=200_000, num_episodes=3):
    if run is None:
        config = ppo.Config(env="CartPole-v1", total_timesteps=int(total_timesteps))
        run = jaxrl_pg.run(config).run_dir
    policy = jaxrl_pg.load(run)  # normalises observations and scales actions itself
    env = gymnasium.make(policy.config.env)
    returns = []
    for seed in range(num_episodes):
        obs, _ = env.reset(seed=seed)
        returns.append(0.0)
        terminated = truncated = False
        while not (terminated or truncated):
            action = np.asarray(policy(obs))  # policy(obs, key) samples one
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[-1] += float(reward)
    print(f"returns in gymnasium: {returns}")
    return returns


if __name__ == "__main__":
    main(*sys.argv[1:])
